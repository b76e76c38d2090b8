//! Storages that hold the data of a disk.

pub(super) mod ram;

use crate::protocol::DiscardInfo;
use alloc::vec::Vec;
use core::ptr::NonNull;

/// Properties of a storage. Sectors are of 512 bytes unless noted otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its size, in sectors of 512 bytes whatever its own are.
    pub sectors: u64,
    /// Bytes in one of its sectors, 512 or 4096: the smallest read or write.
    pub sector_size: u32,
    /// Bytes in one sector of the medium below; smaller writes are slow.
    pub physical_sector_size: u32,
    /// It cannot be written.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// It is a CD-ROM drive.
    pub cdrom: bool,
    /// It takes flushes.
    pub flush: bool,
    /// It offers barriers, which the backend makes of a flush before and one after.
    pub barrier: bool,
    /// Parameters of discards, if it takes them.
    pub discard: Option<DiscardInfo>,
}

impl Info {
    /// Describes a disk of that size with sectors of 512 bytes, flushes and barriers, that can be
    /// written.
    pub fn new(sectors: u64) -> Info {
        Info {
            sectors,
            sector_size: 512,
            physical_sector_size: 512,
            read_only: false,
            removable: false,
            cdrom: false,
            flush: true,
            barrier: true,
            discard: None,
        }
    }
}

/// Failure of a storage. The frontend learns no more than this; a storage that knows more logs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It failed; parts of a write may have been done.
    #[error("it failed")]
    Failed,
    /// It has no such operation, and did nothing.
    #[error("it cannot do that")]
    Unsupported,
}

/// The frontend's pages of a read or a write, where the backend has them mapped: what is copied
/// here needs no private memory in between. The bytes are those of the request, in the order of the
/// disk, each to be copied once; more than the request has is a panic. The frontend can change them
/// at any time, so that what is taken twice may differ.
pub trait Pages {
    /// Returns the number of bytes that are left to be copied.
    fn left(&self) -> usize;
    /// Copies the next `to.len()` bytes of a write.
    fn take(&mut self, to: &mut [u8]);
    /// Copies `from` to where the next bytes of a read are wanted.
    fn put(&mut self, from: &[u8]);
    /// Returns the addresses of all bytes that are left to be copied, in the order of the disk: for
    /// storages that have the kernel copy them, or copy them as memory that others change. They are
    /// valid for as long as the value lives. Returns `None` if the platform has no addresses.
    fn areas(&self) -> Option<Vec<Area>>;
}

/// Some bytes of the frontend's, in one of its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// The first of them.
    pub start: NonNull<u8>,
    /// Number of bytes.
    pub len: usize,
}

/// A storage that holds a disk's data, behind a backend.
///
/// The backend has checked that every operation lies within [`Info::sectors`] and consists of whole
/// sectors of [`Info::sector_size`]. Sectors are counted in units of 512 bytes. Slices begin at the
/// start of a page of memory, except where one of several merged requests is tried again alone.
///
/// Functions are called again before the futures of earlier calls are done. Operations that overlap
/// in time may happen in any order; a flush begins after the end of all writes that it covers. A
/// future can be dropped before its end when a disk is removed by force.
#[expect(async_fn_in_trait, reason = "backends run on one thread")]
pub trait Storage {
    /// Returns its properties as they are now.
    fn info(&self) -> Info;
    /// Fills `to` from `sector` on.
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error>;
    /// Writes `from` at `sector` on. Reads that begin after the end of this see it.
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error>;
    /// Reads at once, without private memory in between. Returns `None` if the storage cannot
    /// complete it without blocking: then [`Storage::read`] is called for all of it.
    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        let _ = (sector, to);
        None
    }
    /// Writes at once, as [`Storage::read_now`] reads.
    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        let _ = (sector, from);
        None
    }
    /// Makes all writes that ended before this durable: they survive a power failure. After a
    /// failure the backend fails every later write and flush until the disk is served anew.
    async fn flush(&self) -> Result<(), Error>;
    /// Discards `count` sectors. With `secure`, which is used only if it is offered, no means may
    /// exist to read them again.
    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error>;
    /// Waits until [`Storage::info`] changes: another size. A change while no task waited ends the
    /// next wait at once. Stays pending for a storage whose size never changes.
    async fn changed(&self) {
        core::future::pending().await
    }
}
