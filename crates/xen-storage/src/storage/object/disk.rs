//! An open disk: its reads and writes.

use super::chunks::Chunks;
use super::extents::Extents;
use super::head::{Found, Head, find};
use super::keeper::Work;
use super::lease::{Fenced, Held, LeaseTimes, fenced_by};
use super::parallel::parallel;
use super::pieces::Bytes;
use super::place::{BLOCK, Piece, Place, Stored, Within};
use super::record::Record;
use super::replay::Replayed;
use super::state::{Buffer, Change, Source, State};
use super::tree::REGION;
use super::view::Moment;
use super::{KEY, Objects};
use crate::storage::LockedFile;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Settings with which a disk is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of what was read that are kept in memory.
    pub memory: u64,
    /// It is not to be written: others may have it meanwhile, and what they write is not seen.
    pub read_only: bool,
    /// It is taken from a program that has it.
    pub take_over: bool,
    /// The key of an encrypted disk.
    pub key: Option<[u8; KEY]>,
    /// Times of its lease.
    pub times: LeaseTimes,
    /// Records of the log after which a checkpoint is made.
    pub checkpoint: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory: 64 << 20,
            read_only: false,
            take_over: false,
            key: None,
            times: LeaseTimes::default(),
            checkpoint: 512,
        }
    }
}

/// Bytes that were written and are not flushed, from which on they are flushed in the background.
const BEGIN_FLUSH: usize = 32 << 20;
/// Bytes from which on a write waits for that.
const MUST_FLUSH: usize = 128 << 20;
/// Bytes in one buffer: a small rest of it that is not overwritten keeps all of it in memory.
const BUFFER: usize = 64 << 10;
/// Bytes of small pieces in the log after which a checkpoint is made.
const CHECKPOINT_BYTES: usize = 16 << 20;
/// Tries to read what has gone from the store because it was replaced meanwhile.
const MAX_RETRIES: u32 = 3;

/// The end of the log, held by the one flush at a time.
pub struct Log {
    /// Number of the first record that the map does not have.
    pub first: u64,
    next: u64,
    epoch: u64,
    /// Names this opening of the disk.
    pub token: String,
    holder: String,
    /// Length of the disk, as the last record says.
    pub bytes: u64,
    /// Number of the last record that changed something.
    pub changed: u64,
    /// Bytes of small pieces since the checkpoint.
    pub inline: usize,
    /// Numbers of fences since the checkpoint.
    pub fences: Vec<u64>,
}

impl Log {
    /// The log of a disk that this program has, if it can write it.
    pub fn new(held: Option<&Held>, replayed: &Replayed, first: u64) -> Self {
        let Replayed { next, bytes, changed, fences, .. } = replayed;
        let (next, bytes, changed, fences) = (*next, *bytes, *changed, fences.clone());
        let lease = held.and_then(|held| held.head.lease.clone());
        let (token, holder) = lease.map(|lease| (lease.token, lease.holder)).unwrap_or_default();
        let epoch = held.map_or(0, |held| held.head.epoch);
        Log { first, next, epoch, token, holder, bytes, changed, inline: 0, fences }
    }

    /// Returns the next record.
    pub fn record(&self, bytes: u64, changes: Extents<Stored>) -> Record {
        Record { number: self.next, fence: false, changes, ..self.fence(self.next, bytes) }
    }

    /// Returns a fence of that number.
    pub fn fence(&self, number: u64, bytes: u64) -> Record {
        let (epoch, token, holder) = (self.epoch, self.token.clone(), self.holder.clone());
        Record { number, epoch, token, holder, fence: true, bytes, changes: Extents::default() }
    }

    /// Goes on to the number after `number`, of a record with that many bytes of small pieces.
    pub fn appended(&mut self, number: u64, inline: usize) {
        self.next = number + 1;
        self.inline += inline;
    }

    /// Returns the number of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// A disk that is open.
pub struct Disk<O> {
    pub(super) name: String,
    pub(super) chunks: Chunks<O>,
    pub(super) options: Options,
    pub(super) state: Mutex<State>,
    pub(super) log: Mutex<Log>,
    /// `None` for one that is only read.
    pub(super) held: Mutex<Option<Held>>,
    /// Held by the one checkpoint at a time.
    pub(super) checkpointing: Mutex<()>,
    /// Bytes of writes that are in memory.
    pub(super) counted: Arc<AtomicUsize>,
    /// Things to do in the background.
    pub(super) work: Work,
    /// Names this opening of it.
    pub(super) token: String,
    /// The moment at which its lease was renewed.
    pub(super) renewed: Mutex<Moment>,
    /// Says to others on this machine that the store is in use.
    pub(super) _lock: Option<LockedFile>,
}

impl<O: Objects> Disk<O> {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no holder panics")
    }

    pub(super) fn check_fence(&self, state: &State) -> io::Result<()> {
        state.fenced.as_ref().map_or(Ok(()), |fenced| Err(Fenced::error(fenced)))
    }

    /// Finds out where blocks are, and reads the leaves that say so.
    fn locate(&self, blocks: Range<u64>) -> io::Result<Vec<(Range<u64>, Source)>> {
        loop {
            let missing = {
                let state = self.state();
                self.check_fence(&state)?;
                match state.locate(blocks.clone()) {
                    Ok(found) => return Ok(found),
                    Err(missing) => missing,
                }
            };
            let leaves =
                parallel(missing, |(number, of)| Ok((number, of, self.chunks.leaf(number, &of)?)))?;
            let mut state = self.state();
            leaves.into_iter().for_each(|(number, of, leaf)| state.tree.keep(number, &of, leaf));
        }
    }

    /// Fetches the pieces of these places, several at a time.
    fn fetch(&self, parts: &[(Range<u64>, Source)]) -> io::Result<HashMap<(Within, u32), Bytes>> {
        let mut pieces: HashMap<(Within, u32), Arc<Piece>> = HashMap::new();
        for (_, source) in parts {
            if let Source::Store(Place { piece, .. }) = source {
                pieces.insert((piece.within, piece.at), piece.clone());
            }
        }
        let fetched = parallel(pieces.into_iter().collect(), |(key, piece)| {
            Ok((key, self.chunks.piece(&piece)?))
        })?;
        Ok(fetched.into_iter().collect())
    }

    /// Reads the bytes of a range, of which all but the ends are whole blocks.
    pub(super) fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let end = at + to.len() as u64;
        let blocks = at / BLOCK..end.div_ceil(BLOCK);
        let mut tries = 0;
        let (parts, pieces) = loop {
            let parts = self.locate(blocks.clone())?;
            match self.fetch(&parts) {
                Ok(pieces) => break (parts, pieces),
                // A checkpoint may have moved it meanwhile, or another program may have the disk.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MAX_RETRIES => {
                    self.check_lease()?;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        to.fill(0);
        for (range, source) in parts {
            let bytes = (range.start * BLOCK).max(at)..(range.end * BLOCK).min(end);
            let part = &mut to[(bytes.start - at) as usize..(bytes.end - at) as usize];
            copy(&source, &pieces, bytes.start - range.start * BLOCK, part);
        }
        Ok(())
    }

    /// Returns the pieces of blocks that are not in memory and not coming, for reading ahead.
    pub(super) fn to_fetch(&self, blocks: Range<u64>) -> Vec<Arc<Piece>> {
        // Leaves that were not read yet are not worth it: the first read of them does that.
        let Ok(parts) = self.state().locate(blocks) else { return Vec::new() };
        let mut pieces = Vec::new();
        for (_, source) in parts {
            if let Source::Store(Place { piece, .. }) = source
                && !self.chunks.pieces.is_coming(&(piece.within, piece.at))
                && !pieces.iter().any(|other| Arc::ptr_eq(other, &piece))
            {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// Writes whole blocks; the ends may be parts of one.
    pub(super) fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let end = at + from.len() as u64;
        let mut edges: Vec<u64> = Vec::new();
        let whole = at.div_ceil(BLOCK)..(end / BLOCK).max(at.div_ceil(BLOCK));
        for block in [at / BLOCK, end / BLOCK] {
            let in_part = block * BLOCK < end && !whole.contains(&block);
            if in_part && edges.last() != Some(&block) {
                edges.push(block);
            }
        }
        let whole: Vec<_> = whole
            .clone()
            .step_by(BUFFER / BLOCK as usize)
            .map(|block| {
                let blocks = block..whole.end.min(block + BUFFER as u64 / BLOCK);
                let bytes = blocks.start * BLOCK - at..blocks.end * BLOCK - at;
                let bytes = from[bytes.start as usize..bytes.end as usize].to_vec();
                (blocks, Buffer::new(bytes, &self.counted))
            })
            .collect();
        self.insert(at, from, &edges, whole)?;
        match self.counted.load(Ordering::Relaxed) {
            bytes if bytes > MUST_FLUSH => self.flush(),
            bytes => {
                if bytes > BEGIN_FLUSH {
                    self.work.flush();
                }
                Ok(())
            }
        }
    }

    /// Puts whole blocks and parts of `edges` among the changes, all at one moment.
    fn insert(
        &self,
        at: u64,
        from: &[u8],
        edges: &[u64],
        whole: Vec<(Range<u64>, Arc<Buffer>)>,
    ) -> io::Result<()> {
        let end = at + from.len() as u64;
        let mut pieces = HashMap::new();
        let mut state = loop {
            // What the edges have now is read first, without holding the state.
            for block in edges {
                let parts = self.locate(*block..block + 1)?;
                match self.fetch(&parts) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_lease()?,
                    fetched => pieces.extend(fetched?),
                }
            }
            let state = self.state();
            self.check_fence(&state)?;
            if end > state.bytes {
                let text = "the disk has become shorter meanwhile";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let is_there = |block: &u64| {
                state.locate(*block..block + 1).is_ok_and(|parts| {
                    parts.iter().all(|(_, source)| match source {
                        Source::Memory(_) => true,
                        Source::Store(Place { piece, .. }) => {
                            pieces.contains_key(&(piece.within, piece.at))
                        }
                    })
                })
            };
            if edges.iter().all(is_there) {
                break state;
            }
        };
        for block in edges {
            let mut bytes = vec![0; BLOCK as usize];
            let parts = state.locate(*block..block + 1).expect("it was looked at");
            parts.iter().for_each(|(_, source)| copy(source, &pieces, 0, &mut bytes));
            let range = (block * BLOCK).max(at)..((block + 1) * BLOCK).min(end);
            let within =
                (range.start - block * BLOCK) as usize..(range.end - block * BLOCK) as usize;
            bytes[within]
                .copy_from_slice(&from[(range.start - at) as usize..(range.end - at) as usize]);
            let buffer = Buffer::new(bytes, &self.counted);
            state.dirty.insert(*block..block + 1, Change::Data(buffer, 0));
        }
        for (blocks, buffer) in whole {
            state.dirty.insert(blocks, Change::Data(buffer, 0));
        }
        Ok(())
    }

    /// Forgets whole blocks.
    pub(super) fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let mut state = self.state();
        self.check_fence(&state)?;
        let end = at + len;
        // The last block may end with the disk.
        let last = if end == state.bytes { end.div_ceil(BLOCK) } else { end / BLOCK };
        let first = at.div_ceil(BLOCK);
        state.dirty.insert(first..last.max(first), Change::Zero);
        Ok(())
    }

    /// Makes the disk `bytes` long, and keeps that at once with all that was written so far.
    pub(super) fn resize(&self, bytes: u64) -> io::Result<()> {
        let mut log = self.log();
        self.flush_into(&mut log)?;
        let old = self.state().bytes;
        let mut changes = Extents::default();
        if bytes < old {
            let cut = bytes / BLOCK;
            changes.insert(bytes.div_ceil(BLOCK)..old.div_ceil(BLOCK), Change::Zero);
            if !bytes.is_multiple_of(BLOCK) {
                let mut block = vec![0; BLOCK as usize];
                self.read(cut * BLOCK, &mut block[..(bytes - cut * BLOCK) as usize])?;
                let buffer = Buffer::new(block, &self.counted);
                changes.insert(cut..cut + 1, Change::Data(buffer, 0));
            }
        }
        let stored = self.publish(&mut log, &changes, bytes)?;
        let mut state = self.state();
        // What was written beyond the end meanwhile is gone.
        if bytes < old {
            state.dirty.remove(bytes.div_ceil(BLOCK)..u64::MAX);
            self.cut_block(&mut state, bytes);
        }
        state.tail.cover(&stored);
        state.bytes = bytes;
        Ok(())
    }

    /// Makes what is behind `end` in its block zero, if that block is among the changes.
    fn cut_block(&self, state: &mut State, end: u64) {
        let block = end / BLOCK;
        let changed = state.dirty.within(block..block + 1).next();
        if let (Some((range, change)), true) = (changed, !end.is_multiple_of(BLOCK)) {
            let mut bytes = vec![0; BLOCK as usize];
            change.copy(0, &mut bytes[..(end % BLOCK) as usize]);
            state.dirty.insert(range, Change::Data(Buffer::new(bytes, &self.counted), 0));
        }
    }

    /// Returns the first range at or after `at` that may hold something but zeros.
    pub(super) fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.state().bytes;
        let mut at = at;
        while at < bytes {
            let number = at / BLOCK / REGION;
            let region_end = ((number + 1) * REGION * BLOCK).min(bytes);
            if self.state().may_have(number) {
                let blocks = at / BLOCK..region_end.div_ceil(BLOCK);
                let mut parts = self.locate(blocks)?;
                parts.retain(|(_, source)| !matches!(source, Source::Memory(Change::Zero)));
                parts.sort_by_key(|(range, _)| range.start);
                let mut parts = parts.into_iter().map(|(range, _)| range);
                if let Some(mut found) = parts.next() {
                    for part in parts {
                        if part.start > found.end {
                            break;
                        }
                        found.end = found.end.max(part.end);
                    }
                    return Ok(Some((found.start * BLOCK).max(at)..(found.end * BLOCK).min(bytes)));
                }
            }
            at = region_end;
        }
        Ok(None)
    }

    /// Fails if another program has the disk now.
    pub(super) fn check_lease(&self) -> io::Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let found = find(&self.chunks.objects, &self.name)?;
        match &found {
            Some(Found::Disk(Head { lease: Some(lease), .. }, _)) if lease.token == self.token => {
                Ok(())
            }
            _ => Err(self.set_fenced(fenced_by(&self.name, found))),
        }
    }

    /// Remembers that another program has the disk, and returns the error that says so.
    pub(super) fn set_fenced(&self, fenced: Fenced) -> io::Error {
        let error = fenced.error();
        self.state().fenced = Some(fenced);
        error
    }

    /// Asks for what the log has become too long for.
    pub(super) fn look_for_work(&self, log: &Log) {
        let records = log.next() - log.first;
        if records >= self.options.checkpoint || log.inline >= CHECKPOINT_BYTES {
            self.work.checkpoint();
        }
    }
}

/// Copies bytes of a source, from `skip` bytes on.
fn copy(source: &Source, pieces: &HashMap<(Within, u32), Bytes>, skip: u64, to: &mut [u8]) {
    match source {
        Source::Memory(change) => change.copy(skip, to),
        Source::Store(Place { piece, skip: blocks }) => {
            let from = u64::from(*blocks) * BLOCK + skip;
            to.copy_from_slice(&pieces[&(piece.within, piece.at)][from as usize..][..to.len()]);
        }
    }
}
