//! A fence behind a failed flush.
//!
//! Operating systems drop pages that they could not write back, and report it once: a later flush
//! would succeed although data are lost. So after a flush that failed, every write, flush and
//! discard of the disk fails, until the disk is served anew and its owner has looked at it.

use crate::back::storage::{Error, Info, Pages, Storage};
use core::cell::Cell;

/// A storage behind the fence.
pub(in crate::back) struct WriteFence<'a, S> {
    storage: &'a S,
    flush_failed: Cell<bool>,
}

impl<'a, S: Storage> WriteFence<'a, S> {
    pub fn new(storage: &'a S) -> Self {
        WriteFence { storage, flush_failed: Cell::new(false) }
    }

    fn check(&self) -> Result<(), Error> {
        if self.flush_failed.get() { Err(Error::Failed) } else { Ok(()) }
    }
}

impl<S: Storage> Storage for WriteFence<'_, S> {
    fn info(&self) -> Info {
        self.storage.info()
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), Error> {
        self.storage.read(sector, to).await
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), Error> {
        self.check()?;
        self.storage.write(sector, from).await?;
        // Written before a flush that failed meanwhile, and lost with it, or after.
        self.check()
    }

    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), Error>> {
        self.storage.read_now(sector, to)
    }

    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), Error>> {
        match self.check() {
            Ok(()) => self.storage.write_now(sector, from),
            refused => Some(refused),
        }
    }

    async fn flush(&self) -> Result<(), Error> {
        self.check()?;
        let flushed = self.storage.flush().await;
        if flushed == Err(Error::Failed) && !self.flush_failed.replace(true) {
            log::error!(
                "a flush failed: data may be lost, so every later write and flush of the disk \
                 fails; check the storage, then serve the disk anew"
            );
        }
        flushed?;
        self.check()
    }

    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), Error> {
        self.check()?;
        self.storage.discard(sector, count, secure).await
    }

    async fn changed(&self) {
        self.storage.changed().await
    }
}
