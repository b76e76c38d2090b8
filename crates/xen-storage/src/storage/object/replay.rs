//! Reading a disk: its head, the root of its map, and what its log has beyond that.

use super::blob::sum;
use super::chunks::Chunks;
use super::codec::KEY;
use super::extents::Extents;
use super::head::{Found, Head, find};
use super::lease::not_found;
use super::old::Manifest;
use super::parallel::{TRANSFERS, parallel};
use super::place::{BLOCK, Piece, Place, Stored, Within};
use super::record::Record;
use super::tree::Tree;
use super::{Objects, log_key};
use std::io;
use std::sync::Arc;

/// A disk as it was read.
pub struct Replayed {
    /// Its map at the checkpoint.
    pub tree: Tree,
    /// Flushed changes since then.
    pub tail: Extents<Stored>,
    /// Length in bytes.
    pub bytes: u64,
    /// Number of the next record.
    pub next: u64,
    /// Number of the last record that changed something.
    pub changed: u64,
    /// Numbers of the fences among the records that were read.
    pub fences: Vec<u64>,
}

impl Replayed {
    /// Adds a record.
    pub fn apply(&mut self, record: &Record) {
        self.next = record.number + 1;
        self.bytes = record.bytes;
        match record.fence {
            true => self.fences.push(record.number),
            false => self.changed = record.number,
        }
        self.tail.cover(&record.changes);
    }
}

/// Reads the disk that `head` is that of, up to the end of its log.
pub fn replay<O: Objects>(chunks: &Chunks<O>, head: &Head) -> io::Result<Replayed> {
    let (tree, bytes) = match &head.root {
        Some(id) => chunks.root(id)?,
        None => (Tree::default(), head.bytes),
    };
    let (next, changed) = (head.record + 1, head.changed);
    let (tail, fences) = (Extents::default(), Vec::new());
    let mut replayed = Replayed { tree, tail, bytes, next, changed, fences };
    // One by one at first: most logs are short.
    let mut ahead = 1;
    loop {
        let numbers: Vec<u64> = (replayed.next..).take(ahead).collect();
        for record in parallel(numbers, |number| read_record(chunks, number))? {
            let Some(record) = record else { return Ok(replayed) };
            replayed.apply(&record);
        }
        ahead = (ahead * 2).min(TRANSFERS);
    }
}

/// Reads a record of the log; `None` if there is none of that number yet.
pub fn read_record<O: Objects>(chunks: &Chunks<O>, number: u64) -> io::Result<Option<Record>> {
    let key = log_key(&chunks.id, number);
    let Some((raw, _)) = chunks.objects.get(&key)? else { return Ok(None) };
    let record = Record::decode(&raw, &chunks.id, number, &chunks.codec);
    record.map(Some).map_err(|error| io::Error::new(error.kind(), format!("{key}: {error}")))
}

/// A disk that is read as it was at its last flush, without taking it.
pub struct Seen<O> {
    /// Its head.
    pub head: Head,
    /// Its objects.
    pub chunks: Chunks<O>,
    /// Its map.
    pub replayed: Replayed,
}

/// Reads the disk `name` while others may write it. Up to `memory` bytes of it are kept in memory.
pub fn see<O: Objects>(
    objects: O,
    name: &str,
    key: Option<&[u8; KEY]>,
    memory: u64,
) -> io::Result<Seen<O>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("disk {name}: {error}"));
    let mut head = match find(&objects, name)? {
        None => return Err(not_found(name)),
        Some(Found::Disk(head, _)) => head,
        Some(Found::Old(old, _)) => {
            let head = Head::of_old(&old)?;
            let codec = head.codec(key).map_err(named)?;
            let chunks = Chunks::new(objects, codec, &head.id, head.chunk, memory);
            let mut replayed = replay(&chunks, &head)?;
            replayed.tail = places_of_old(&old);
            return Ok(Seen { head, chunks, replayed });
        }
    };
    let codec = head.codec(key).map_err(named)?;
    let chunks = Chunks::new(objects, codec, &head.id, head.chunk, memory);
    loop {
        let replayed = replay(&chunks, &head);
        // Records that a checkpoint has are deleted: if there was one meanwhile, some may have been
        // missed, and it is read again.
        match find(&chunks.objects, name)? {
            Some(Found::Disk(now, _)) if now.id == head.id => {
                if (now.record, now.root) == (head.record, head.root) {
                    return Ok(Seen { head: now, replayed: replayed.map_err(named)?, chunks });
                }
                head = now;
            }
            _ => return Err(not_found(name)),
        }
    }
}

/// Returns the places of the chunks of a disk in the first format.
pub fn places_of_old(old: &Manifest) -> Extents<Stored> {
    let mut places = Extents::default();
    for (number, hash) in old.hashes.iter().enumerate() {
        let Some(hash) = hash else { continue };
        let bytes = old.range(number);
        let len = (bytes.end - bytes.start) as u32;
        // The name is the hash of the bytes.
        let sum = hash[..size_of_val(&sum(b""))].try_into().expect("it is longer");
        let piece = Piece { within: Within::Chunk(*hash), at: 0, len, raw: len, kind: 0, sum };
        let place = Place { piece: Arc::new(piece), skip: 0 };
        places.insert(bytes.start / BLOCK..bytes.end.div_ceil(BLOCK), Stored::At(place));
    }
    places
}
