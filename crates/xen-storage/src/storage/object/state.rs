//! A disk in memory: changes that are not flushed, over those that are being flushed, over
//! those that are in the log alone, over those that a checkpoint is being made of, over its map.

use super::extents::{Extents, Run, gaps};
use super::lease::Fenced;
use super::place::{BLOCK, Place, Stored};
use super::tree::{LeafRef, Tree, region};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that were written, counted for as long as they are kept.
pub struct Buffer {
    bytes: Vec<u8>,
    counted: Arc<AtomicUsize>,
}

impl Buffer {
    /// Keeps these, and counts them.
    pub fn new(bytes: Vec<u8>, counted: &Arc<AtomicUsize>) -> Arc<Self> {
        counted.fetch_add(bytes.len(), Ordering::Relaxed);
        Arc::new(Buffer { bytes, counted: counted.clone() })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.counted.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Blocks that were written, and are not in the log.
#[derive(Clone)]
pub enum Change {
    /// They are zero.
    Zero,
    /// They are these bytes, from a block on.
    Data(Arc<Buffer>, u64),
}

impl Run for Change {
    fn skip(&self, blocks: u64) -> Self {
        match self {
            Change::Zero => Change::Zero,
            Change::Data(buffer, skip) => Change::Data(buffer.clone(), skip + blocks),
        }
    }
}

impl Change {
    /// Copies its bytes from `at` on.
    pub fn copy(&self, at: u64, to: &mut [u8]) {
        match self {
            Change::Zero => to.fill(0),
            Change::Data(buffer, skip) => {
                to.copy_from_slice(&buffer.bytes[(skip * BLOCK + at) as usize..][..to.len()]);
            }
        }
    }
}

/// Source of the bytes of blocks.
#[derive(Clone)]
pub enum Source {
    /// In memory.
    Memory(Change),
    /// In the store.
    Store(Place),
}

/// A disk.
#[derive(Default)]
pub struct State {
    /// Length in bytes.
    pub bytes: u64,
    /// Changes that no flush has.
    pub dirty: Extents<Change>,
    /// Those that a flush is about to put into the log.
    pub flushing: Arc<Extents<Change>>,
    /// Those that the log has.
    pub tail: Extents<Stored>,
    /// Those that a checkpoint is made of.
    pub frozen: Arc<Extents<Stored>>,
    /// The map of the last checkpoint.
    pub tree: Tree,
    /// Set once another program has taken the disk.
    pub fenced: Option<Fenced>,
}

/// Blocks and where they are; or leaves that are to be read first.
pub type Located = Result<Vec<(Range<u64>, Source)>, Vec<(u64, LeafRef)>>;

impl State {
    /// Finds out where blocks are. Those that are not mentioned are zero.
    pub fn locate(&self, blocks: Range<u64>) -> Located {
        let mut found = Vec::new();
        let mut open = vec![blocks];
        for layer in [&self.dirty, &*self.flushing] {
            open = look(layer, &open, |range, change| {
                found.push((range, Source::Memory(change)));
            });
        }
        for layer in [&self.tail, &*self.frozen] {
            open = look(layer, &open, |range, stored| found.push((range, source(stored))));
        }
        let mut missing = Vec::new();
        for blocks in open {
            for (number, of) in self.tree.regions(&blocks) {
                let within = region(number);
                let cut = blocks.start.max(within.start)..blocks.end.min(within.end);
                match self.tree.loaded(number) {
                    Some(leaf) => {
                        found.extend(leaf.within(cut).map(|(range, place)| (range, source(place))));
                    }
                    None => missing.push((number, of)),
                }
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(missing) }
    }

    /// Returns true if blocks of a region may be something but zero, as far as can be told without
    /// reading its leaf.
    pub fn may_have(&self, number: u64) -> bool {
        let blocks = region(number);
        self.dirty.within(blocks.clone()).next().is_some()
            || self.flushing.within(blocks.clone()).next().is_some()
            || self.tail.within(blocks.clone()).next().is_some()
            || self.frozen.within(blocks.clone()).next().is_some()
            || self.tree.leaves.contains_key(&number)
    }
}

fn source(stored: Stored) -> Source {
    match stored {
        Stored::Zero => Source::Memory(Change::Zero),
        Stored::At(place) => Source::Store(place),
    }
}

/// Looks for ranges in a layer, and returns the parts that it does not have.
fn look<V: Run>(
    layer: &Extents<V>,
    ranges: &[Range<u64>],
    mut found: impl FnMut(Range<u64>, V),
) -> Vec<Range<u64>> {
    let mut open = Vec::new();
    for range in ranges {
        let parts: Vec<_> = layer.within(range.clone()).collect();
        open.extend(gaps(range.clone(), parts.iter().map(|(part, _)| part.clone())));
        parts.into_iter().for_each(|(part, value)| found(part, value));
    }
    open
}
