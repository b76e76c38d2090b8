//! `discard`: takes everything, keeps nothing, reads as zeros.

use super::{Discard, Info, Pace, Storage};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk that keeps nothing: for measuring what is around it.
pub struct Zero {
    bytes: AtomicU64,
    sector_size: u32,
}

impl Zero {
    /// Creates a disk of `bytes`, in sectors of `sector_size` bytes.
    pub fn new(bytes: u64, sector_size: u32) -> Self {
        Zero { bytes: AtomicU64::new(bytes), sector_size }
    }
}

impl Storage for Zero {
    fn info(&self) -> Info {
        let discard = Some(Discard { granularity: self.sector_size, secure: true });
        let info = Info::new(self.bytes.load(Ordering::Relaxed)).with_sector_size(self.sector_size);
        Info { discard, ..info }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        to.fill(0);
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.info().range(at, from.len() as u64).map(drop)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        self.info().range(at, len).map(drop)
    }

    fn write_zeroes(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        self.info().range(at, len).map(drop)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn next_data(&self, _: u64) -> io::Result<Option<Range<u64>>> {
        Ok(None)
    }

    fn identity(&self) -> Option<String> {
        Some("nothing".into())
    }

    /// Nothing was ever kept that could be lost.
    fn outlives(&self) -> bool {
        true
    }

    fn pace(&self) -> Pace {
        Pace::Quick
    }
}
