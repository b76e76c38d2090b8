//! `file`: an image file or a block device, with pread(2) and pwrite(2).

use super::backing::punch_hole;
use super::straight::{self, Wait};
use super::{Discard, Info, Pages, Storage, read_only};
use nix::fcntl::OFlag;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// O_DIRECT wants memory, offsets and lengths in multiples of the device's block; 4096 suits every device.
const ALIGNMENT: usize = 4096;

/// How to open a file.
#[derive(Clone, Copy, Default, Debug)]
pub struct FileOptions {
    /// Not to write it.
    pub read_only: bool,
    /// Past the page cache (O_DIRECT).
    pub direct: bool,
    /// Bytes of a sector, 512 or 4096; 0 is 512.
    pub sector_size: u32,
}

/// A disk in a file or on a block device.
pub struct FileStorage {
    file: File,
    bytes: AtomicU64,
    options: FileOptions,
    regular: bool,
    /// What reads and writes from the guest's pages may do.
    wait: Wait,
    reads: Straight,
    writes: Straight,
}

/// Whether it is worth trying to read, or write, straight to or from the guest's pages.
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
    /// Opens the file, which exists, and locks it against other programs that serve it: alone for writing, with others
    /// for reading.
    pub fn open(path: &Path, options: FileOptions) -> io::Result<Self> {
        let mut open = OpenOptions::new();
        open.read(true).write(!options.read_only);
        if options.direct {
            open.custom_flags(OFlag::O_DIRECT.bits());
        }
        let mut file = open.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput if options.direct => {
                io::Error::new(error.kind(), "its file system has no O_DIRECT: leave direct out")
            }
            _ => error,
        })?;
        lock(&file, !options.read_only)?;
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file nor a block device"));
        }
        // The metadata of a block device tells no length.
        let options = FileOptions { sector_size: options.sector_size.max(512), ..options };
        let bytes = whole_sectors(file.seek(SeekFrom::End(0))?, options.sector_size)?;
        let wait = if kind.is_file() && is_in_memory(&file) { Wait::May } else { Wait::MustNot };
        // Memory of another domain cannot be given to a device.
        let straight = || Straight(AtomicBool::new(!options.direct));
        let (bytes, regular, reads, writes) = (AtomicU64::new(bytes), kind.is_file(), straight(), straight());
        Ok(FileStorage { file, bytes, options, regular, wait, reads, writes })
    }

    fn unaligned(&self, buffer: &[u8]) -> bool {
        self.options.direct && !(buffer.as_ptr().addr() | buffer.len()).is_multiple_of(ALIGNMENT)
    }
}

/// Whether the file system keeps files in memory alone, so that no access waits.
fn is_in_memory(file: &File) -> bool {
    /// `RAMFS_MAGIC` of linux/magic.h.
    const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
    let in_memory = [TMPFS_MAGIC, RAMFS_MAGIC];
    fstatfs(file).is_ok_and(|found| in_memory.contains(&found.filesystem_type()))
}

/// Keeps others from serving the same file: two guests that write one disk destroy it.
pub(crate) fn lock(file: &File, alone: bool) -> io::Result<()> {
    match if alone { file.try_lock() } else { file.try_lock_shared() } {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let text = "another program serves it; stop that, or open it read-only in both";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The length of a disk, if it is one of whole sectors and not empty.
pub(super) fn whole_sectors(bytes: u64, sector_size: u32) -> io::Result<u64> {
    if bytes == 0 || !bytes.is_multiple_of(sector_size.into()) {
        let text =
            format!("its length of {bytes} bytes is not one or more sectors of {sector_size}: truncate -s sets it");
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
        if self.unaligned(to) {
            return aligned(to.len(), |memory| {
                self.file.read_exact_at(memory, at)?;
                to.copy_from_slice(memory);
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
        if self.unaligned(from) {
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
        self.writes.attempt(|| {
            self.info().range(at, from.left() as u64)?;
            straight::write(&self.file, at, from, self.wait)
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.options.read_only { Ok(()) } else { self.file.sync_data() }
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        if secure || self.options.read_only {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if len == 0 { Ok(()) } else { punch_hole(&self.file, at, len) }
    }

    /// Sets the length of a file. A block device cannot be told, but has perhaps been resized already.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        whole_sectors(bytes, self.options.sector_size)?;
        if self.regular {
            self.file.set_len(bytes)?;
        } else if (&self.file).seek(SeekFrom::End(0))? < bytes {
            let text = "the block device is shorter than that: make it longer first";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Its length and when it was written last.
    fn identity(&self) -> io::Result<Vec<u8>> {
        let metadata = self.file.metadata()?;
        let numbers = [metadata.len().cast_signed(), metadata.mtime(), metadata.mtime_nsec()];
        Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
    }
}
