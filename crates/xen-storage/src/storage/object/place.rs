//! Places of blocks, and how they are written down.

use super::blob::{Id, Reader, Sum, damaged};
use super::extents::{Extents, Run};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a block: the unit of the map.
pub const BLOCK: u64 = 4096;

/// An object that has pieces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Within {
    /// The one of that name below `chunks/`.
    Chunk(Id),
    /// The record of that number in the disk's log.
    Log(u64),
}

/// A run of blocks that was encoded as one.
#[derive(Clone, PartialEq, Debug)]
pub struct Piece {
    /// The object.
    pub within: Within,
    /// Offset in the object.
    pub at: u32,
    /// Bytes in the object.
    pub len: u32,
    /// Bytes of the disk.
    pub raw: u32,
    /// Steps of its encoding.
    pub kind: u8,
    /// Hash of its bytes in the object.
    pub sum: Sum,
}

/// Blocks that are kept: from a block of a piece on.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// The piece.
    pub piece: Arc<Piece>,
    /// Number of blocks of the piece before the first.
    pub skip: u32,
}

impl Run for Place {
    fn skip(&self, blocks: u64) -> Self {
        Place { piece: self.piece.clone(), skip: self.skip + blocks as u32 }
    }
}

/// Blocks as a flush left them.
#[derive(Clone, PartialEq, Debug)]
pub enum Stored {
    /// They are zero, and are kept nowhere.
    Zero,
    /// They are kept.
    At(Place),
}

impl Run for Stored {
    fn skip(&self, blocks: u64) -> Self {
        match self {
            Stored::Zero => Stored::Zero,
            Stored::At(place) => Stored::At(place.skip(blocks)),
        }
    }
}

/// Pieces and runs, as they are written down: the pieces first, each once.
#[derive(Default)]
pub struct Writer {
    refs: Vec<Id>,
    ref_of: HashMap<Id, u32>,
    pieces: Vec<u8>,
    piece_of: HashMap<*const Piece, u32>,
    runs: Vec<u8>,
    count: u32,
}

/// Number of an object that is the record itself.
const HERE: u32 = u32::MAX;
/// Number of the piece of blocks that are zero.
const ZERO: u32 = u32::MAX;
/// Bytes of a piece.
const PIECE: usize = 33;
/// Bytes of a run.
const RUN: usize = 20;

impl Writer {
    fn piece(&mut self, piece: &Arc<Piece>) -> u32 {
        let next = self.piece_of.len() as u32;
        if let Some(number) = self.piece_of.get(&Arc::as_ptr(piece)) {
            return *number;
        }
        self.piece_of.insert(Arc::as_ptr(piece), next);
        let within = match piece.within {
            Within::Log(_) => HERE,
            Within::Chunk(id) => *self.ref_of.entry(id).or_insert_with(|| {
                self.refs.push(id);
                self.refs.len() as u32 - 1
            }),
        };
        for number in [within, piece.at, piece.len, piece.raw] {
            self.pieces.extend_from_slice(&number.to_le_bytes());
        }
        self.pieces.push(piece.kind);
        self.pieces.extend_from_slice(&piece.sum);
        next
    }

    /// Adds a run. Its piece stays until all is written.
    pub fn add(&mut self, blocks: Range<u64>, stored: &Stored) {
        let (piece, skip) = match stored {
            Stored::Zero => (ZERO, 0),
            Stored::At(place) => (self.piece(&place.piece), place.skip),
        };
        self.runs.extend_from_slice(&blocks.start.to_le_bytes());
        self.runs.extend_from_slice(&((blocks.end - blocks.start) as u32).to_le_bytes());
        self.runs.extend_from_slice(&piece.to_le_bytes());
        self.runs.extend_from_slice(&skip.to_le_bytes());
        self.count += 1;
    }

    /// Returns the names of objects, and the bytes that follow `body`.
    pub fn finish(self, mut body: Vec<u8>) -> (Vec<Id>, Vec<u8>) {
        body.extend_from_slice(&(self.piece_of.len() as u32).to_le_bytes());
        body.extend_from_slice(&self.pieces);
        body.extend_from_slice(&self.count.to_le_bytes());
        body.extend_from_slice(&self.runs);
        (self.refs, body)
    }
}

/// Reads what a writer wrote, for blocks in `range`; pieces of the record itself are in `here`.
pub fn read(
    reader: &mut Reader<'_>,
    refs: &[Id],
    here: Option<u64>,
    range: Range<u64>,
) -> io::Result<Extents<Stored>> {
    let count = reader.count(PIECE)?;
    let mut pieces = Vec::with_capacity(count);
    for _ in 0..count {
        let (within, at, len, raw) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
        let within = match (within, here) {
            (HERE, Some(number)) => Within::Log(number),
            (number, _) => {
                let id = refs.get(number as usize);
                Within::Chunk(*id.ok_or_else(|| damaged("a piece is in no object"))?)
            }
        };
        let (kind, sum) = (reader.u8()?, reader.array()?);
        if at.checked_add(len).is_none() || raw == 0 || u64::from(raw) > MAX_PIECE {
            return Err(damaged("a piece has an impossible length"));
        }
        pieces.push(Arc::new(Piece { within, at, len, raw, kind, sum }));
    }
    let mut extents = Extents::default();
    for _ in 0..reader.count(RUN)? {
        let (start, len) = (reader.u64()?, u64::from(reader.u32()?));
        let (piece, skip) = (reader.u32()?, reader.u32()?);
        let end = start.checked_add(len).filter(|end| *end <= range.end && start >= range.start);
        let end = end.ok_or_else(|| damaged("blocks are outside of where they can be"))?;
        let stored = match piece {
            ZERO => Stored::Zero,
            number => {
                let piece = pieces.get(number as usize);
                let piece = piece.ok_or_else(|| damaged("blocks are in no piece"))?.clone();
                if u64::from(skip) + len > u64::from(piece.raw).div_ceil(BLOCK) {
                    return Err(damaged("blocks are beyond the end of their piece"));
                }
                Stored::At(Place { piece, skip })
            }
        };
        extents.insert(start..end, stored);
    }
    Ok(extents)
}

/// The most bytes of the disk in one piece.
pub const MAX_PIECE: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_that_are_written_are_read(
            runs in proptest::collection::vec((0u64..200, 1u64..9, 0u8..4, 0u32..3), 0..30),
        ) {
            let mut extents = Extents::default();
            for (start, len, id, skip) in runs {
                let within = if id == 1 { Within::Log(9) } else { Within::Chunk([id; 32]) };
                let (at, len32) = (u32::from(id), len as u32);
                let piece = Piece { within, at, len: 77, raw: (len32 + skip) * 4096, kind: id, sum: [id; 16] };
                let place = Place { piece: Arc::new(piece), skip };
                let stored = if id == 0 { Stored::Zero } else { Stored::At(place) };
                extents.insert(start..start + len, stored);
            }
            let mut writer = Writer::default();
            extents.iter().for_each(|(blocks, stored)| writer.add(blocks, stored));
            let (refs, body) = writer.finish(Vec::new());
            let mut reader = Reader(&body);
            prop_assert_eq!(read(&mut reader, &refs, Some(9), 0..300).unwrap(), extents.clone());
            prop_assert!(reader.end().is_ok());
            let cut = read(&mut Reader(&body), &refs, Some(9), 0..100);
            prop_assert_eq!(cut.is_ok(), extents.iter().all(|(blocks, _)| blocks.end <= 100));
        }

        #[test]
        fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..200), few: bool) {
            let mut raw = raw;
            if few {
                raw.splice(0..raw.len().min(4), [1, 0, 0, 0]);
            }
            let _ = read(&mut Reader(&raw), &[[0; 32]], Some(1), 0..u64::MAX);
        }
    }
}
