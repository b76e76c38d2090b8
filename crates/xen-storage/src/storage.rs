//! Storages of disks: the trait to implement, and the storages that come with this crate.
//!
//! A storage of one's own is a type with four functions. `examples/mirror.rs` is one that keeps two
//! copies, with a name in the language of stacks:
//!
//! ```
//! use std::io;
//! use std::sync::RwLock;
//! use xen_storage::storage::{Info, Storage};
//!
//! struct Bytes(RwLock<Vec<u8>>);
//!
//! impl Storage for Bytes {
//!     fn info(&self) -> Info {
//!         Info::new(self.0.read().unwrap().len() as u64)
//!     }
//!     fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
//!         let range = self.info().range(at, to.len() as u64)?;
//!         to.copy_from_slice(&self.0.read().unwrap()[range]);
//!         Ok(())
//!     }
//!     fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
//!         let range = self.info().range(at, from.len() as u64)?;
//!         self.0.write().unwrap()[range].copy_from_slice(from);
//!         Ok(())
//!     }
//!     fn flush(&self) -> io::Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! let disk = Bytes(RwLock::new(vec![0; 1 << 20]));
//! disk.write(512, &[7; 512]).unwrap();
//! assert!(disk.read(1 << 20, &mut [0; 512]).is_err());
//! ```

mod backing;
mod cow;
mod file;
mod fingerprint;
mod lock;
mod map;
mod mmap;
mod nbd;
#[cfg(feature = "object")]
pub mod object;
mod overlay;
#[cfg(feature = "formats")]
mod qcow2;
mod ram;
mod straight;
mod sync_guard;
mod vhd;
mod vmdk;
mod zero;

pub use backing::Backing;
pub use cow::Cow;
pub(crate) use file::open_locked;
pub use file::{FileOptions, FileStorage};
pub(crate) use lock::LockedFile;
pub use mmap::Mmap;
pub use nbd::{Nbd, NbdOptions};
pub use overlay::{CLUSTER, Moved, Overlay};
#[cfg(feature = "formats")]
pub use qcow2::{Qcow2, create_qcow2};
pub use ram::Ram;
pub use vhd::Vhd;
pub use vmdk::Vmdk;
pub use xen_blk::back::Pages;
pub use zero::Zero;

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A disk, open: implemented by storages, whatever they keep their bytes in. (The backend of
/// `xen-blk` has a trait of its own, in sectors and asynchronous, that `xen-disk` implements once
/// for all of these.) Any thread may call any function at any time, also several at once.
///
/// The rules are those of a disk with a cache. A write is seen by every read that begins after the
/// write has returned. It is kept through a power failure once a [`flush`](Storage::flush) that
/// began after it has returned; before that it may be kept wholly, in part (but whole sectors) or
/// not at all. Reads and writes of one sector at the same time may see either.
///
/// Offsets and lengths are bytes and multiples of the sector size. A range that goes past the end
/// is an error and changes nothing: [`Info::range`] checks both.
pub trait Storage: Send + Sync {
    /// Returns the disk's properties as they are now: it can be resized.
    fn info(&self) -> Info;

    /// Fills `to` from the bytes at `at`.
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()>;

    /// Puts `from` at `at`. Not called for a storage that is read-only.
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()>;

    /// Reads straight into the guest's pages, if the data are in memory already. Returns `None` if
    /// the storage cannot complete it without blocking or copying: nothing is done then, and
    /// [`Storage::read`] is called.
    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        let _ = (at, to);
        None
    }

    /// Writes straight from the guest's pages, as [`Storage::read_now`] reads.
    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        let _ = (at, from);
        None
    }

    /// Makes what was written so far outlast a power failure.
    fn flush(&self) -> io::Result<()>;

    /// Forgets `len` bytes at `at`: reads return anything there, until it is written. With
    /// `secure`, nothing of the old contents may be left anywhere.
    ///
    /// Called only if [`Info::discard`] says that it can be, and with `secure` only if that is said
    /// there, too. It may be [`io::ErrorKind::Unsupported`] all the same, if that is found out
    /// late.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let _ = (at, len, secure);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes zeros. With `may_discard` they need keep no room.
    fn write_zeroes(&self, at: u64, len: u64, may_discard: bool) -> io::Result<()> {
        let _ = may_discard;
        let end = at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        write_zeros(self, at..end)
    }

    /// Makes the disk `bytes` long, a multiple of the sector size. New bytes are zero.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this storage cannot be resized"))
    }

    /// Returns the first range at or after `at` that may hold something but zeros; `None` if only
    /// zeros follow. A copy leaves the rest out.
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.info().bytes;
        Ok((at < bytes).then_some(at..bytes))
    }

    /// Names this disk and no other for as long as the machine runs, whatever is written to it. A
    /// server that takes a disk over from a killed one compares it. `None` is never taken over.
    fn identity(&self) -> Option<String> {
        None
    }

    /// Returns a value that differs once somebody has changed the disk: an overlay keeps that of
    /// the disk below. By default it is the length, and a hash of samples all over the contents.
    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        fingerprint::of_contents(self.info().bytes, |at, to| self.read(at, to))
    }

    /// Returns true if each write and discard that has returned is still there after this program
    /// is killed, flushed or not: all of it is with the kernel or another program by then, also
    /// what the storage writes down about it. A disk whose storage does not promise that is not
    /// taken over from a killed server: its guest's next flush would succeed, and writes before it
    /// would be missing.
    fn outlives(&self) -> bool {
        false
    }

    /// Tells which calls are short enough to make on the thread that serves all guests.
    fn pace(&self) -> Pace {
        Pace::Slow
    }
}

/// Duration of a storage's calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// No longer than memory takes to be copied: they run on the thread that serves the guest.
    Quick,
    /// Likewise, but a flush waits for a device.
    QuickUntilFlush,
    /// They may wait for something: they run on threads of their own.
    Slow,
}

/// A disk's properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Length of the disk in bytes.
    pub bytes: u64,
    /// Smallest unit of reads and writes in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Best unit of reads and writes in bytes.
    pub physical_sector_size: u32,
    /// Set if it cannot be written.
    pub read_only: bool,
    /// Properties of discards, if it can discard.
    pub discard: Option<Discard>,
}

/// Properties of discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discard {
    /// Smallest discard that gives room back, in bytes.
    pub granularity: u32,
    /// Set if it can discard so that nothing is left.
    pub secure: bool,
}

impl Info {
    /// A writable disk of `bytes`, with sectors of 512 bytes and without discards.
    pub const fn new(bytes: u64) -> Self {
        Info { bytes, sector_size: 512, physical_sector_size: 512, read_only: false, discard: None }
    }

    /// The same with sectors of `size` bytes, 512 or 4096.
    pub fn with_sector_size(self, size: u32) -> Self {
        Info {
            sector_size: size,
            physical_sector_size: size.max(self.physical_sector_size),
            ..self
        }
    }

    /// Returns the range of `len` bytes at `at`, if it lies within the disk and is one of whole
    /// sectors.
    pub fn range(&self, at: u64, len: u64) -> io::Result<Range<usize>> {
        let sector = u64::from(self.sector_size);
        let end = at.checked_add(len).filter(|end| *end <= self.bytes);
        let whole = at.is_multiple_of(sector) && len.is_multiple_of(sector);
        let range = end
            .filter(|_| whole)
            .and_then(|end| Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?));
        range.ok_or_else(|| {
            let Info { bytes, sector_size, .. } = self;
            let text = format!(
                "no sectors at {at}, {len} bytes: \
                 the disk has {bytes} bytes in sectors of {sector_size}"
            );
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn info(&self) -> Info {
        (**self).info()
    }
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        (**self).read(at, to)
    }
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        (**self).write(at, from)
    }
    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        (**self).read_now(at, to)
    }
    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        (**self).write_now(at, from)
    }
    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        (**self).discard(at, len, secure)
    }
    fn write_zeroes(&self, at: u64, len: u64, may_discard: bool) -> io::Result<()> {
        (**self).write_zeroes(at, len, may_discard)
    }
    fn resize(&self, bytes: u64) -> io::Result<()> {
        (**self).resize(bytes)
    }
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        (**self).next_data(at)
    }
    fn identity(&self) -> Option<String> {
        (**self).identity()
    }
    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        (**self).fingerprint()
    }
    fn outlives(&self) -> bool {
        (**self).outlives()
    }
    fn pace(&self) -> Pace {
        (**self).pace()
    }
}

/// Writes zeros as data.
fn write_zeros(disk: &(impl Storage + ?Sized), range: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(ZEROS.len() as u64);
        disk.write(at, &ZEROS[..len as usize])?;
        at += len;
    }
    Ok(())
}

/// The error of a write to what cannot be written.
pub(crate) fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the storage is read-only")
}
