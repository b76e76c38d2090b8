//! Finding all objects that a disk refers to. No key is needed for that.

use super::blob::{Blob, Id, Kind};
use super::head::{Found, Head, find};
use super::parallel::parallel;
use super::record::Record;
use super::tree::{LeafRef, Tree};
use super::{DISKS, LOGS, Objects, chunk_key, log_key};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

/// All that a disk refers to.
#[derive(Clone, Default, Debug)]
pub struct Reach {
    /// Names of its chunks.
    pub chunks: HashSet<Id>,
    /// Blocks that are not zero, about: some of those in the log may have been written twice.
    pub blocks: u64,
    /// Bytes of its log that are needed.
    pub log_bytes: u64,
    /// Its log, and the last record that its map has.
    pub log: Option<(String, u64)>,
}

/// Leaves that were read: disks that were cloned have the same.
#[derive(Default)]
pub struct Leaves(HashMap<LeafRef, Arc<(Vec<Id>, u64)>>);

/// Reads the names of all disks.
pub fn names(objects: &impl Objects) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    objects.list(DISKS, &mut |listed| {
        names.extend(listed.key.strip_prefix(DISKS).map(str::to_string));
    })?;
    names.sort();
    Ok(names)
}

/// Finds what a disk refers to, while others may write it; `None` if there is no such disk. What
/// was put into its log after that began may be missing.
pub fn reach(objects: &impl Objects, leaves: &mut Leaves, name: &str) -> io::Result<Option<Reach>> {
    let mut all = Reach::default();
    let mut log = Log::default();
    let mut seen = None;
    loop {
        let head = match find(objects, name)? {
            None => return Ok(None),
            Some(Found::Old(old, _)) => {
                let blocks = old.hashes.iter().flatten().count() as u64 * u64::from(old.chunk);
                all.blocks = blocks / super::BLOCK;
                all.chunks.extend(old.hashes.iter().flatten());
                return Ok(Some(all));
            }
            Some(Found::Disk(head, _)) => head,
        };
        log.list(objects, &head)?;
        let complete = log.read(objects, head.record, &mut all.chunks)?;
        let read = reach_of_map(objects, leaves, &head, &mut all);
        all.log_bytes = log.sizes.range(head.record + 1..).map(|(_, (bytes, _))| bytes).sum();
        all.blocks +=
            log.sizes.range(head.record + 1..).map(|(_, (_, blocks))| blocks).sum::<u64>();
        // What a checkpoint took in is no longer in the log: then the map is read again, and of the
        // log what was not read before. What was found before stays marked, and does no harm.
        let now = (head.id, head.record, head.root);
        if (complete && read.is_ok()) || seen.as_ref() == Some(&now) {
            all.log = Some((now.0, now.1));
            return read.map(|()| Some(all));
        }
        seen = Some(now);
    }
}

/// The records that a log had when it was listed.
#[derive(Default)]
struct Log {
    id: String,
    /// Their numbers.
    listed: Vec<u64>,
    /// Bytes of those that were read, and the blocks that each has.
    sizes: BTreeMap<u64, (u64, u64)>,
}

impl Log {
    /// Lists the log of a disk, once.
    fn list(&mut self, objects: &impl Objects, head: &Head) -> io::Result<()> {
        if self.id == head.id {
            return Ok(());
        }
        *self = Log { id: head.id.clone(), ..Log::default() };
        let prefix = format!("{LOGS}{}/", self.id);
        objects.list(&prefix, &mut |listed| {
            let number = listed.key.strip_prefix(&prefix);
            self.listed.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
        })
    }

    /// Reads the records after `last` that were not read yet, and returns true if all are there.
    fn read(
        &mut self,
        objects: &impl Objects,
        last: u64,
        chunks: &mut HashSet<Id>,
    ) -> io::Result<bool> {
        let is_new = |number: &&u64| **number > last && !self.sizes.contains_key(number);
        let numbers: Vec<u64> = self.listed.iter().filter(is_new).copied().collect();
        let read = parallel(numbers, |number| {
            let Some((raw, _)) = objects.get(&log_key(&self.id, number))? else { return Ok(None) };
            let (refs, blocks) = Record::refs(&raw)?;
            Ok(Some((number, (raw.len() as u64, blocks), refs)))
        })?;
        let mut complete = true;
        for record in read {
            let Some((number, sizes, refs)) = record else {
                complete = false;
                continue;
            };
            chunks.extend(refs);
            self.sizes.insert(number, sizes);
        }
        Ok(complete)
    }
}

fn reach_of_map(
    objects: &impl Objects,
    leaves: &mut Leaves,
    head: &Head,
    all: &mut Reach,
) -> io::Result<()> {
    all.blocks = 0;
    let Some(root) = head.root else { return Ok(()) };
    let key = chunk_key(&root);
    let (raw, _) = objects.get(&key)?.ok_or_else(|| missing(&key))?;
    all.chunks.insert(root);
    let tree = Tree::decode_clear(&raw)?;
    leaves.read(objects, &tree)?;
    for of in tree.leaves.values() {
        let (refs, blocks) = &*leaves.0[of];
        all.chunks.insert(of.object);
        all.chunks.extend(refs);
        all.blocks += blocks;
    }
    Ok(())
}

impl Leaves {
    /// Reads the leaves of a tree that were not read yet.
    fn read(&mut self, objects: &impl Objects, tree: &Tree) -> io::Result<()> {
        let mut of_object: BTreeMap<Id, Vec<LeafRef>> = BTreeMap::new();
        for of in tree.leaves.values().filter(|of| !self.0.contains_key(of)) {
            of_object.entry(of.object).or_default().push(*of);
        }
        let read = parallel(of_object.into_iter().collect(), |(object, refs)| {
            let key = chunk_key(&object);
            // One request for all of them.
            let start = refs.iter().map(|of| of.at).min().unwrap_or(0);
            let end = refs.iter().map(|of| of.at.saturating_add(of.len)).max().unwrap_or(0);
            let bytes = objects.get_range(&key, u64::from(start)..u64::from(end))?;
            let bytes = bytes.ok_or_else(|| missing(&key))?;
            let mut leaves = Vec::new();
            for of in refs {
                let at = (of.at - start) as usize;
                let raw = bytes.get(at..at + of.len as usize).ok_or_else(|| missing(&key))?;
                let blob = Blob::decode_clear(raw, Kind::Leaf)?;
                leaves.push((of, Arc::new((blob.refs, blob.blocks))));
            }
            Ok(leaves)
        })?;
        self.0.extend(read.into_iter().flatten());
        Ok(())
    }
}

fn missing(key: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{key} is missing from the store"))
}
