//! `mmap`: an image file mapped into memory; what is written goes to the file.

use super::file::{is_in_memory, open_locked, raw_fingerprint, raw_identity, whole_sectors};
use super::lock::LockedFile;
use super::map::{Mapped, Sharing};
use super::straight::{self, Wait};
use super::sync_guard::SyncGuard;
use super::{Backing, Info, Pace, Pages, Storage, read_only};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::RwLock;

/// Length from which writes go through the file itself, in bytes. It is the same memory, and a page
/// that is new to the file costs less there than one that is made because a mapping lacks it.
const LARGE: usize = 64 << 10;

/// A disk in a mapped file.
pub struct Mmap {
    file: LockedFile,
    map: RwLock<(u64, Mapped)>,
    sharing: Sharing,
    sector_size: u32,
    /// The file system is in memory: no page is ever waited for.
    in_memory: bool,
    guard: SyncGuard,
}

impl Mmap {
    /// Maps the file or block device, which exists, and locks it against other programs that use
    /// it.
    pub fn open(path: &Path, writable: bool, sector_size: u32) -> io::Result<Self> {
        let file = open_locked(path, writable)?;
        let bytes = whole_sectors(file.size()?, sector_size)?;
        let sharing = if writable { Sharing::Shared } else { Sharing::ReadOnly };
        let map = RwLock::new((bytes, Mapped::new(&file, bytes as usize, sharing)?));
        let in_memory = is_in_memory(&file);
        Ok(Mmap { file, map, sharing, sector_size, in_memory, guard: SyncGuard::default() })
    }

    fn describe(&self, bytes: u64) -> Info {
        let info = Info::new(bytes).with_sector_size(self.sector_size);
        Info { physical_sector_size: 4096, read_only: self.sharing == Sharing::ReadOnly, ..info }
    }
}

/// Turns the result of a request that may not have been done.
fn done(done: io::Result<bool>) -> Option<io::Result<()>> {
    match done {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    }
}

impl Storage for Mmap {
    fn info(&self) -> Info {
        self.describe(self.map.read().expect("no holder panics").0)
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let held = self.map.read().expect("no holder panics");
        let range = self.describe(held.0).range(at, to.len() as u64)?;
        held.1.read(range.start, to)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        if self.sharing == Sharing::ReadOnly {
            return Err(read_only());
        }
        let held = self.map.read().expect("no holder panics");
        let range = self.describe(held.0).range(at, from.len() as u64)?;
        self.guard.check()?;
        held.1.write(range.start, from)
    }

    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        // A resize waits for a read that waits for its page: nobody else waits for them.
        let held = self.map.try_read().ok()?;
        let range = match self.describe(held.0).range(at, to.left() as u64) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        if !self.in_memory {
            // The same bytes, through the page cache: a page that is not there is not waited for.
            let read = straight::read(&self.file, at, to, Wait::MustNot);
            return read.is_ok_and(|done| done).then_some(Ok(()));
        }
        done(held.1.read_pages(range.start, to))
    }

    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        if self.sharing == Sharing::ReadOnly {
            return Some(Err(read_only()));
        }
        // A resize waits for a read that waits for its page: nobody else waits for them.
        let held = self.map.try_read().ok()?;
        let range = match self.describe(held.0).range(at, from.left() as u64) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        if let Err(error) = self.guard.check() {
            return Some(Err(error));
        }
        if !self.in_memory {
            let written = straight::write(&self.file, at, from, Wait::MustNot);
            return written.is_ok_and(|done| done).then_some(Ok(()));
        }
        if range.len() >= LARGE
            && straight::write(&self.file, at, from, Wait::May).is_ok_and(|done| done)
        {
            return Some(Ok(()));
        }
        done(held.1.write_pages(range.start, from))
    }

    fn flush(&self) -> io::Result<()> {
        if self.sharing == Sharing::ReadOnly {
            return Ok(());
        }
        // This keeps the pages of the mapping as well, and the length of a file that was made
        // longer; the mapping is not held meanwhile.
        self.guard.sync(|| self.file.sync_data())?;
        self.map.read().expect("no holder panics").1.check()
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        if self.sharing == Sharing::ReadOnly {
            return Err(read_only());
        }
        whole_sectors(bytes, self.sector_size)?;
        let mut held = self.map.write().expect("no holder panics");
        self.file.set_len(bytes)?;
        *held = (bytes, Mapped::new(&self.file, bytes as usize, self.sharing)?);
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.info().bytes;
        let found = self.file.next_data(at)?.map(|range| range.start..range.end.min(bytes));
        Ok(found.filter(|range| range.start < range.end))
    }

    fn identity(&self) -> Option<String> {
        raw_identity(&self.file)
    }

    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        raw_fingerprint(&self.file, self.info().bytes)
    }

    /// Each write is in the page cache when it returns.
    fn outlives(&self) -> bool {
        true
    }

    fn pace(&self) -> Pace {
        if self.in_memory { Pace::QuickUntilFlush } else { Pace::Slow }
    }
}
