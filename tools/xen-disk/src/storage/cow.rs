//! `cow`: a golden image that never changes; what is written stays in this program's memory and goes with it.

use super::file::{lock, whole_sectors};
use super::map::{Mapped, Sharing};
use super::{Discard, Info, Pace, Storage};
use std::fs::File;
use std::io;
use std::path::Path;

/// A disk that is a file as long as nothing is written.
pub struct Cow {
    map: Mapped,
    bytes: u64,
    sector_size: u32,
    _locked: File,
}

impl Cow {
    /// Opens the file for reading only. Others may serve it at the same time if they do not write it either.
    pub fn open(path: &Path, sector_size: u32) -> io::Result<Self> {
        let file = File::open(path)?;
        lock(&file, false)?;
        let bytes = whole_sectors(file.metadata()?.len(), sector_size)?;
        let map = Mapped::new(&file, bytes as usize, Sharing::Private)?;
        Ok(Cow { map, bytes, sector_size, _locked: file })
    }
}

impl Storage for Cow {
    fn info(&self) -> Info {
        // What is forgotten is memory: the page as it is in the file is read then.
        let discard = Some(Discard { granularity: 4096, secure: false });
        let info = Info::new(self.bytes).with_sector_size(self.sector_size);
        Info { physical_sector_size: 4096, discard, ..info }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        self.map.read(range.start, to)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let range = self.info().range(at, from.len() as u64)?;
        self.map.write(range.start, from)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let range = self.info().range(at, len)?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.map.forget(range.start, range.len())
    }

    fn outlives(&self) -> bool {
        false
    }

    fn pace(&self) -> Pace {
        Pace::Quick
    }
}
