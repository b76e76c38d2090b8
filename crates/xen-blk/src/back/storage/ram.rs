//! A disk in memory.

use crate::back::storage::{Error, Info, Pages, Storage};
use crate::protocol::DiscardInfo;
use alloc::collections::TryReserveError;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::ops::Range;
use xen_abi::blkif::SECTOR;
use xen_platform::EventCounter;

/// A [`Storage`] in memory, which never blocks.
pub struct Ram {
    info: Cell<Info>,
    bytes: RefCell<Vec<u8>>,
    resized: EventCounter,
    /// Count of changes that were reported.
    reported: Cell<u32>,
}

impl Ram {
    /// Creates a zeroed disk with these properties.
    pub fn new(info: Info) -> Ram {
        let bytes = vec![0; info.sectors as usize * SECTOR];
        Ram {
            info: Cell::new(info),
            bytes: RefCell::new(bytes),
            resized: EventCounter::new(),
            reported: Cell::new(0),
        }
    }

    /// Creates a zeroed disk of `sectors` sectors of 512 bytes with all features.
    pub fn with_sectors(sectors: u64) -> Ram {
        Self::new(all_features(sectors))
    }

    /// The same, unless there is no memory for it.
    pub fn try_with_sectors(sectors: u64) -> Result<Ram, TryReserveError> {
        let len = usize::try_from(sectors).ok().and_then(|count| count.checked_mul(SECTOR));
        let ram = Self::new(all_features(0));
        let mut bytes = Vec::new();
        // More than there can be is refused like more than there is.
        bytes.try_reserve_exact(len.unwrap_or(usize::MAX))?;
        bytes.resize(len.unwrap_or_default(), 0);
        ram.bytes.replace(bytes);
        ram.info.set(all_features(sectors));
        Ok(ram)
    }

    /// Changes its size; new sectors are zeroed.
    pub fn resize(&self, sectors: u64) {
        self.bytes.borrow_mut().resize(sectors as usize * SECTOR, 0);
        self.info.set(Info { sectors, ..self.info.get() });
        self.resized.signal();
    }

    /// Copies the bytes from `sector` on out. Panics if the disk ends before that.
    pub fn peek(&self, sector: u64, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes.borrow()[range(sector, to.len())]);
    }

    /// Changes the bytes from `sector` on. Panics if the disk ends before that.
    pub fn poke(&self, sector: u64, from: &[u8]) {
        self.bytes.borrow_mut()[range(sector, from.len())].copy_from_slice(from);
    }
}

fn all_features(sectors: u64) -> Info {
    let discard = Some(DiscardInfo { granularity: SECTOR as u32, alignment: 0, secure: true });
    Info { discard, ..Info::new(sectors) }
}

fn range(sector: u64, len: usize) -> Range<usize> {
    let start = sector as usize * SECTOR;
    start..start + len
}

impl Storage for Ram {
    fn info(&self) -> Info {
        self.info.get()
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        // It can have been made shorter since the request was checked.
        let bytes = self.bytes.borrow();
        to.copy_from_slice(bytes.get(range(sector, to.len())).ok_or(Error::Failed)?);
        Ok(())
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        let mut bytes = self.bytes.borrow_mut();
        bytes.get_mut(range(sector, from.len())).ok_or(Error::Failed)?.copy_from_slice(from);
        Ok(())
    }

    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        let done = self.bytes.borrow().get(range(sector, to.left())).map(|bytes| to.put(bytes));
        Some(done.ok_or(Error::Failed))
    }

    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        let done = self
            .bytes
            .borrow_mut()
            .get_mut(range(sector, from.left()))
            .map(|bytes| from.take(bytes));
        Some(done.ok_or(Error::Failed))
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64, _secure: bool) -> Result<(), Error> {
        let mut bytes = self.bytes.borrow_mut();
        bytes.get_mut(range(sector, count as usize * SECTOR)).ok_or(Error::Failed)?.fill(0);
        Ok(())
    }

    async fn changed(&self) {
        let mut reported = self.reported.get();
        poll_fn(|cx| self.resized.poll_after(&mut reported, cx)).await;
        self.reported.set(reported);
    }
}
