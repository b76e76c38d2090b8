//! Making the map of a checkpoint: what the log has is put into the leaves that it touches, and
//! blocks that were written in small pieces are put together.

use super::chunks::{Chunks, Draft, OWN};
use super::extents::Extents;
use super::parallel::parallel;
use super::place::{BLOCK, Stored, Within};
use super::tree::{Leaf, LeafRef, REGION, Tree, encode_leaf, region};
use super::view::View;
use super::{Id, Objects};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Runs of a chunk from which on it is written anew as a whole. 4 KiB blocks written at random
/// cost 1 MiB for each 64 of them then, four times their bytes. A chunk is in 64 pieces at most.
const MERGE: usize = 64;

/// A new map.
pub struct Built {
    /// Its root.
    pub root: Id,
    /// Leaves that differ from those of the map before; `None` where all is zero now.
    pub leaves: Vec<(u64, Option<(LeafRef, Leaf)>)>,
}

/// Makes the map of a disk of `bytes` whose map is `tree`, with `changes` over it.
pub fn build<O: Objects>(
    chunks: &Chunks<O>,
    view: &View,
    tree: &Tree,
    changes: &Extents<Stored>,
    bytes: u64,
) -> io::Result<Built> {
    let mut leaves = changed_leaves(chunks, tree, changes)?;
    let jobs = leaves.iter().flat_map(|(number, leaf)| to_rewrite(chunks, *number, leaf, changes));
    let jobs: Vec<(u64, Range<u64>)> = jobs.collect();
    for (number, blocks, stored) in rewrite(chunks, view, &leaves, jobs)? {
        let leaf = leaves.get_mut(&number).expect("its blocks are in it");
        match stored {
            Stored::Zero => leaf.remove(blocks),
            stored => leaf.insert(blocks, stored),
        }
    }
    let numbers: Vec<u64> =
        leaves.iter().filter(|(_, leaf)| !leaf.is_empty()).map(|(number, _)| *number).collect();
    let encoded = numbers.iter().map(|number| encode_leaf(&leaves[number], &chunks.codec));
    let refs = chunks.put_leaves(view, encoded.collect::<io::Result<_>>()?)?;
    let mut refs: BTreeMap<u64, LeafRef> = numbers.into_iter().zip(refs).collect();
    let leaves: Vec<_> = leaves
        .into_iter()
        .map(|(number, leaf)| (number, refs.remove(&number).map(|of| (of, Arc::new(leaf)))))
        .collect();
    let mut new = tree.without_leaves();
    for (number, leaf) in &leaves {
        match leaf {
            Some((of, _)) => drop(new.leaves.insert(*number, *of)),
            None => drop(new.leaves.remove(number)),
        }
    }
    let root = chunks.put(view, &new.encode(bytes, &chunks.codec)?)?;
    Ok(Built { root, leaves })
}

/// Returns the leaves that `changes` touch, with these in them.
fn changed_leaves<O: Objects>(
    chunks: &Chunks<O>,
    tree: &Tree,
    changes: &Extents<Stored>,
) -> io::Result<BTreeMap<u64, Extents<Stored>>> {
    let mut numbers = BTreeSet::new();
    for (blocks, stored) in changes.iter() {
        match stored {
            // Regions that are zero stay so.
            Stored::Zero => numbers.extend(tree.regions(&blocks).map(|(number, _)| number)),
            Stored::At(_) => {
                numbers.extend(blocks.start / REGION..blocks.end.div_ceil(REGION));
            }
        }
    }
    let leaves = parallel(numbers.into_iter().collect(), |number: u64| {
        let parts: Vec<_> = changes.within(region(number)).collect();
        let all_zero = parts == [(region(number), Stored::Zero)];
        let mut leaf = match (tree.leaves.get(&number), tree.loaded(number)) {
            _ if all_zero => Extents::default(),
            (Some(_), Some(leaf)) => Extents::clone(leaf),
            (Some(of), None) => Extents::clone(&*chunks.leaf(number, of)?),
            (None, _) => Extents::default(),
        };
        for (blocks, stored) in parts {
            match stored {
                Stored::Zero => leaf.remove(blocks),
                stored => leaf.insert(blocks, stored),
            }
        }
        Ok((number, leaf))
    })?;
    Ok(leaves.into_iter().collect())
}

/// Returns the runs of a leaf that are to be written anew: all that are in the log, and all of a
/// chunk that is in too many pieces.
fn to_rewrite<O: Objects>(
    chunks: &Chunks<O>,
    number: u64,
    leaf: &Extents<Stored>,
    changes: &Extents<Stored>,
) -> Vec<(u64, Range<u64>)> {
    let mut touched = BTreeSet::new();
    for (blocks, stored) in changes.within(region(number)) {
        if matches!(stored, Stored::At(_)) {
            touched.extend(blocks.start / chunks.chunk..blocks.end.div_ceil(chunks.chunk));
        }
    }
    let merge = MERGE.min((chunks.chunk / 4).max(2) as usize);
    let mut runs = Vec::new();
    for chunk in touched {
        let blocks = chunk * chunks.chunk..(chunk + 1) * chunks.chunk;
        let parts: Vec<_> = leaf.within(blocks).collect();
        let in_log = |stored: &Stored| matches!(stored, Stored::At(place) if matches!(place.piece.within, Within::Log(_)));
        if parts.len() >= merge {
            let (first, last) = (&parts[0].0, &parts[parts.len() - 1].0);
            runs.push((number, first.start..last.end));
            continue;
        }
        let mut run: Option<Range<u64>> = None;
        for (range, _) in parts.into_iter().filter(|(_, stored)| in_log(stored)) {
            match &mut run {
                Some(run) if run.end == range.start => run.end = range.end,
                _ => runs.extend(run.replace(range).map(|run| (number, run))),
            }
        }
        runs.extend(run.map(|run| (number, run)));
    }
    runs
}

/// Runs that are read and encoded before they are put.
const BATCH: usize = 128;

/// Writes runs of blocks anew, and returns their places.
fn rewrite<O: Objects>(
    chunks: &Chunks<O>,
    view: &View,
    leaves: &BTreeMap<u64, Extents<Stored>>,
    mut jobs: Vec<(u64, Range<u64>)>,
) -> io::Result<Vec<(u64, Range<u64>, Stored)>> {
    enum Done {
        Stored(Stored),
        Small(Draft),
    }
    let mut written = Vec::new();
    let mut small: Vec<(u64, Range<u64>, Draft)> = Vec::new();
    while !jobs.is_empty() {
        let batch: Vec<_> = jobs.drain(..jobs.len().min(BATCH)).collect();
        let done = parallel(batch, |(number, blocks)| {
            let bytes = chunks.gather(&leaves[&number], blocks.clone())?;
            let done = if is_zero(&bytes) {
                Done::Stored(Stored::Zero)
            } else {
                let draft = chunks.draft(&bytes)?;
                match bytes.len() as u64 >= OWN {
                    true => Done::Stored(chunks.put_own(view, &draft)?),
                    false => Done::Small(draft),
                }
            };
            Ok((number, blocks, done))
        })?;
        for (number, blocks, done) in done {
            match done {
                Done::Stored(stored) => written.push((number, blocks, stored)),
                Done::Small(draft) => small.push((number, blocks, draft)),
            }
        }
    }
    let (places, drafts): (Vec<_>, Vec<_>) =
        small.into_iter().map(|(number, blocks, draft)| ((number, blocks), draft)).unzip();
    let stored = chunks.put_packed(view, drafts)?;
    let small = places.into_iter().zip(stored);
    written.extend(small.map(|((number, blocks), stored)| (number, blocks, stored)));
    Ok(written)
}

/// Returns true if all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    debug_assert!(bytes.len().is_multiple_of(BLOCK as usize));
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| *word == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}
