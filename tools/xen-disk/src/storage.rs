//! What a disk is kept in: the trait to implement, and the storages that come with the program.
//!
//! A storage of one's own is a type with four functions. `examples/mirror.rs` is one that keeps two copies; it is served
//! like any other:
//!
//! ```
//! use std::io;
//! use std::sync::RwLock;
//! use xen_disk::storage::{Info, Storage};
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
#[cfg(feature = "formats")]
mod image;
mod map;
mod mmap;
#[cfg(feature = "object")]
pub mod object;
mod overlay;
mod ram;
mod straight;
mod vhd;
mod zero;

pub use backing::Backing;
pub use cow::Cow;
pub(crate) use file::lock;
pub use file::{FileOptions, FileStorage};
#[cfg(feature = "formats")]
pub use image::{Format, Image, create_qcow2};
pub use mmap::Mmap;
pub use overlay::{CLUSTER, Moved, Overlay};
pub use ram::Ram;
pub use vhd::Vhd;
pub use xen_blk::back::Pages;
pub use zero::Zero;

use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A disk, open. Any thread may call any function at any time, also several at once.
///
/// The rules are those of a disk with a cache. A write is seen by every read that begins after the write has returned.
/// It is kept through a power failure once a [`flush`](Storage::flush) that began after it has returned; before that it
/// may be kept wholly, in part (but whole sectors) or not at all. What is written and read at the same time, in the same
/// sector, may be either.
///
/// Offsets and lengths are bytes and multiples of the sector size. A range that goes past the end is an error and changes
/// nothing: [`Info::range`] checks both.
pub trait Storage: Send + Sync {
    /// What disk this is, as it is now: it can be resized.
    fn info(&self) -> Info;

    /// Fills `to` from the bytes at `at`.
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()>;

    /// Puts `from` at `at`. Not called for a storage that is read-only.
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()>;

    /// Does a read straight into the guest's pages, if that needs no waiting and no memory in between: for storages that are
    /// in memory themselves. `None` if it cannot: nothing of it is done then, and [`Storage::read`] is called.
    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        let _ = (at, to);
        None
    }

    /// Does a write straight from the guest's pages, as [`Storage::read_now`] a read.
    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        let _ = (at, from);
        None
    }

    /// Makes what was written so far outlast a power failure.
    fn flush(&self) -> io::Result<()>;

    /// Forgets `len` bytes at `at`: what is read there afterwards is anything, until it is written. With `secure`, what
    /// was there must not be left anywhere.
    ///
    /// Called only if [`Info::discard`] says that it can be, and with `secure` only if that is said there, too. It may
    /// be [`io::ErrorKind::Unsupported`] all the same, if that is found out late.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let _ = (at, len, secure);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes the disk `bytes` long, a multiple of the sector size. New bytes are zero.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Err(io::Error::new(io::ErrorKind::Unsupported, "this storage cannot be resized"))
    }

    /// What tells this disk from others, and from itself once somebody else has written it: for those who keep something
    /// that belongs to it.
    fn identity(&self) -> io::Result<Vec<u8>> {
        Ok(self.info().bytes.to_le_bytes().into())
    }

    /// Whether what was written is there after this program is killed, flushed or not. If it is not, a disk of a killed
    /// program is not gone on with: its guest's next flush would be answered, and what was lost would be missing from it.
    fn outlives(&self) -> bool {
        true
    }

    /// Whether calls end so soon that it is not worth to hand them to another thread.
    fn pace(&self) -> Pace {
        Pace::Slow
    }
}

/// How long the calls of a storage take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// No longer than memory takes to be copied: they run on the thread that serves the guest.
    Quick,
    /// Likewise, but a flush waits for a device.
    QuickUntilFlush,
    /// They may wait for something: they run on threads of their own.
    Slow,
}

/// What a disk is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its length, in bytes.
    pub bytes: u64,
    /// The least that can be read or written, in bytes: 512 or 4096.
    pub sector_size: u32,
    /// What is best read and written at a time, in bytes.
    pub physical_sector_size: u32,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// What can be forgotten, if anything.
    pub discard: Option<Discard>,
}

/// How a storage forgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discard {
    /// The least that is worth forgetting, in bytes.
    pub granularity: u32,
    /// Whether it can be told that nothing may be left.
    pub secure: bool,
}

impl Info {
    /// A disk of so many bytes, with sectors of 512 bytes, that can be written and cannot be told to forget.
    pub const fn new(bytes: u64) -> Self {
        Info { bytes, sector_size: 512, physical_sector_size: 512, read_only: false, discard: None }
    }

    /// The same with sectors of `size` bytes, 512 or 4096.
    pub fn with_sector_size(self, size: u32) -> Self {
        Info { sector_size: size, physical_sector_size: size.max(self.physical_sector_size), ..self }
    }

    /// The range of `len` bytes at `at`, if it lies within the disk and is one of whole sectors.
    pub fn range(&self, at: u64, len: u64) -> io::Result<Range<usize>> {
        let sector = u64::from(self.sector_size);
        let end = at.checked_add(len).filter(|end| *end <= self.bytes);
        let whole = at.is_multiple_of(sector) && len.is_multiple_of(sector);
        let range = end.filter(|_| whole).and_then(|end| Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?));
        range.ok_or_else(|| {
            let Info { bytes, sector_size, .. } = self;
            let text =
                format!("no sectors at {at}, {len} bytes: the disk has {bytes} bytes in sectors of {sector_size}");
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
    fn resize(&self, bytes: u64) -> io::Result<()> {
        (**self).resize(bytes)
    }
    fn identity(&self) -> io::Result<Vec<u8>> {
        (**self).identity()
    }
    fn outlives(&self) -> bool {
        (**self).outlives()
    }
    fn pace(&self) -> Pace {
        (**self).pace()
    }
}

/// The error of a write to what cannot be written.
pub(crate) fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the storage is read-only")
}
