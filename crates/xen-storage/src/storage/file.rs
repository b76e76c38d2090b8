//! `file`: an image file or a block device, with pread(2) and pwrite(2).

use super::backing::punch_hole;
use super::lock::LockedFile;
use super::straight::{self, Wait};
use super::sync_guard::SyncGuard;
use super::{Backing, Discard, Info, Pages, Storage, fingerprint, read_only};
use nix::fcntl::OFlag;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// O_DIRECT wants memory, offsets and lengths in multiples of the device's block; 4096 suits every
/// device.
const ALIGNMENT: usize = 4096;

/// Options of a file.
#[derive(Clone, Copy, Default, Debug)]
pub struct FileOptions {
    /// It is not written.
    pub read_only: bool,
    /// Past the page cache (O_DIRECT).
    pub direct: bool,
    /// Bytes of a sector, 512 or 4096; 0 is 512.
    pub sector_size: u32,
}

/// A disk in a file or on a block device.
pub struct FileStorage {
    file: LockedFile,
    bytes: AtomicU64,
    options: FileOptions,
    regular: bool,
    /// Permits reads and writes from the guest's pages to wait.
    wait: Wait,
    reads: Straight,
    writes: Straight,
    guard: SyncGuard,
    /// Bytes of the least request that the device takes.
    unit: u64,
    /// Held alone by writes of a part of a unit, and shared by those of whole ones.
    parts: RwLock<()>,
}

/// Set while it is worth trying to read, or write, straight to or from the guest's pages.
struct Straight(AtomicBool);

impl Straight {
    /// Tries it, unless it is known that it cannot be; `None` if it was not done.
    fn attempt(&self, try_it: impl FnOnce() -> io::Result<bool>) -> Option<io::Result<()>> {
        if !self.0.load(Ordering::Relaxed) {
            return None;
        }
        match try_it() {
            Ok(done) => done.then_some(Ok(())),
            // It is not in the page cache at the moment, or another error, which comes again.
            Err(error) => {
                if error.kind() == io::ErrorKind::Unsupported {
                    self.0.store(false, Ordering::Relaxed);
                }
                None
            }
        }
    }
}

impl FileStorage {
    /// Opens the file, which exists, and locks it against other programs that use it: alone for
    /// writing, with others for reading.
    pub fn open(path: &Path, options: FileOptions) -> io::Result<Self> {
        let flags = if options.direct { OFlag::O_DIRECT } else { OFlag::empty() };
        let file =
            open_with(path, !options.read_only, flags).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput if options.direct => io::Error::new(
                    error.kind(),
                    "its file system has no O_DIRECT: leave direct out",
                ),
                _ => error,
            })?;
        let regular = file.metadata()?.is_file();
        let options = FileOptions { sector_size: options.sector_size.max(512), ..options };
        let bytes = whole_sectors(file.size()?, options.sector_size)?;
        let unit = if options.direct { Self::find_unit(&file, bytes)? } else { 1 };
        let wait = if is_in_memory(&file) { Wait::May } else { Wait::MustNot };
        // Memory of another domain cannot be given to a device.
        let straight = || Straight(AtomicBool::new(!options.direct));
        let storage = FileStorage {
            file,
            bytes: AtomicU64::new(bytes),
            options,
            regular,
            wait,
            reads: straight(),
            writes: straight(),
            guard: SyncGuard::default(),
            unit,
            parts: RwLock::default(),
        };
        Ok(storage)
    }

    /// Returns the unit in which the device or file system takes requests past the page cache.
    fn find_unit(file: &File, bytes: u64) -> io::Result<u64> {
        let read = aligned(ALIGNMENT, |memory| file.read_exact_at(&mut memory[..512], 0));
        match read {
            Ok(()) => Ok(512),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let unit = ALIGNMENT as u64;
                if !bytes.is_multiple_of(unit) {
                    return Err(io::Error::new(
                        error.kind(),
                        "its length is not one of the device's sectors of 4096 bytes: leave direct \
                         out",
                    ));
                }
                Ok(unit)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the whole units that hold `len` bytes at `at`.
    fn units(&self, at: u64, len: usize) -> Range<u64> {
        at / self.unit * self.unit..(at + len as u64).next_multiple_of(self.unit)
    }

    /// Writes a part of units: the rest is read, and written once more.
    fn write_part(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let units = self.units(at, from.len());
        // Nobody else writes the rest meanwhile.
        let _alone = self.parts.write().expect("no holder panics");
        aligned((units.end - units.start) as usize, |memory| {
            self.file.read_exact_at(memory, units.start)?;
            memory[(at - units.start) as usize..][..from.len()].copy_from_slice(from);
            self.file.write_all_at(memory, units.start)
        })
    }

    /// Returns true if a request past the page cache needs other memory, or other bounds.
    fn unaligned(&self, buffer: &[u8], at: u64) -> bool {
        let place = buffer.as_ptr().addr() | buffer.len();
        let whole = self.units(at, buffer.len()) == (at..at + buffer.len() as u64);
        self.options.direct && !(place.is_multiple_of(ALIGNMENT) && whole)
    }
}

/// Opens a file or a block device, and locks it. A device that is mounted, or that another program
/// has for itself, is refused for writing.
pub(crate) fn open_locked(path: &Path, writable: bool) -> io::Result<LockedFile> {
    open_with(path, writable, OFlag::empty())
}

fn open_with(path: &Path, writable: bool, flags: OFlag) -> io::Result<LockedFile> {
    let invalid = |text| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return invalid("it is neither a file nor a block device");
    }
    let excl = if writable && kind.is_block_device() { OFlag::O_EXCL } else { OFlag::empty() };
    let mut open = OpenOptions::new();
    open.read(true).write(writable).custom_flags((flags | excl).bits());
    let file = open.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy if kind.is_block_device() => io::Error::new(
            error.kind(),
            "the device is mounted, or in use by another program: end that first",
        ),
        _ => error,
    })?;
    if file.metadata()?.file_type() != kind {
        return invalid("it was replaced while it was opened");
    }
    LockedFile::new(file, writable)
}

/// Returns true if the file system keeps files in memory alone, so that no access waits.
pub(super) fn is_in_memory(file: &File) -> bool {
    /// `RAMFS_MAGIC` of linux/magic.h.
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    let in_memory = [TMPFS_MAGIC, RAMFS_MAGIC];
    file.metadata().is_ok_and(|metadata| metadata.is_file())
        && fstatfs(file).is_ok_and(|found| in_memory.contains(&found.filesystem_type()))
}

/// Names the raw bytes of a file, whichever storage has them.
pub(super) fn raw_identity(file: &File) -> Option<String> {
    Some(format!("raw {}", file.identity()?))
}

/// Returns the fingerprint of the raw bytes of a file: its contents, and of a regular file the time
/// of its last change as well. The times of a device are those of its name.
pub(super) fn raw_fingerprint(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let mut value = fingerprint::of_contents(bytes, |at, to| file.read_exact_at(to, at))?;
    value.extend(file.stamp());
    Ok(value)
}

/// Returns the length of a disk, if it is one of whole sectors and not empty.
pub(super) fn whole_sectors(bytes: u64, sector_size: u32) -> io::Result<u64> {
    if bytes == 0 || !bytes.is_multiple_of(sector_size.into()) {
        let text = format!(
            "its length of {bytes} bytes is not one or more sectors of {sector_size}: truncate -s sets it"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(bytes)
}

/// Runs `work` on a piece of memory that is aligned for O_DIRECT.
fn aligned<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut memory = vec![0; len + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    work(&mut memory[start..start + len])
}

impl Storage for FileStorage {
    fn info(&self) -> Info {
        let FileOptions { read_only, sector_size, .. } = self.options;
        let discard = (!read_only).then_some(Discard { granularity: 4096, secure: false });
        let info = Info::new(self.bytes.load(Ordering::Relaxed)).with_sector_size(sector_size);
        Info { physical_sector_size: 4096, read_only, discard, ..info }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        if self.unaligned(to, at) {
            let units = self.units(at, to.len());
            return aligned((units.end - units.start) as usize, |memory| {
                self.file.read_exact_at(memory, units.start)?;
                to.copy_from_slice(&memory[(at - units.start) as usize..][..to.len()]);
                Ok(())
            });
        }
        self.file.read_exact_at(to, at)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        if self.options.read_only {
            return Err(read_only());
        }
        self.info().range(at, from.len() as u64)?;
        self.guard.check()?;
        if self.units(at, from.len()) != (at..at + from.len() as u64) {
            return self.write_part(at, from);
        }
        let _whole = (self.unit > 512).then(|| self.parts.read().expect("no holder panics"));
        if self.unaligned(from, at) {
            return aligned(from.len(), |memory| {
                memory.copy_from_slice(from);
                self.file.write_all_at(memory, at)
            });
        }
        self.file.write_all_at(from, at)
    }

    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        self.reads.attempt(|| {
            self.info().range(at, to.left() as u64)?;
            straight::read(&self.file, at, to, self.wait)
        })
    }

    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        if self.options.read_only || self.guard.check().is_err() {
            return None;
        }
        self.writes.attempt(|| {
            self.info().range(at, from.left() as u64)?;
            straight::write(&self.file, at, from, self.wait)
        })
    }

    fn flush(&self) -> io::Result<()> {
        match self.options.read_only {
            true => Ok(()),
            false => self.guard.sync(|| self.file.sync_data()),
        }
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        if secure || self.options.read_only {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.guard.check()?;
        if len == 0 { Ok(()) } else { punch_hole(&self.file, at, len) }
    }

    fn write_zeroes(&self, at: u64, len: u64, may_discard: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        if may_discard && len > 0 && self.regular && !self.options.read_only {
            self.guard.check()?;
            match punch_hole(&self.file, at, len) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                done => return done,
            }
        }
        super::write_zeros(self, at..at + len)
    }

    /// Sets the length of a file. A block device cannot be told, but has perhaps been resized
    /// already.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        whole_sectors(bytes, self.options.sector_size)?;
        if self.options.read_only {
            return Err(read_only());
        }
        if self.regular {
            self.file.set_len(bytes)?;
        } else if self.file.size()? < bytes {
            let text = "the block device is shorter than that: make it longer first";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.bytes.store(bytes, Ordering::Relaxed);
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
        match self.options.direct {
            true => fingerprint::of_contents(self.info().bytes, |at, to| self.read(at, to)),
            false => raw_fingerprint(&self.file, self.info().bytes),
        }
    }

    /// Each write is with the kernel when it returns.
    fn outlives(&self) -> bool {
        true
    }
}
