//! Locks against other programs: flock(2), which ours take, and the byte locks of QEMU.
//!
//! QEMU holds a shared lock on byte 100 + P for each permission P that it uses, and on byte 200 + P
//! for each that it does not grant to others (`block/file-posix.c`, "image locking" in its manual).
//! A program first takes its own, and then looks for conflicting ones.

use super::Backing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileTypeExt;

/// QEMU's permissions that matter here, as bits.
const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;
/// Byte of the first permission that is used, and of the first that is not granted.
const USED: i64 = 100;
const REFUSED: i64 = 200;

/// A file with a lock on it, which it gives back when it is dropped.
///
/// Closing the file would not do: a child that another thread forks holds a copy of every
/// descriptor until it starts its own program, and for as long the lock of this one. So a disk that
/// is closed and opened at once would be refused as in use.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Locks `file` among our own programs, with others that only read it or alone; `None` if
    /// others have it.
    pub fn try_new(file: File, alone: bool) -> io::Result<Option<LockedFile>> {
        match if alone { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => Ok(Some(LockedFile(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Locks the file of a disk, also against QEMU: two guests that write one disk destroy it.
    pub fn new(file: File, alone: bool) -> io::Result<LockedFile> {
        let file = LockedFile::try_new(file, alone)?.ok_or_else(|| {
            busy("another program serves it; stop that, or open it read-only in both")
        })?;
        // QEMU takes no byte locks on devices.
        if file.metadata()?.file_type().is_block_device() {
            return Ok(file);
        }
        match lock_for_qemu(&file, alone) {
            // A file system without such locks: QEMU has none there either.
            Err(error) if is_unsupported(&error) => Ok(file),
            done => done.map(|()| file),
        }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // What fails has no lock to give back.
        let mut all = range(libc::F_UNLCK, USED);
        all.l_len = 2 * (REFUSED - USED);
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&all));
        let _ = self.0.unlock();
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Backing for LockedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        Backing::read_at(&self.0, at, to)
    }

    fn write_at(&self, at: u64, from: &[u8]) -> io::Result<()> {
        Backing::write_at(&self.0, at, from)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Backing::set_len(&self.0, bytes)
    }

    fn is_device(&self) -> bool {
        self.0.is_device()
    }

    fn punch(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.punch(at, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        self.0.next_data(at)
    }

    fn identity(&self) -> Option<String> {
        self.0.identity()
    }

    fn stamp(&self) -> Vec<u8> {
        self.0.stamp()
    }

    fn boot(&self) -> [u8; 16] {
        self.0.boot()
    }
}

fn lock_for_qemu(file: &File, alone: bool) -> io::Result<()> {
    let used: &[i64] = if alone { &[CONSISTENT_READ, WRITE, RESIZE] } else { &[CONSISTENT_READ] };
    // As QEMU does for a guest's disk: a reader must say that the disk may change meanwhile
    // (`qemu-img --force-share`).
    let refused: &[i64] = &[WRITE, RESIZE];
    for byte in used.iter().map(|p| USED + p).chain(refused.iter().map(|p| REFUSED + p)) {
        fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte))).map_err(
            |errno| match errno {
                Errno::EAGAIN | Errno::EACCES => busy_qemu(),
                other => other.into(),
            },
        )?;
    }
    for byte in used.iter().map(|p| REFUSED + p).chain(refused.iter().map(|p| USED + p)) {
        // Our own locks do not conflict: they belong to the same open file.
        let mut found = range(libc::F_WRLCK, byte);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
        if i32::from(found.l_type) != libc::F_UNLCK {
            return Err(busy_qemu());
        }
    }
    Ok(())
}

fn range(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let codes = [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn busy_qemu() -> io::Error {
    busy("QEMU, or a program with its locks, has it open: stop that, or open it read-only in both")
}

fn busy(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, text)
}
