//! `cow`: a golden image that never changes; what is written stays in this program's memory and
//! goes with it.

use super::file::{is_in_memory, open_locked, raw_identity, whole_sectors};
use super::lock::LockedFile;
use super::map::{Mapped, Sharing};
use super::{Backing, Discard, Info, Pace, Storage};
use std::io;
use std::path::Path;

/// A disk that is a file as long as nothing is written.
pub struct Cow {
    map: Mapped,
    bytes: u64,
    sector_size: u32,
    file: LockedFile,
    /// The file system is in memory: no page is ever waited for.
    in_memory: bool,
}

impl Cow {
    /// Opens the file for reading only. Others may serve it at the same time if they do not write
    /// it either.
    pub fn open(path: &Path, sector_size: u32) -> io::Result<Self> {
        let file = open_locked(path, false)?;
        let bytes = whole_sectors(file.size()?, sector_size)?;
        let map = Mapped::new(&file, bytes as usize, Sharing::Private)?;
        let in_memory = is_in_memory(&file);
        Ok(Cow { map, bytes, sector_size, file, in_memory })
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

    fn identity(&self) -> Option<String> {
        Some(format!("copy of {}", raw_identity(&self.file)?))
    }

    fn pace(&self) -> Pace {
        if self.in_memory { Pace::Quick } else { Pace::Slow }
    }
}
