//! The map of a disk at a checkpoint: a root that has the places of leaves, and leaves that have
//! those of the blocks of 64 MiB each. A leaf is read when it is needed.

use super::blob::{Blob, Id, Kind, Reader, Sum, damaged};
use super::codec::Codec;
use super::extents::Extents;
use super::place::{self, BLOCK, Stored, Writer};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Blocks of a leaf: 64 MiB.
pub const REGION: u64 = (64 << 20) / BLOCK;

/// Most leaves that are kept in memory.
const MAX_LEAVES: usize = 4096;

/// The place of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeafRef {
    /// The object.
    pub object: Id,
    /// Offset in it.
    pub at: u32,
    /// Length in it.
    pub len: u32,
    /// Hash of the leaf.
    pub sum: Sum,
}

/// Places of the blocks of a region; those that are zero have none.
pub type Leaf = Arc<Extents<Stored>>;

/// The leaves of a disk.
#[derive(Clone, Default, Debug)]
pub struct Tree {
    /// By the number of the region; one without a leaf is zero.
    pub leaves: BTreeMap<u64, LeafRef>,
    /// Those that were read.
    loaded: HashMap<u64, Leaf>,
}

/// Returns the blocks of a region.
pub fn region(number: u64) -> Range<u64> {
    number * REGION..(number + 1) * REGION
}

impl Tree {
    /// Returns the numbers of the regions that have blocks of `blocks`, and a leaf.
    pub fn regions(&self, blocks: &Range<u64>) -> impl Iterator<Item = (u64, LeafRef)> {
        let numbers = blocks.start / REGION..blocks.end.div_ceil(REGION);
        let numbers = numbers.start..numbers.end.max(numbers.start);
        self.leaves.range(numbers).map(|(number, leaf)| (*number, *leaf))
    }

    /// Returns the same tree, of whose leaves none was read.
    pub fn without_leaves(&self) -> Self {
        Tree { leaves: self.leaves.clone(), loaded: HashMap::new() }
    }

    /// Returns a leaf that was read already.
    pub fn loaded(&self, number: u64) -> Option<&Leaf> {
        self.loaded.get(&number)
    }

    /// Keeps a leaf that was read, if it is still the one.
    pub fn keep(&mut self, number: u64, of: &LeafRef, leaf: Leaf) {
        if self.leaves.get(&number) != Some(of) {
            return;
        }
        if self.loaded.len() >= MAX_LEAVES {
            // Any will do: it is read again when it is needed.
            let other = self.loaded.keys().next().copied();
            other.map(|other| self.loaded.remove(&other));
        }
        self.loaded.insert(number, leaf);
    }

    /// Replaces a leaf, or takes it away.
    pub fn replace(&mut self, number: u64, new: Option<(LeafRef, Leaf)>) {
        self.loaded.remove(&number);
        match new {
            Some((of, leaf)) => {
                self.leaves.insert(number, of);
                self.keep(number, &of, leaf);
            }
            None => drop(self.leaves.remove(&number)),
        }
    }

    /// Encodes the root.
    pub fn encode(&self, bytes: u64, codec: &Codec) -> io::Result<Vec<u8>> {
        let (mut refs, mut ref_of) = (Vec::new(), HashMap::new());
        let mut open = bytes.to_le_bytes().to_vec();
        open.extend_from_slice(&(self.leaves.len() as u32).to_le_bytes());
        for (number, leaf) in &self.leaves {
            let object = *ref_of.entry(leaf.object).or_insert_with(|| {
                refs.push(leaf.object);
                refs.len() as u32 - 1
            });
            // A disk of 2^32 regions is longer than 2^57 bytes.
            for word in [*number as u32, object, leaf.at, leaf.len] {
                open.extend_from_slice(&word.to_le_bytes());
            }
            open.extend_from_slice(&leaf.sum);
        }
        let blocks = bytes.div_ceil(BLOCK);
        Blob { refs, blocks, open, body: Vec::new() }.encode(Kind::Root, codec)
    }

    /// Decodes a root, and the length of the disk.
    pub fn decode(raw: &[u8], codec: &Codec) -> io::Result<(Self, u64)> {
        let (blob, rest) = Blob::decode(raw, Kind::Root, codec)?;
        Reader(rest).end()?;
        Tree::parse(&blob)
    }

    /// Decodes a root without a key.
    pub fn decode_clear(raw: &[u8]) -> io::Result<Self> {
        Ok(Tree::parse(&Blob::decode_clear(raw, Kind::Root)?)?.0)
    }

    fn parse(blob: &Blob) -> io::Result<(Self, u64)> {
        let mut reader = Reader(&blob.open);
        let bytes = reader.u64()?;
        let mut leaves = BTreeMap::new();
        for _ in 0..reader.count(32)? {
            let number = u64::from(reader.u32()?);
            let object = blob.refs.get(reader.u32()? as usize);
            let object = *object.ok_or_else(|| damaged("a leaf is in no object"))?;
            let (at, len, sum) = (reader.u32()?, reader.u32()?, reader.array()?);
            leaves.insert(number, LeafRef { object, at, len, sum });
        }
        reader.end()?;
        Ok((Tree { leaves, loaded: HashMap::new() }, bytes))
    }
}

/// Encodes a leaf.
pub fn encode_leaf(leaf: &Extents<Stored>, codec: &Codec) -> io::Result<Vec<u8>> {
    let mut writer = Writer::default();
    let mut blocks = 0;
    for (range, stored) in leaf.iter() {
        blocks += range.end - range.start;
        writer.add(range, stored);
    }
    let (refs, body) = writer.finish(Vec::new());
    Blob { refs, blocks, open: Vec::new(), body }.encode(Kind::Leaf, codec)
}

/// Decodes the leaf of a region.
pub fn decode_leaf(raw: &[u8], number: u64, codec: &Codec) -> io::Result<Extents<Stored>> {
    let (blob, rest) = Blob::decode(raw, Kind::Leaf, codec)?;
    let mut reader = Reader(&blob.body);
    let leaf = place::read(&mut reader, &blob.refs, None, region(number))?;
    reader.end()?;
    Reader(rest).end()?;
    Ok(leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_decoded_as_it_was_encoded() {
        let mut tree = Tree::default();
        for number in [0, 3, 70_000] {
            let leaf = LeafRef { object: [number as u8; 32], at: 4, len: 5, sum: [6; 16] };
            tree.replace(number, Some((leaf, Leaf::default())));
        }
        let raw = tree.encode(1 << 42, &Codec::default()).unwrap();
        let (read, bytes) = Tree::decode(&raw, &Codec::default()).unwrap();
        assert_eq!((&read.leaves, bytes), (&tree.leaves, 1 << 42));
        let found: Vec<u64> = read.regions(&(REGION - 1..4 * REGION)).map(|(n, _)| n).collect();
        assert_eq!(found, [0, 3]);
    }
}
