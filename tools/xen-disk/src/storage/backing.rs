//! What the formats need of the file they are kept in, so that tests can cut its power.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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
    /// Makes `len` bytes at `at` zero and gives their room back, if the file system can.
    fn punch(&self, at: u64, len: u64) -> io::Result<()>;
    /// Makes what was done so far outlast a power failure.
    fn sync(&self) -> io::Result<()>;
}

impl Backing for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
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

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        punch_hole(self, at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Makes `len` bytes at `at` zero and gives their room back; [`io::ErrorKind::Unsupported`] if the file system cannot.
pub(super) fn punch_hole(file: &File, at: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let offset = |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let (at, len) = (offset(at)?, offset(len)?);
    loop {
        match fallocate(file, flags, at, len) {
            Err(Errno::EINTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}
