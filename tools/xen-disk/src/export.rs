//! A storage as the server of network block devices wants it.

use crate::storage::{Pages, Storage};
use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xen_blk::back::Area;
use xen_nbd::server::{Disk, Info};

/// A storage that is served over NBD.
pub struct Exported {
    storage: Arc<dyn Storage>,
    read_only: bool,
    /// A flush has failed: the operating system may have dropped what was to be written, and would
    /// let the next flush succeed.
    failed: AtomicBool,
}

impl Exported {
    /// Serves `storage`; `read_only` forbids what it would permit.
    pub fn new(storage: Arc<dyn Storage>, read_only: bool) -> Self {
        Exported { storage, read_only, failed: AtomicBool::new(false) }
    }

    fn check(&self) -> io::Result<()> {
        if self.failed.load(Ordering::Acquire) {
            let text = "an earlier flush failed, and what was written before may be lost: end the \
                        export, check the disk, and export it again";
            return Err(io::Error::other(text));
        }
        Ok(())
    }
}

impl Disk for Exported {
    fn info(&self) -> Info {
        let info = self.storage.info();
        Info {
            bytes: info.bytes,
            read_only: self.read_only || info.read_only,
            trim: info.discard.is_some(),
            min_block: info.sector_size,
            preferred_block: info.physical_sector_size.max(4096).next_power_of_two(),
        }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.storage.read(at, to)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.check()?;
        self.storage.write(at, from)
    }

    fn read_now(&self, at: u64, to: &mut [u8]) -> Option<io::Result<()>> {
        self.storage.read_now(at, &mut Target::new(to))
    }

    fn write_now(&self, at: u64, from: &[u8]) -> Option<io::Result<()>> {
        match self.check() {
            Ok(()) => self.storage.write_now(at, &mut Source(from)),
            Err(error) => Some(Err(error)),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.check()?;
        let done = self.storage.flush();
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        // One that failed meanwhile may have been told of this one's data.
        done.and_then(|()| self.check())
    }

    fn trim(&self, at: u64, len: u64) -> io::Result<()> {
        self.check()?;
        match self.storage.discard(at, len, false) {
            // A trim may do nothing.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn write_zeroes(&self, at: u64, len: u64, may_trim: bool) -> io::Result<()> {
        self.check()?;
        self.storage.write_zeroes(at, len, may_trim)
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        self.storage.next_data(at)
    }
}

/// Memory of this program that a read fills: in cells, for the kernel may write there as well.
struct Target<'a>(&'a [Cell<u8>]);

impl<'a> Target<'a> {
    fn new(to: &'a mut [u8]) -> Self {
        Target(Cell::from_mut(to).as_slice_of_cells())
    }
}

impl Pages for Target<'_> {
    fn left(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, _: &mut [u8]) {
        unreachable!("a read takes nothing");
    }

    fn put(&mut self, from: &[u8]) {
        let (head, rest) = self.0.split_at(from.len());
        head.iter().zip(from).for_each(|(to, from)| to.set(*from));
        self.0 = rest;
    }

    fn areas(&self) -> Option<Vec<Area>> {
        Some(vec![Area { start: NonNull::from(self.0).cast(), len: self.0.len() }])
    }
}

/// Memory of this program that is written.
struct Source<'a>(&'a [u8]);

impl Pages for Source<'_> {
    fn left(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, to: &mut [u8]) {
        let (head, rest) = self.0.split_at(to.len());
        to.copy_from_slice(head);
        self.0 = rest;
    }

    fn put(&mut self, _: &[u8]) {
        unreachable!("a write puts nothing");
    }

    fn areas(&self) -> Option<Vec<Area>> {
        Some(vec![Area { start: NonNull::from(self.0).cast(), len: self.0.len() }])
    }
}
