//! The end of the changes: they become part of the disk below, or are given up.

use super::bits::Bits;
use super::header::{self, Header, Phase};
use super::{Backing, CLUSTER, Guarded, Overlay, Storage, read_header};
use std::io;

/// Outcome for the changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Number of clusters that were kept.
    pub clusters: u64,
}

impl<B: Backing, S: Storage> Overlay<B, S> {
    /// Moves all changes into the disk below and forgets them. `fingerprint` is that disk's, and
    /// `new_fingerprint` asks again once it has changed. If this is cut short at any moment, it can
    /// be done again.
    pub fn commit(
        file: B,
        base: S,
        fingerprint: &[u8],
        new_fingerprint: impl Fn() -> io::Result<Vec<u8>>,
    ) -> io::Result<Moved> {
        let mut overlay = Self::open_any(file, base, fingerprint)?;
        // What is pending now must not be forgotten halfway.
        overlay.keep()?;
        let serving = overlay.owned().header;
        let committing = Header { phase: Phase::Committing, ..serving };
        overlay.write_header(committing)?;
        if let Err(error) = overlay.resize_base(&committing) {
            overlay.write_header(serving)?;
            return Err(error);
        }
        let clusters: Vec<u64> = overlay.owned().bits.set().collect();
        let mut bytes = vec![0; CLUSTER as usize];
        for &cluster in &clusters {
            let range = committing.cluster(cluster);
            let bytes = &mut bytes[..(range.end - range.start) as usize];
            overlay.file.read_at(committing.data + range.start, bytes)?;
            overlay.base.write(range.start, bytes)?;
        }
        overlay.base.flush()?;
        // Without its bits, the next commit must not cut the disk below once more.
        overlay.write_header(Header {
            seen: committing.bytes,
            base_bytes: committing.bytes,
            ..committing
        })?;
        overlay.forget(&committing, &clusters)?;
        // What is there stays where it is.
        overlay.write_header(committing.emptied(committing.bytes, &new_fingerprint()?)?)?;
        Ok(Moved { clusters: clusters.len() as u64 })
    }

    /// Makes the disk below as long as this one, with zeros where this one has some because it was
    /// shorter once.
    fn resize_base(&self, header: &Header) -> io::Result<()> {
        let resize = |bytes| {
            self.base.resize(bytes).map_err(|error| {
                let text = format!("the disk below must become {bytes} bytes long: {error}");
                io::Error::new(error.kind(), text)
            })
        };
        if header.seen < self.base.info().bytes.min(header.bytes) {
            resize(header.seen)?;
        }
        if header.bytes != self.base.info().bytes {
            resize(header.bytes)?;
        }
        Ok(())
    }

    /// Gives all changes up, that of its length, too.
    pub fn revert(file: B, base: S, fingerprint: &[u8]) -> io::Result<Moved> {
        let mut overlay = Self::open(file, base, fingerprint)?;
        let header = overlay.owned().header;
        let clusters: Vec<u64> = overlay.owned().bits.set().collect();
        overlay.forget(&header, &clusters)?;
        overlay.write_header(header.emptied(header.base_bytes, fingerprint)?)?;
        Ok(Moved { clusters: clusters.len() as u64 })
    }

    /// Says that the changes are right for the disk below as it is now, whatever was done to it.
    pub fn rebase(file: B, base: S, fingerprint: &[u8]) -> io::Result<()> {
        let file = Guarded::new(file);
        let header = read_header(&file)?;
        let fresh = Header::new(base.info().bytes, fingerprint)?;
        if header.base_bytes != fresh.base_bytes {
            // The length is no matter of opinion.
            return header.check_base(&fresh);
        }
        file.write_at(header::AT, &Header { identity: fresh.identity, ..header }.encode())?;
        file.sync()
    }

    fn forget(&self, header: &Header, clusters: &[u64]) -> io::Result<()> {
        let none = Bits::none(header.clusters());
        none.write_from(&self.file, header::BITS_AT, 0)?;
        if header.pending > 0 {
            none.write_from(&self.file, header.pending, 0)?;
        }
        self.file.sync()?;
        clusters.iter().try_for_each(|&cluster| {
            let range = header.cluster(cluster);
            // What has no bit is never read: a file system that cannot make holes merely keeps the
            // room.
            ignore_unsupported(self.file.punch(header.data + range.start, range.end - range.start))
        })
    }
}

fn ignore_unsupported(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done,
    }
}
