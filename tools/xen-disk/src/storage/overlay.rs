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
mod header;

use super::{Backing, Discard, Info, Storage};
use bits::Bits;
use header::{Header, Phase};
use std::io;
use std::ops::Range;
use std::sync::{RwLock, RwLockWriteGuard};

/// What is kept at a time, in bytes.
pub const CLUSTER: u64 = 64 * 1024;

/// A disk and the changes to it.
pub struct Overlay<B, S> {
    file: B,
    base: S,
    header: Header,
    /// Writers of a cluster that is not kept yet, and a flush, hold it alone.
    bits: RwLock<Bits>,
}

/// What became of the changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// How many clusters were kept.
    pub clusters: u64,
}

impl<B: Backing, S: Storage> Overlay<B, S> {
    /// Opens the overlay in `file`, or makes one if that is empty. `base` is the disk below, and `identity` what tells it
    /// from others and from itself after a change: an overlay does not fit any other.
    pub fn open(file: B, base: S, identity: &[u8]) -> io::Result<Self> {
        let overlay = Self::open_any(file, base, identity)?;
        match overlay.header.phase {
            Phase::Serving => Ok(overlay),
            Phase::Committing => Err(invalid("its changes are halfway in the disk below: commit it again")),
        }
    }

    fn open_any(file: B, base: S, identity: &[u8]) -> io::Result<Self> {
        let fresh = Header::new(base.info().bytes, identity);
        let (header, bits) = if file.size()? == 0 {
            file.set_len(fresh.end())?;
            file.write_at(header::AT, &fresh.encode())?;
            file.sync()?;
            (fresh, Bits::none(fresh.clusters()))
        } else {
            let mut bytes = [0; header::LEN];
            file.read_at(header::AT, &mut bytes)?;
            let header = Header::decode(&bytes)?;
            header.check_base(&fresh)?;
            (header, Bits::read(&file, header.clusters())?)
        };
        Ok(Overlay { file, base, header, bits: RwLock::new(bits) })
    }

    /// Moves all changes into the disk below and forgets them. `identity` is what that disk was called, and `new_identity`
    /// asks again once it has changed. If this is cut short at any moment, it can be done again.
    pub fn commit(
        file: B,
        base: S,
        identity: &[u8],
        new_identity: impl Fn() -> io::Result<Vec<u8>>,
    ) -> io::Result<Moved> {
        let mut overlay = Self::open_any(file, base, identity)?;
        overlay.write_header(Header { phase: Phase::Committing, ..overlay.header })?;
        let clusters: Vec<u64> = overlay.bits.get_mut().expect("no holder panics").set().collect();
        let mut bytes = vec![0; CLUSTER as usize];
        for &cluster in &clusters {
            let range = overlay.header.cluster(cluster);
            let bytes = &mut bytes[..(range.end - range.start) as usize];
            overlay.file.read_at(overlay.header.data() + range.start, bytes)?;
            overlay.base.write(range.start, bytes)?;
        }
        overlay.base.flush()?;
        overlay.forget(&clusters)?;
        overlay.write_header(Header::new(overlay.header.bytes, &new_identity()?))?;
        Ok(Moved { clusters: clusters.len() as u64 })
    }

    /// Gives all changes up.
    pub fn revert(file: B, base: S, identity: &[u8]) -> io::Result<Moved> {
        let overlay = Self::open(file, base, identity)?;
        let clusters: Vec<u64> = overlay.bits.read().expect("no holder panics").set().collect();
        overlay.forget(&clusters)?;
        Ok(Moved { clusters: clusters.len() as u64 })
    }

    fn forget(&self, clusters: &[u64]) -> io::Result<()> {
        Bits::none(self.header.clusters()).write_all(&self.file)?;
        self.file.sync()?;
        clusters.iter().try_for_each(|&cluster| {
            let range = self.header.cluster(cluster);
            // What has no bit is never read: a file system that cannot make holes merely keeps the room.
            ignore_unsupported(self.file.punch(self.header.data() + range.start, range.end - range.start))
        })
    }

    fn write_header(&mut self, header: Header) -> io::Result<()> {
        self.file.write_at(header::AT, &header.encode())?;
        self.file.sync()?;
        self.header = header;
        Ok(())
    }

    /// Takes in a cluster that is written only in part: the rest comes from below.
    fn adopt(&self, cluster: u64, part: Range<u64>, with: Option<&[u8]>) -> io::Result<()> {
        let range = self.header.cluster(cluster);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if part != range {
            self.base.read(range.start, &mut bytes)?;
        }
        let within = &mut bytes[(part.start - range.start) as usize..(part.end - range.start) as usize];
        match with {
            Some(from) => within.copy_from_slice(from),
            None => within.fill(0),
        }
        self.file.write_at(self.header.data() + range.start, &bytes)
    }

    /// The pieces of a range that lie in one cluster each.
    fn pieces(range: Range<usize>) -> impl Iterator<Item = (u64, Range<u64>)> {
        let range = range.start as u64..range.end as u64;
        (range.start / CLUSTER..range.end.div_ceil(CLUSTER)).map(move |cluster| {
            let start = range.start.max(cluster * CLUSTER);
            (cluster, start..range.end.min((cluster + 1) * CLUSTER))
        })
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Bits> {
        self.bits.write().expect("no holder panics")
    }
}

impl<B: Backing, S: Storage> Storage for Overlay<B, S> {
    fn info(&self) -> Info {
        let Info { sector_size, physical_sector_size, .. } = self.base.info();
        let discard = Some(Discard { granularity: CLUSTER as u32, secure: false });
        Info { bytes: self.header.bytes, sector_size, physical_sector_size, read_only: false, discard }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &mut to[(piece.start - at) as usize..(piece.end - at) as usize];
            // Held while reading below: a writer may take the cluster in meanwhile, but not change what is read here.
            let bits = self.bits.read().expect("no holder panics");
            match bits.has(cluster) {
                true => self.file.read_at(self.header.data() + piece.start, buffer)?,
                false => self.base.read(piece.start, buffer)?,
            }
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let range = self.info().range(at, from.len() as u64)?;
        for (cluster, piece) in Self::pieces(range) {
            let buffer = &from[(piece.start - at) as usize..(piece.end - at) as usize];
            let kept = self.bits.read().expect("no holder panics").has(cluster);
            if !kept {
                let mut bits = self.alone();
                // Somebody else may have taken it in while nobody held the lock.
                if !bits.has(cluster) {
                    self.adopt(cluster, piece, Some(buffer))?;
                    bits.add(cluster);
                    continue;
                }
            }
            self.file.write_at(self.header.data() + piece.start, buffer)?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut bits = self.alone();
        self.file.sync()?;
        if bits.write_new(&self.file)? {
            self.file.sync()?;
            bits.kept();
        }
        Ok(())
    }

    /// A whole cluster becomes a hole that counts as kept; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let range = self.info().range(at, len)?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut bits = self.alone();
        for (cluster, piece) in Self::pieces(range) {
            if piece == self.header.cluster(cluster) {
                self.file.punch(self.header.data() + piece.start, piece.end - piece.start)?;
                bits.add(cluster);
            }
        }
        Ok(())
    }
}

fn ignore_unsupported(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done,
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
