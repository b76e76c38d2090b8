//! `mmap`: an image file mapped into memory; what is written goes to the file.

use super::file::{lock, whole_sectors};
use super::map::{Mapped, Sharing};
use super::{Info, Pace, Storage, read_only};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::RwLock;

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
