//! `overlay`: the changes to a disk that stays as it is, kept in a sparse file.
//!
//! ```text
//! 0        header: magic, sizes, whose changes these are, a checksum
//! 4096     one bit for each cluster: whether it is kept here
//! pending  the same bits, written without waiting for the disk
//! data     the clusters, each at its own place; those that are not kept are holes
//! ```
//!
//! A write puts a cluster into the file, and then its bit among the pending ones: both are with the
//! kernel when it returns, so that they outlast this program. After a power failure one may be
//! there without the other, so the pending bits count only in the run of the machine that the
//! header names. The other bits are written by [`Overlay::flush`] once the clusters have been kept,
//! and are cleared only when the changes have been moved into the disk below or given up. So after
//! a power failure at any moment a cluster is either the one below or has everything that was
//! flushed. Bits are written in whole blocks of bytes of which none says more than is true, so it
//! does not matter which of them reach the file.

mod bits;
mod claims;
mod end;
mod header;

use super::file::whole_sectors;
use super::sync_guard::Guarded;
use super::{Backing, Discard, Info, Storage};
use bits::Bits;
use claims::Claims;
pub use end::Moved;
use header::{Header, Phase};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Unit in which changes are kept, in bytes.
pub const CLUSTER: u64 = 64 * 1024;

/// A disk and the changes to it.
pub struct Overlay<B, S> {
    file: Guarded<B>,
    base: S,
    /// Held alone while the length changes, and shared by everything else.
    length: RwLock<()>,
    /// Held for moments only, never while a device is waited for.
    state: RwLock<State>,
    /// Clusters that are being taken in.
    claims: Claims,
    /// Held by the one flush at a time.
    flushing: Mutex<()>,
}

struct State {
    header: Header,
    bits: Bits,
}

impl<B: Backing, S: Storage> Overlay<B, S> {
    /// Opens the overlay in `file`, or makes one if that is empty. `base` is the disk below, and
    /// `fingerprint` tells it from others and from itself after a change: an overlay does not fit
    /// any other.
    pub fn open(file: B, base: S, fingerprint: &[u8]) -> io::Result<Self> {
        let mut overlay = Self::open_any(file, base, fingerprint)?;
        match overlay.owned().header.phase {
            Phase::Serving => {
                overlay.begin_run()?;
                Ok(overlay)
            }
            Phase::Committing => {
                Err(invalid("its changes are halfway in the disk below: commit it again"))
            }
        }
    }

    fn open_any(file: B, base: S, fingerprint: &[u8]) -> io::Result<Self> {
        let fresh = Header::new(base.info().bytes, fingerprint)?;
        let file = Guarded::new(file);
        let state = if file.size()? == 0 {
            let fresh = Header { boot: file.boot(), ..fresh };
            file.set_len(fresh.end())?;
            file.sync()?;
            file.write_at(header::AT, &fresh.encode())?;
            file.sync()?;
            State { header: fresh, bits: Bits::none(fresh.clusters()) }
        } else {
            let header = read_header(&file)?;
            header.check_base(&fresh)?;
            let mut bits = Bits::read(&file, header.clusters())?;
            if header.pending > 0 && header.boot == file.boot() {
                bits.add_pending(&file, header.pending)?;
            }
            State { header, bits }
        };
        Ok(Overlay {
            file,
            base,
            length: RwLock::default(),
            state: RwLock::new(state),
            claims: Claims::default(),
            flushing: Mutex::default(),
        })
    }

    /// Makes the pending bits those of this run of the machine.
    fn begin_run(&mut self) -> io::Result<()> {
        let (header, boot) = (self.owned().header, self.file.boot());
        if header.pending == 0 || header.boot == boot {
            return Ok(());
        }
        let none = Bits::none(header.clusters());
        none.write_from(&self.file, header.pending, 0)?;
        self.file.sync()?;
        let header = Header { boot, ..header };
        self.write_header(header)?;
        self.owned().header = header;
        Ok(())
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
    fn adopt(
        &self,
        header: &Header,
        cluster: u64,
        part: Range<u64>,
        from: &[u8],
    ) -> io::Result<()> {
        let range = header.cluster(cluster);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if part != range {
            self.read_below(header, range.start, &mut bytes)?;
        }
        bytes[(part.start - range.start) as usize..(part.end - range.start) as usize]
            .copy_from_slice(from);
        self.file.write_at(header.data + range.start, &bytes)
    }

    /// Notes that the file has a cluster, so that it outlasts this program.
    fn note(&self, cluster: u64) -> io::Result<()> {
        let mut state = self.alone();
        let State { header, bits } = &mut *state;
        bits.add(cluster);
        if header.pending > 0 {
            bits.write_pending(&self.file, header.pending, cluster)?;
        }
        Ok(())
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

    /// Returns the header, and whether a cluster is kept.
    fn look_up(&self, cluster: u64) -> (Header, bool) {
        let state = self.shared();
        (state.header, state.bits.has(cluster))
    }

    /// Keeps all clusters that are in the file, and then their bits.
    fn keep(&self) -> io::Result<()> {
        let _one = self.flushing.lock().expect("no holder panics");
        let blocks = self.alone().bits.take_new();
        let kept = self.file.sync().and_then(|()| match blocks.is_empty() {
            true => Ok(()),
            false => bits::write(&self.file, &blocks).and_then(|()| self.file.sync()),
        });
        if kept.is_err() {
            let mut state = self.alone();
            state.bits.give_back(&blocks);
            // The clusters of the pending bits may be lost: nobody is to believe these again.
            let header = Header { boot: [0; 16], ..state.header };
            let _ = self.file.unguarded().write_at(header::AT, &header.encode());
        }
        kept
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
        let pending = Some(header.pending).filter(|at| *at > 0);
        let written = [Some(header::BITS_AT), pending]
            .into_iter()
            .flatten()
            .try_for_each(|at| state.bits.write_from(&self.file, at, old.clusters()))
            .and_then(|()| self.file.sync());
        if written.is_err() {
            state.bits.resize(old.clusters());
        }
        written
    }
}

fn read_header(file: &impl Backing) -> io::Result<Header> {
    let mut bytes = [0; header::LEN];
    file.read_at(header::AT, &mut bytes)?;
    Header::decode(&bytes)
}

impl<B: Backing, S: Storage> Storage for Overlay<B, S> {
    fn info(&self) -> Info {
        let Info { sector_size, physical_sector_size, .. } = self.base.info();
        let discard = Some(Discard { granularity: CLUSTER as u32, secure: false });
        Info {
            bytes: self.shared().header.bytes,
            sector_size,
            physical_sector_size,
            read_only: false,
            discard,
        }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let _length = self.length.read().expect("no holder panics");
        let range = self.info().range(at, to.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &mut to[(piece.start - at) as usize..(piece.end - at) as usize];
            // A writer may take the cluster in meanwhile, but not change what is read below.
            match self.look_up(cluster) {
                (header, true) => self.file.read_at(header.data + piece.start, buffer)?,
                (header, false) => self.read_below(&header, piece.start, buffer)?,
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let _length = self.length.read().expect("no holder panics");
        let range = self.info().range(at, from.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &from[(piece.start - at) as usize..(piece.end - at) as usize];
            let (header, kept) = self.look_up(cluster);
            if kept {
                self.file.write_at(header.data + piece.start, buffer)?;
                continue;
            }
            let _claim = self.claims.claim(cluster);
            // Another writer may have taken the cluster in before.
            if self.look_up(cluster).1 {
                self.file.write_at(header.data + piece.start, buffer)?;
            } else {
                self.adopt(&header, cluster, piece, buffer)?;
                self.note(cluster)?;
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.keep()
    }

    /// A whole cluster becomes a hole that counts as kept; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let _length = self.length.read().expect("no holder panics");
        let range = self.info().range(at, len)?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let header = self.shared().header;
        for (cluster, piece) in Self::pieces(range) {
            if piece == header.cluster(cluster) {
                let _claim = self.claims.claim(cluster);
                self.file.punch(header.data + piece.start, piece.end - piece.start)?;
                self.note(cluster)?;
            }
        }
        Ok(())
    }

    /// The disk below stays as long as it is until the changes are committed. What happens is kept
    /// at once: after a power failure the disk has the one length or the other.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        whole_sectors(bytes, self.base.info().sector_size)?;
        let _length = self.length.write().expect("no holder panics");
        self.keep()?;
        let mut state = self.alone();
        let header = state.header.resized(bytes)?;
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

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let below = self.base.next_data(at)?;
        let state = self.shared();
        let State { header, bits } = &*state;
        let below = below.filter(|range| range.start < header.seen);
        let next = bits
            .next(at / CLUSTER)
            .map(|(first, end)| (first * CLUSTER).max(at)..(end * CLUSTER).min(header.bytes));
        Ok(match (below, next) {
            (Some(one), Some(other)) if one.start <= other.start => {
                Some(one.start..one.end.min(header.bytes))
            }
            (Some(one), None) => Some(one.start..one.end.min(header.bytes)),
            (_, next) => next,
        })
    }

    fn identity(&self) -> Option<String> {
        Some(format!("overlay in {} over {}", self.file.identity()?, self.base.identity()?))
    }

    /// One that was made without pending bits keeps its bits in memory.
    fn outlives(&self) -> bool {
        self.shared().header.pending > 0
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
