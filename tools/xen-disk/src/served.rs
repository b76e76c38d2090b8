//! A storage as the backend wants it: in sectors, asynchronous, on one thread.

use crate::pool::Pool;
use crate::storage::{Info, Pace, Pages, Storage};
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;
use xen_blk::back::storage as back;
use xen_blk::front::DiscardInfo;
use xen_platform::EventCounter;

/// Bytes of a sector in the protocol.
const SECTOR: u64 = 512;
/// Buffers that are kept for the next request.
const BUFFERS: usize = 32;
/// Longer buffers than this are not kept.
const KEPT: usize = 1 << 20;

/// A storage that is served to a guest.
pub struct Served {
    storage: Arc<dyn Storage>,
    /// Where slow calls run; without, they run at once.
    pool: Option<Pool>,
    read_only: bool,
    changes: EventCounter,
    seen: Cell<u32>,
    buffers: RefCell<Vec<Vec<u8>>>,
    say: Box<dyn Fn(&str)>,
}

impl Served {
    /// Serves `storage`; `read_only` forbids what it would permit. `say` is told of what fails.
    pub fn new(storage: Arc<dyn Storage>, pool: Option<Pool>, read_only: bool, say: impl Fn(&str) + 'static) -> Self {
        let changes = EventCounter::new();
        let seen = Cell::new(changes.count());
        Served { storage, pool, read_only, changes, seen, buffers: RefCell::default(), say: Box::new(say) }
    }

    /// What it is like now.
    pub fn storage_info(&self) -> Info {
        let info = self.storage.info();
        Info { read_only: info.read_only || self.read_only, ..info }
    }

    /// Makes the disk `bytes` long, and tells the guest.
    pub async fn resize(&self, bytes: u64) -> io::Result<()> {
        let storage = self.storage.clone();
        self.on_pool(move || storage.resize(bytes)).await?;
        self.changes.signal();
        Ok(())
    }

    /// Flushes, whether the guest did or not.
    pub async fn finish(&self) -> io::Result<()> {
        let storage = self.storage.clone();
        self.on_pool(move || storage.flush()).await
    }

    /// The storage does not answer: it is not waited for any more, even at the end.
    pub fn abandon(&self) {
        self.pool.iter().for_each(Pool::abandon);
    }

    async fn on_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match &self.pool {
            Some(pool) => pool.run(work).await,
            None => work(),
        }
    }

    /// The pool, if reads and writes are to go there.
    fn for_data(&self) -> Option<&Pool> {
        self.pool.as_ref().filter(|_| self.storage.pace() == Pace::Slow)
    }

    fn buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    fn keep(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS && buffer.capacity() <= KEPT {
            buffers.push(buffer);
        }
    }

    fn outcome(&self, what: &str, sector: u64, done: io::Result<()>) -> Result<(), back::Error> {
        done.map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => back::Error::Unsupported,
            _ => {
                (self.say)(&format!("{what} at sector {sector}: {error}"));
                back::Error::Failed
            }
        })
    }
}

impl xen_blk::back::Storage for Served {
    fn info(&self) -> back::Info {
        let Info { bytes, sector_size, physical_sector_size, read_only, discard } = self.storage_info();
        let discard = discard.filter(|_| !read_only);
        let discard = discard.map(|d| DiscardInfo { granularity: d.granularity, alignment: 0, secure: d.secure });
        back::Info { sector_size, physical_sector_size, read_only, discard, ..back::Info::new(bytes / SECTOR) }
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), back::Error> {
        let at = sector * SECTOR;
        let done = match self.for_data() {
            None => self.storage.read(at, to),
            Some(pool) => {
                let (storage, mut buffer) = (self.storage.clone(), self.buffer());
                buffer.resize(to.len(), 0);
                let (done, buffer) = pool.run(move || (storage.read(at, &mut buffer), buffer)).await;
                to.copy_from_slice(&buffer);
                self.keep(buffer);
                done
            }
        };
        self.outcome("read", sector, done)
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), back::Error> {
        let at = sector * SECTOR;
        let done = match self.for_data() {
            None => self.storage.write(at, from),
            Some(pool) => {
                let (storage, mut buffer) = (self.storage.clone(), self.buffer());
                buffer.clear();
                buffer.extend_from_slice(from);
                let (done, buffer) = pool.run(move || (storage.write(at, &buffer), buffer)).await;
                self.keep(buffer);
                done
            }
        };
        self.outcome("write", sector, done)
    }

    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), back::Error>> {
        let done = self.storage.read_now(sector * SECTOR, to)?;
        Some(self.outcome("read", sector, done))
    }

    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), back::Error>> {
        let done = self.storage.write_now(sector * SECTOR, from)?;
        Some(self.outcome("write", sector, done))
    }

    async fn flush(&self) -> Result<(), back::Error> {
        let done = match self.storage.pace() {
            Pace::Quick => self.storage.flush(),
            Pace::QuickUntilFlush | Pace::Slow => self.finish().await,
        };
        self.outcome("flush", 0, done)
    }

    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), back::Error> {
        let storage = self.storage.clone();
        let work = move || storage.discard(sector * SECTOR, count * SECTOR, secure);
        let done = match self.storage.pace() {
            Pace::Slow => self.on_pool(work).await,
            Pace::Quick | Pace::QuickUntilFlush => work(),
        };
        self.outcome("discard", sector, done)
    }

    async fn changed(&self) {
        let mut seen = self.seen.get();
        std::future::poll_fn(|cx| self.changes.poll_after(&mut seen, cx)).await;
        self.seen.set(seen);
    }
}
