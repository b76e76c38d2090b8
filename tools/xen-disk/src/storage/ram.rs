//! `ram`: a disk in this program's memory, gone with it.

use super::{Discard, Info, Pace, Pages, Storage};
use std::io;
use std::ops::Range;
use std::sync::RwLock;

/// Memory is taken in pieces of so many bytes, when they are first written.
const PIECE: usize = 1 << 20;

/// A disk in memory. What was never written takes none.
pub struct Ram {
    sector_size: u32,
    state: RwLock<State>,
}

struct State {
    bytes: u64,
    pieces: Vec<Option<Box<[u8]>>>,
}

impl Ram {
    /// A disk of so many bytes, all zero, in sectors of `sector_size` bytes.
    pub fn new(bytes: u64, sector_size: u32) -> Self {
        let mut state = State { bytes: 0, pieces: Vec::new() };
        state.resize(bytes);
        Ram { sector_size, state: RwLock::new(state) }
    }

    fn describe(&self, bytes: u64) -> Info {
        let discard = Some(Discard { granularity: self.sector_size, secure: true });
        Info { discard, ..Info::new(bytes).with_sector_size(self.sector_size) }
    }
}

impl Ram {
    /// Calls `copy` with the bytes of a range, part by part.
    fn read_pieces(&self, at: u64, len: usize, mut copy: impl FnMut(&[u8])) -> io::Result<()> {
        let state = self.state.read().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len as u64)?;
        for (piece, within) in touched(range) {
            match &state.pieces[piece] {
                Some(bytes) => copy(&bytes[within]),
                None => zeros(within.len(), &mut copy),
            }
        }
        Ok(())
    }

    /// Calls `copy` with the memory of a range, part by part.
    fn write_pieces(&self, at: u64, len: usize, mut copy: impl FnMut(&mut [u8])) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len as u64)?;
        for (piece, within) in touched(range) {
            copy(&mut state.pieces[piece].get_or_insert_with(|| vec![0; PIECE].into())[within]);
        }
        Ok(())
    }
}

impl State {
    fn resize(&mut self, bytes: u64) {
        let count = bytes.div_ceil(PIECE as u64) as usize;
        self.pieces.resize_with(count, || None);
        // What lies behind a new end must be zero if the disk grows again.
        let within = (bytes % PIECE as u64) as usize;
        if let (true, Some(Some(last))) = (bytes < self.bytes && within > 0, self.pieces.last_mut()) {
            last[within..].fill(0);
        }
        self.bytes = bytes;
    }
}

/// Calls `copy` with so many zeros, part by part.
fn zeros(mut len: usize, copy: &mut impl FnMut(&[u8])) {
    static ZEROS: [u8; 4096] = [0; 4096];
    while len > 0 {
        let step = len.min(ZEROS.len());
        copy(&ZEROS[..step]);
        len -= step;
    }
}

/// The pieces that a range touches: the number of each, and the range within it.
fn touched(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    (range.start / PIECE..range.end.div_ceil(PIECE)).map(move |piece| {
        let from = range.start.max(piece * PIECE);
        let to = range.end.min((piece + 1) * PIECE);
        (piece, from - piece * PIECE..to - piece * PIECE)
    })
}

impl Storage for Ram {
    fn info(&self) -> Info {
        self.describe(self.state.read().expect("no holder panics").bytes)
    }

    fn read(&self, at: u64, mut to: &mut [u8]) -> io::Result<()> {
        self.read_pieces(at, to.len(), |bytes| {
            let (now, rest) = std::mem::take(&mut to).split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            to = rest;
        })
    }

    fn write(&self, at: u64, mut from: &[u8]) -> io::Result<()> {
        self.write_pieces(at, from.len(), |bytes| {
            let (now, rest) = from.split_at(bytes.len());
            bytes.copy_from_slice(now);
            from = rest;
        })
    }

    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        Some(self.read_pieces(at, to.left(), |bytes| to.put(bytes)))
    }

    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        Some(self.write_pieces(at, from.left(), |bytes| from.take(bytes)))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len)?;
        for (piece, within) in touched(range) {
            match &mut state.pieces[piece] {
                slot if within.len() == PIECE => *slot = None,
                Some(piece) => piece[within].fill(0),
                None => {}
            }
        }
        Ok(())
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.state.write().expect("no holder panics").resize(bytes);
        Ok(())
    }

    fn pace(&self) -> Pace {
        Pace::Quick
    }
}
