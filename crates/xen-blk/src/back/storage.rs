//! What a disk is kept in.

use crate::front::DiscardInfo;
use alloc::vec::Vec;
use core::ptr::NonNull;

/// What a storage is like. Sectors are of 512 bytes unless it is said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its size, in sectors of 512 bytes whatever its own are.
    pub sectors: u64,
    /// Bytes in one of its sectors, 512 or 4096: the least that it reads or writes.
    pub sector_size: u32,
    /// Bytes in one sector of the medium below; smaller writes are slow.
    pub physical_sector_size: u32,
    /// It cannot be written.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// It is a CD-ROM drive.
    pub cdrom: bool,
    /// It can be flushed.
    pub flush: bool,
    /// Writes can be barriers; the backend makes them of a flush before and one after.
    pub barrier: bool,
    /// How it discards, if it does.
    pub discard: Option<DiscardInfo>,
}

impl Info {
    /// A disk of that size, with sectors of 512 bytes, that can be written and flushed, with barriers.
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

/// Why a storage did not do what it was asked. The frontend is told no more than this; a storage that knows more logs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// It failed; parts of a write may have been done.
    #[error("it failed")]
    Failed,
    /// It cannot do such a thing at all, and did nothing.
    #[error("it cannot do that")]
    Unsupported,
}

/// The frontend's pages of a read or a write, where the backend has them mapped: what is copied here needs no private memory
/// in between. The bytes are those of the request, in the order of the disk, each to be copied once; more than the
/// request has is a panic. The frontend can change them at any time, so that what is taken twice may differ.
pub trait Pages {
    /// How many bytes are left to be copied.
    fn left(&self) -> usize;
    /// Copies the next `to.len()` bytes of a write.
    fn take(&mut self, to: &mut [u8]);
    /// Copies `from` to where the next bytes of a read are wanted.
    fn put(&mut self, from: &[u8]);
    /// Where all that is left to be copied is in the program's memory, in the order of the disk: for storages that have the
    /// kernel copy it, or copy it themselves as memory that others change. It is there for as long as the value lives.
    /// `None` where the platform has no addresses.
    fn areas(&self) -> Option<Vec<Area>>;
}

/// Some bytes of the frontend's, in one of its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// The first of them.
    pub start: NonNull<u8>,
    /// How many there are.
    pub len: usize,
}

/// Where a disk's data are, behind a backend.
///
/// The backend has checked that what it asks for lies within [`Info::sectors`] and is made of whole sectors of
/// [`Info::sector_size`]. Sectors are counted in units of 512 bytes. Slices begin at the start of a page of memory, except
/// where one of several requests that were put together is tried again alone.
///
/// Functions are called again before the futures of earlier calls are done. What overlaps in time may happen in any
/// order; flushes come after the end of all that they are to cover. A future can be dropped before its end when a
/// disk is removed by force.
#[expect(async_fn_in_trait, reason = "backends run on one thread")]
pub trait Storage {
    /// What it is like now.
    fn info(&self) -> Info;
    /// Fills `to` from `sector` on.
    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error>;
    /// Writes `from` at `sector` on. Reads that begin after the end of this see it.
    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error>;
    /// Does a read at once and without private memory in between, and says how it went. `None` of who cannot, or would have
    /// to wait: [`Storage::read`] is asked then, for all of it.
    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        let _ = (sector, to);
        None
    }
    /// Does a write at once, as [`Storage::read_now`] a read.
    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        let _ = (sector, from);
        None
    }
    /// Brings all writes that ended before this to where a power failure does not take them away.
    async fn flush(&self) -> Result<(), Error>;
    /// Does away with `count` sectors. With `secure`, so that nothing can read them again by any means; asked only of who
    /// offers it.
    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error>;
    /// Waits until [`Storage::info`] says something new: another size. A change that came when nobody waited ends the
    /// next wait at once. Never ends for who does not change.
    async fn changed(&self) {
        core::future::pending().await
    }
}
