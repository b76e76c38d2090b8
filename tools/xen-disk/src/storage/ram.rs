//! `ram`: a disk in this program's memory, gone with it.

use super::{Discard, Info, Pace, Storage};
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

/// The pieces that a range touches: the number of each, the range within it, and the range of the buffer.
fn touched(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let start = range.start;
    (start / PIECE..range.end.div_ceil(PIECE)).map(move |piece| {
        let from = range.start.max(piece * PIECE);
        let to = range.end.min((piece + 1) * PIECE);
        (piece, from - piece * PIECE..to - piece * PIECE, from - start..to - start)
    })
}

impl Storage for Ram {
    fn info(&self) -> Info {
        self.describe(self.state.read().expect("no holder panics").bytes)
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let state = self.state.read().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, to.len() as u64)?;
        for (piece, within, of_buffer) in touched(range) {
            match &state.pieces[piece] {
                Some(piece) => to[of_buffer].copy_from_slice(&piece[within]),
                None => to[of_buffer].fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, from.len() as u64)?;
        for (piece, within, of_buffer) in touched(range) {
            let piece = state.pieces[piece].get_or_insert_with(|| vec![0; PIECE].into());
            piece[within].copy_from_slice(&from[of_buffer]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len)?;
        for (piece, within, _) in touched(range) {
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
