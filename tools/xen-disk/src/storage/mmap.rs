//! `mmap`: an image file mapped into memory; what is written goes to the file.

use super::file::{lock, whole_sectors};
use super::map::{Mapped, Sharing};
use super::straight::{self, Wait};
use super::{Info, Pace, Pages, Storage, read_only};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::RwLock;

/// Writes of so many bytes go through the file itself. It is the same memory, and a page that is new to the file costs less
/// there than one that is made because a mapping lacks it.
const LARGE: usize = 64 << 10;

/// A disk in a mapped file.
pub struct Mmap {
    file: File,
    map: RwLock<(u64, Mapped)>,
    sharing: Sharing,
    sector_size: u32,
}

impl Mmap {
    /// Maps the file, which exists, and locks it against other programs that serve it.
    pub fn open(path: &Path, writable: bool, sector_size: u32) -> io::Result<Self> {
        let file = File::options().read(true).write(writable).open(path)?;
        lock(&file, writable)?;
        let bytes = whole_sectors(file.metadata()?.len(), sector_size)?;
        let sharing = if writable { Sharing::Shared } else { Sharing::ReadOnly };
        let map = RwLock::new((bytes, Mapped::new(&file, bytes as usize, sharing)?));
        Ok(Mmap { file, map, sharing, sector_size })
    }

    fn describe(&self, bytes: u64) -> Info {
        let info = Info::new(bytes).with_sector_size(self.sector_size);
        Info { physical_sector_size: 4096, read_only: self.sharing == Sharing::ReadOnly, ..info }
    }
}

/// What became of a request that could be done, if it could.
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
        held.1.write(range.start, from)
    }

    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        let held = self.map.read().expect("no holder panics");
        let range = match self.describe(held.0).range(at, to.left() as u64) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        done(held.1.read_pages(range.start, to))
    }

    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        if self.sharing == Sharing::ReadOnly {
            return Some(Err(read_only()));
        }
        let held = self.map.read().expect("no holder panics");
        let range = match self.describe(held.0).range(at, from.left() as u64) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        };
        if range.len() >= LARGE && straight::write(&self.file, at, from, Wait::May).is_ok_and(|done| done) {
            return Some(Ok(()));
        }
        done(held.1.write_pages(range.start, from))
    }

    fn flush(&self) -> io::Result<()> {
        if self.sharing == Sharing::ReadOnly {
            return Ok(());
        }
        self.map.read().expect("no holder panics").1.sync()?;
        // Of a file that was made longer, the length must be kept as well.
        self.file.sync_data()
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

    fn pace(&self) -> Pace {
        Pace::QuickUntilFlush
    }
}
