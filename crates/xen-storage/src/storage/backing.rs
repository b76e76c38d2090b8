//! The file of a format, as a trait, so that tests can cut its power.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::time::SystemTime;

/// A file as a format sees it: bytes at offsets, and a promise when they are kept.
pub trait Backing: Send + Sync {
    /// Its length, in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `to` from the bytes at `at`; an error if there are fewer.
    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()>;
    /// Puts `from` at `at`, and makes the file longer if it ends before.
    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()>;
    /// Makes the file `bytes` long; new bytes are zero.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Returns true if its length cannot change, and what was never written may hold anything: it
    /// is a block device.
    fn is_device(&self) -> bool {
        false
    }
    /// Makes `len` bytes at `at` zero and gives their room back, if the file system can.
    fn punch(&self, at: u64, len: u64) -> io::Result<()>;
    /// Makes what was done so far outlast a power failure.
    fn sync(&self) -> io::Result<()>;
    /// Returns the first range at or after `at` that is no hole; `None` if only holes follow.
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.size()?;
        Ok((at < bytes).then_some(at..bytes))
    }
    /// Names the file and no other for as long as the machine runs.
    fn identity(&self) -> Option<String> {
        None
    }
    /// Returns the time of the last change, as far as it is known.
    fn stamp(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Names the run of the machine. What was written without a sync is there for as long as it
    /// lasts, whatever happens to this program.
    fn boot(&self) -> [u8; 16] {
        [0; 16]
    }
}

impl Backing for File {
    /// Returns the length of a file or a block device, whose metadata tell none.
    fn size(&self) -> io::Result<u64> {
        let mut file = self;
        file.seek(SeekFrom::End(0))
    }

    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(to, at)
    }

    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.write_all_at(from, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn is_device(&self) -> bool {
        self.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        punch_hole(self, at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.size()?;
        let Ok(offset) = i64::try_from(at) else { return Ok(None) };
        let start = match lseek(self, offset, Whence::SeekData) {
            Ok(start) => start.cast_unsigned(),
            Err(Errno::ENXIO) => return Ok(None),
            // A device, or a file system that cannot tell.
            Err(_) => return Ok((at < bytes).then_some(at..bytes)),
        };
        let end = lseek(self, start.cast_signed(), Whence::SeekHole);
        Ok(Some(start..end.map_or(bytes, i64::cast_unsigned).max(start)).filter(|r| !r.is_empty()))
    }

    fn identity(&self) -> Option<String> {
        let metadata = self.metadata().ok()?;
        Some(match metadata.file_type().is_block_device() {
            true => format!("device {}", metadata.rdev()),
            false => format!("inode {} on {}", metadata.ino(), metadata.dev()),
        })
    }

    fn stamp(&self) -> Vec<u8> {
        let times = self.metadata().ok().filter(|metadata| metadata.is_file());
        let times = times.map(|metadata| [metadata.mtime(), metadata.mtime_nsec()]);
        times.into_iter().flatten().flat_map(i64::to_le_bytes).collect()
    }

    fn boot(&self) -> [u8; 16] {
        let mut id = [0; 16];
        // Without one, no two runs are the same.
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_else(|_| format!("{:?}", SystemTime::now()));
        let digits = text.bytes().filter_map(|digit| char::from(digit).to_digit(16));
        for (n, digit) in digits.enumerate() {
            id[n / 2 % 16] ^= (digit as u8) << (4 * (1 - n % 2));
        }
        id
    }
}

/// Makes `len` bytes at `at` zero and gives their room back; [`io::ErrorKind::Unsupported`] if the
/// file system cannot.
pub(super) fn punch_hole(file: &File, at: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let offset =
        |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (at, len) = (offset(at)?, offset(len)?);
    loop {
        match fallocate(file, flags, at, len) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}
