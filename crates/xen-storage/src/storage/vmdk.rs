//! `vmdk`: VMware's images whose extents are flat, only for reading. A descriptor, which is text,
//! names the files that have the data.

mod descriptor;

use super::file::open_locked;
use super::lock::LockedFile;
use super::{Backing, Info, Storage, fingerprint, read_only};
use descriptor::{Descriptor, Kind};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest descriptor in bytes.
const MAX_DESCRIPTOR: u64 = 1 << 20;

/// A disk in the files that a descriptor names.
pub struct Vmdk {
    extents: Vec<Extent>,
    bytes: u64,
    descriptor: LockedFile,
}

/// A part of the disk.
struct Extent {
    /// Bytes of the disk.
    range: Range<u64>,
    /// The file and the offset in it; without one, the part is zero.
    place: Option<(LockedFile, u64)>,
}

impl Vmdk {
    /// Opens the files that the descriptor at `path` names, any that this program can open: so
    /// that must be `trusted`.
    pub fn open(path: &Path, trusted: bool) -> io::Result<Self> {
        let file = open_locked(path, false)?;
        let mut bytes = vec![0; file.size()?.min(MAX_DESCRIPTOR) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        let parsed = Descriptor::parse(&bytes).map_err(invalid)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut extents = Vec::new();
        let mut at = 0u64;
        for part in parsed.extents {
            let end = part.sectors.checked_mul(512).and_then(|len| at.checked_add(len));
            let end = end.ok_or_else(|| invalid("its extents are too long"))?;
            let place = match part.kind {
                Kind::Zero => None,
                Kind::Flat { file, offset } if trusted => {
                    Some((open_extent(&folder.join(&file), offset, end - at)?, offset))
                }
                Kind::Flat { file, .. } => {
                    return Err(invalid(format!(
                        "its data are in another file, {}: with the option trusted that is opened",
                        file.display()
                    )));
                }
            };
            extents.push(Extent { range: at..end, place });
            at = end;
        }
        let bytes = super::file::whole_sectors(at, 512)?;
        Ok(Vmdk { extents, bytes, descriptor: file })
    }
}

fn open_extent(path: &Path, offset: u64, len: u64) -> io::Result<LockedFile> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("the extent {}: {error}", path.display()))
    };
    let file = open_locked(path, false).map_err(named)?;
    let have = file.size().map_err(named)?;
    if offset.checked_add(len).is_none_or(|end| end > have) {
        return Err(invalid(format!(
            "the extent {} is too short: {have} bytes of {}",
            path.display(),
            u128::from(offset) + u128::from(len)
        )));
    }
    Ok(file)
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Storage for Vmdk {
    fn info(&self) -> Info {
        Info { read_only: true, physical_sector_size: 4096, ..Info::new(self.bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        let end = at + to.len() as u64;
        for Extent { range, place } in &self.extents {
            let (start, stop) = (range.start.max(at), range.end.min(end));
            if start >= stop {
                continue;
            }
            let piece = &mut to[(start - at) as usize..(stop - at) as usize];
            match place {
                Some((file, offset)) => file.read_exact_at(piece, offset + start - range.start)?,
                None => piece.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(read_only())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        for Extent { range, place } in self.extents.iter().filter(|e| e.range.end > at) {
            let Some((file, offset)) = place else { continue };
            let from = at.max(range.start) - range.start + offset;
            let found = file.next_data(from)?;
            let found = found.map(|data| {
                data.start - offset + range.start..(data.end - offset + range.start).min(range.end)
            });
            if let Some(found) = found.filter(|found| found.start < found.end) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn identity(&self) -> Option<String> {
        Some(format!("vmdk in {}", self.descriptor.identity()?))
    }

    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        let mut value = fingerprint::of_contents(self.bytes, |at, to| self.read(at, to))?;
        let files = self.extents.iter().filter_map(|extent| extent.place.as_ref());
        files.for_each(|(file, _)| value.extend(file.stamp()));
        Ok(value)
    }

    /// Nothing is ever written.
    fn outlives(&self) -> bool {
        true
    }
}
