//! A failed sync is remembered.
//!
//! Linux reports a failed writeback once, and drops the pages: the next fsync succeeds although
//! their contents are lost. So after the first failure nothing is promised any more.

use super::Backing;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Remembers whether a sync has failed.
#[derive(Default)]
pub(super) struct SyncGuard(AtomicBool);

impl SyncGuard {
    /// Fails once a sync has failed.
    pub fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            let text = "an earlier flush failed, and what was written before may be lost: \
                        disconnect the disk, check it, and connect it again";
            return Err(io::Error::other(text));
        }
        Ok(())
    }

    /// Runs `sync`, unless one has failed.
    pub fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        let done = sync();
        if done.is_err() {
            self.0.store(true, Ordering::Release);
        }
        // One that failed meanwhile may have been told of this one's pages.
        done.and_then(|()| self.check())
    }
}

/// A file of a format that is changed no more once a sync has failed.
pub(super) struct Guarded<B> {
    file: B,
    guard: SyncGuard,
}

impl<B: Backing> Guarded<B> {
    pub fn new(file: B) -> Self {
        Guarded { file, guard: SyncGuard::default() }
    }

    /// Returns the file itself, to take back what was published.
    pub fn unguarded(&self) -> &B {
        &self.file
    }
}

impl<B: Backing> Backing for Guarded<B> {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_at(at, to)
    }

    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.guard.check()?;
        self.file.write_at(at, from)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.set_len(bytes)
    }

    fn is_device(&self) -> bool {
        self.file.is_device()
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.guard.check()?;
        self.file.punch(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.guard.sync(|| self.file.sync())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<std::ops::Range<u64>>> {
        self.file.next_data(at)
    }

    fn identity(&self) -> Option<String> {
        self.file.identity()
    }

    fn stamp(&self) -> Vec<u8> {
        self.file.stamp()
    }

    fn boot(&self) -> [u8; 16] {
        self.file.boot()
    }
}
