//! A storage as the backend wants it: in sectors, asynchronous, on one thread.

use crate::OnEnospc;
use crate::pool::Pool;
use crate::storage::{Info, Pace, Pages, Storage};
use std::cell::{Cell, RefCell};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;
use xen_blk::back::storage as back;
use xen_blk::protocol::DiscardInfo;
use xen_platform::EventCounter;

/// Bytes of a sector in the protocol.
const SECTOR: u64 = 512;
/// Time after which a write that found no room is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Buffers that are kept for the next request.
const BUFFERS: usize = 32;
/// Longer buffers than this are not kept.
const KEPT: usize = 1 << 20;

/// A storage that is served to a guest.
///
/// The thread that serves calls no function of a storage that may wait for anything, not even for
/// a lock that a slow call holds: one stalled request stops no other disk, and no command.
pub struct Served {
    storage: RefCell<Arc<dyn Storage>>,
    /// Its properties, as they were after it was opened or resized.
    info: Cell<Info>,
    pace: Pace,
    /// Threads on which slow calls run; without, they run at once.
    pool: Option<Pool>,
    read_only: bool,
    changes: EventCounter,
    seen: Cell<u32>,
    buffers: RefCell<Vec<Vec<u8>>>,
    report: Box<dyn Fn(&str)>,
    on_enospc: OnEnospc,
    /// Writes and flushes that wait for room.
    paused: Cell<u32>,
}

impl Served {
    /// Serves `storage`; `read_only` forbids what it would permit. failures go to `report`.
    pub fn new(
        storage: Arc<dyn Storage>,
        pool: Option<Pool>,
        read_only: bool,
        report: impl Fn(&str) + 'static,
    ) -> Self {
        let changes = EventCounter::new();
        let seen = Cell::new(changes.count());
        Served {
            info: Cell::new(storage.info()),
            pace: storage.pace(),
            storage: RefCell::new(storage),
            pool,
            read_only,
            changes,
            seen,
            buffers: RefCell::default(),
            report: Box::new(report),
            on_enospc: OnEnospc::Fail,
            paused: Cell::new(0),
        }
    }

    /// Sets the action on a write that finds no room; at first it fails.
    pub fn on_enospc(self, on_enospc: OnEnospc) -> Self {
        Served { on_enospc, ..self }
    }

    /// Returns the number of writes that wait for room.
    pub fn paused(&self) -> u32 {
        self.paused.get()
    }

    /// Runs a write or a flush until it does not fail for want of room, if that is wanted. It
    /// waits on a thread of the pool.
    async fn with_room(
        &self,
        what: &str,
        mut write: impl AsyncFnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = write().await;
        let Some(pool) = self.pool.as_ref().filter(|_| self.on_enospc == OnEnospc::Pause) else {
            return done;
        };
        if !is_no_room(&done) {
            return done;
        }
        let paused = Paused::new(&self.paused);
        if self.paused.get() == 1 {
            (self.report)(&format!("{what}: no space left: the disk waits for room"));
        }
        while is_no_room(&done) {
            pool.run(|| std::thread::sleep(RETRY)).await;
            done = write().await;
        }
        drop(paused);
        if self.paused.get() == 0 {
            (self.report)("there is room again: the disk goes on");
        }
        done
    }

    /// Returns its properties, without asking the storage.
    pub fn storage_info(&self) -> Info {
        let info = self.info.get();
        Info { read_only: info.read_only || self.read_only, ..info }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.borrow().clone()
    }

    /// Makes the disk `bytes` long, and tells the guest.
    pub async fn resize(&self, bytes: u64) -> io::Result<()> {
        let storage = self.storage();
        let work = move || {
            let done = storage.resize(bytes);
            (done, storage.info())
        };
        let (done, info) = self.on_pool(work).await;
        self.info.set(info);
        done?;
        self.changes.signal();
        Ok(())
    }

    /// Flushes, whether the guest did or not.
    pub async fn finish(&self) -> io::Result<()> {
        let storage = self.storage();
        self.on_pool(move || storage.flush()).await
    }

    /// Flushes, and closes the storage, which may take a while as well. Nothing can be done with it
    /// afterwards. Calls that have not ended by then are not waited for.
    pub async fn close(&self) -> io::Result<()> {
        let flushed = self.finish().await;
        let storage = self.storage.replace(Arc::new(Closed(self.info.get())));
        let left: Weak<dyn Storage> = Arc::downgrade(&storage);
        self.on_pool(move || drop(storage)).await;
        if left.strong_count() > 0 {
            self.abandon();
        }
        flushed
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
        self.pool.as_ref().filter(|_| self.pace == Pace::Slow)
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
                (self.report)(&format!("{what} at sector {sector}: {error}"));
                back::Error::Failed
            }
        })
    }
}

/// The place of a storage that was closed.
struct Closed(Info);

impl Closed {
    fn error() -> io::Error {
        io::Error::other("the disk has ended")
    }
}

impl Storage for Closed {
    fn info(&self) -> Info {
        self.0
    }
    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(Closed::error())
    }
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(Closed::error())
    }
    fn flush(&self) -> io::Result<()> {
        Err(Closed::error())
    }
}

/// A write that waits for room, counted for as long as it does.
struct Paused<'a>(&'a Cell<u32>);

impl<'a> Paused<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Paused(count)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Returns true for a write that found no room.
fn is_no_room(done: &io::Result<()>) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    done.as_ref().is_err_and(|error| full.contains(&error.kind()))
}

impl xen_blk::back::Storage for Served {
    fn info(&self) -> back::Info {
        let Info { bytes, sector_size, physical_sector_size, read_only, discard } =
            self.storage_info();
        let discard = discard.filter(|_| !read_only);
        let discard = discard.map(|d| DiscardInfo {
            granularity: d.granularity,
            alignment: 0,
            secure: d.secure,
        });
        back::Info {
            sector_size,
            physical_sector_size,
            read_only,
            discard,
            ..back::Info::new(bytes / SECTOR)
        }
    }

    async fn read(&self, sector: u64, to: &mut [u8]) -> Result<(), back::Error> {
        let at = sector * SECTOR;
        let done = match self.for_data() {
            None => self.storage().read(at, to),
            Some(pool) => {
                let (storage, mut buffer) = (self.storage(), self.buffer());
                buffer.resize(to.len(), 0);
                let (done, buffer) =
                    pool.run(move || (storage.read(at, &mut buffer), buffer)).await;
                to.copy_from_slice(&buffer);
                self.keep(buffer);
                done
            }
        };
        self.outcome("read", sector, done)
    }

    async fn write(&self, sector: u64, from: &[u8]) -> Result<(), back::Error> {
        let at = sector * SECTOR;
        let write = async || match self.for_data() {
            None => self.storage().write(at, from),
            Some(pool) => {
                let (storage, mut buffer) = (self.storage(), self.buffer());
                buffer.clear();
                buffer.extend_from_slice(from);
                let (done, buffer) = pool.run(move || (storage.write(at, &buffer), buffer)).await;
                self.keep(buffer);
                done
            }
        };
        let done = self.with_room(&format!("write at sector {sector}"), write).await;
        self.outcome("write", sector, done)
    }

    fn read_now(&self, sector: u64, to: &mut dyn Pages) -> Option<Result<(), back::Error>> {
        let done = self.storage.borrow().read_now(sector * SECTOR, to)?;
        Some(self.outcome("read", sector, done))
    }

    fn write_now(&self, sector: u64, from: &mut dyn Pages) -> Option<Result<(), back::Error>> {
        let done = self.storage.borrow().write_now(sector * SECTOR, from)?;
        Some(self.outcome("write", sector, done))
    }

    async fn flush(&self) -> Result<(), back::Error> {
        let flush = async || match self.pace {
            Pace::Quick => self.storage().flush(),
            Pace::QuickUntilFlush | Pace::Slow => self.finish().await,
        };
        self.outcome("flush", 0, self.with_room("flush", flush).await)
    }

    async fn discard(&self, sector: u64, count: u64, secure: bool) -> Result<(), back::Error> {
        let storage = self.storage();
        let work = move || storage.discard(sector * SECTOR, count * SECTOR, secure);
        let done = match self.pace {
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
