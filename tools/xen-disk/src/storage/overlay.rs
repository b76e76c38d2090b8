//! `overlay`: what was changed on top of a disk that stays as it is, kept in a sparse file.
//!
//! ```text
//! 0      header: magic, sizes, whose changes these are, a checksum
//! 4096   one bit for each cluster: whether it is kept here
//! data   the clusters, each at its own place; those that are not kept are holes
//! ```
//!
//! A bit is written only after its cluster has been kept ([`Overlay::flush`] does both, in this order), and is cleared
//! only when the changes have been moved into the disk below or given up. So after a power failure at any moment a
//! cluster is either the one below or has everything that was flushed. Bits are written in whole blocks of bytes of
//! which none says more than is true, so it does not matter which of them reach the file.

mod bits;
mod end;
mod header;

use super::file::whole_sectors;
use super::{Backing, Discard, Info, Storage};
use bits::Bits;
pub use end::Moved;
use header::{Header, Phase};
use std::io;
use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is kept at a time, in bytes.
pub const CLUSTER: u64 = 64 * 1024;

/// A disk and the changes to it.
pub struct Overlay<B, S> {
    file: B,
    base: S,
    /// Writers of a cluster that is not kept yet, a flush and a resize hold it alone.
    state: RwLock<State>,
}

struct State {
    header: Header,
    bits: Bits,
}

impl<B: Backing, S: Storage> Overlay<B, S> {
    /// Opens the overlay in `file`, or makes one if that is empty. `base` is the disk below, and `identity` what tells it
    /// from others and from itself after a change: an overlay does not fit any other.
    pub fn open(file: B, base: S, identity: &[u8]) -> io::Result<Self> {
        let mut overlay = Self::open_any(file, base, identity)?;
        match overlay.owned().header.phase {
            Phase::Serving => Ok(overlay),
            Phase::Committing => Err(invalid("its changes are halfway in the disk below: commit it again")),
        }
    }

    fn open_any(file: B, base: S, identity: &[u8]) -> io::Result<Self> {
        let fresh = Header::new(base.info().bytes, identity)?;
        let state = if file.size()? == 0 {
            file.set_len(fresh.end())?;
            file.sync()?;
            file.write_at(header::AT, &fresh.encode())?;
            file.sync()?;
            State { header: fresh, bits: Bits::none(fresh.clusters()) }
        } else {
            let mut bytes = [0; header::LEN];
            file.read_at(header::AT, &mut bytes)?;
            let header = Header::decode(&bytes)?;
            header.check_base(&fresh)?;
            State { header, bits: Bits::read(&file, header.clusters())? }
        };
        Ok(Overlay { file, base, state: RwLock::new(state) })
    }

    fn write_header(&self, header: Header) -> io::Result<()> {
        self.file.write_at(header::AT, &header.encode())?;
        self.file.sync()
    }

    /// Reads the disk below, as far as it is seen.
    fn read_below(&self, header: &Header, at: u64, to: &mut [u8]) -> io::Result<()> {
        let seen = header.seen.saturating_sub(at).min(to.len() as u64) as usize;
        let (seen, unseen) = to.split_at_mut(seen);
        unseen.fill(0);
        if seen.is_empty() { Ok(()) } else { self.base.read(at, seen) }
    }

    /// Takes in a cluster that is written only in part: the rest comes from below.
    fn adopt(&self, header: &Header, cluster: u64, part: Range<u64>, from: &[u8]) -> io::Result<()> {
        let range = header.cluster(cluster);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if part != range {
            self.read_below(header, range.start, &mut bytes)?;
        }
        bytes[(part.start - range.start) as usize..(part.end - range.start) as usize].copy_from_slice(from);
        self.file.write_at(header.data + range.start, &bytes)
    }

    /// The pieces of a range that lie in one cluster each.
    fn pieces(range: Range<usize>) -> impl Iterator<Item = (u64, Range<u64>)> {
        let range = range.start as u64..range.end as u64;
        (range.start / CLUSTER..range.end.div_ceil(CLUSTER)).map(move |cluster| {
            let start = range.start.max(cluster * CLUSTER);
            (cluster, start..range.end.min((cluster + 1) * CLUSTER))
        })
    }

    fn shared(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no holder panics")
    }

    fn alone(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no holder panics")
    }

    fn owned(&mut self) -> &mut State {
        self.state.get_mut().expect("no holder panics")
    }

    fn keep(&self, state: &mut State) -> io::Result<()> {
        self.file.sync()?;
        if state.bits.write_new(&self.file)? {
            self.file.sync()?;
            state.bits.kept();
        }
        Ok(())
    }

    /// Makes everything zero that `header`, which is that of a longer disk, adds to the old one.
    fn clear_new(&self, state: &mut State, header: &Header) -> io::Result<()> {
        let (old, end) = (state.header, state.header.bytes);
        self.file.set_len(header.end())?;
        if state.bits.has(end / CLUSTER) {
            let zeros = vec![0; (end.next_multiple_of(CLUSTER).min(header.bytes) - end) as usize];
            self.file.write_at(old.data + end, &zeros)?;
        }
        // Bits can be left from when the disk was longer.
        state.bits.resize(header.clusters());
        let written = state.bits.write_from(&self.file, old.clusters()).and_then(|()| self.file.sync());
        if written.is_err() {
            state.bits.resize(old.clusters());
        }
        written
    }
}

impl<B: Backing, S: Storage> Storage for Overlay<B, S> {
    fn info(&self) -> Info {
        let Info { sector_size, physical_sector_size, .. } = self.base.info();
        let discard = Some(Discard { granularity: CLUSTER as u32, secure: false });
        Info { bytes: self.shared().header.bytes, sector_size, physical_sector_size, read_only: false, discard }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &mut to[(piece.start - at) as usize..(piece.end - at) as usize];
            // Held while reading below: a writer may take the cluster in meanwhile, but not change what is read here.
            let state = self.shared();
            match state.bits.has(cluster) {
                true => self.file.read_at(state.header.data + piece.start, buffer)?,
                false => self.read_below(&state.header, piece.start, buffer)?,
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let range = self.info().range(at, from.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &from[(piece.start - at) as usize..(piece.end - at) as usize];
            let state = self.shared();
            if state.bits.has(cluster) {
                self.file.write_at(state.header.data + piece.start, buffer)?;
                continue;
            }
            drop(state);
            let mut state = self.alone();
            let State { header, bits } = &mut *state;
            // While nobody held it somebody else may have taken the cluster in, or cut it off.
            if piece.end > header.bytes {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the disk has become shorter meanwhile"));
            } else if bits.has(cluster) {
                self.file.write_at(header.data + piece.start, buffer)?;
            } else {
                self.adopt(header, cluster, piece, buffer)?;
                bits.add(cluster);
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.keep(&mut self.alone())
    }

    /// A whole cluster becomes a hole that counts as kept; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let range = self.info().range(at, len)?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.alone();
        let State { header, bits } = &mut *state;
        for (cluster, piece) in Self::pieces(range) {
            if cluster < header.clusters() && piece == header.cluster(cluster) {
                self.file.punch(header.data + piece.start, piece.end - piece.start)?;
                bits.add(cluster);
            }
        }
        Ok(())
    }

    /// The disk below stays as long as it is until the changes are committed. What happens is kept at once: after a power
    /// failure the disk has the one length or the other.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        whole_sectors(bytes, self.base.info().sector_size)?;
        let mut state = self.alone();
        let header = state.header.resized(bytes)?;
        self.keep(&mut state)?;
        if bytes > state.header.bytes {
            self.clear_new(&mut state, &header)?;
        }
        self.write_header(header)?;
        if bytes < state.header.bytes {
            // Nothing there counts any more: a file that stays longer merely keeps the room.
            let _ = self.file.set_len(header.end());
        }
        state.header = header;
        state.bits.resize(header.clusters());
        Ok(())
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
