//! The environment over `xen-blk`'s frontend, on any platform.

use crate::environment::{Device, Direction, Environment, Error, ErrorKind, Io, Pages, Usage};
use crate::raw::{self, Raw, Rings};
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Arguments;
use core::time::Duration;
use xen_blk::front::{self, Buffer, Config, Disk, Info, Stats};
use xen_platform::{PAGE_SIZE, Platform, Time, sleep};
use xen_store::Store;

/// Services of the program for a [`Front`].
pub trait Host {
    /// Prints text on the console.
    fn print(&self, text: Arguments<'_>);
    /// Waits until the console has taken all printed text, or takes no more.
    fn flushed(&self) -> Boxed<'_, ()>;
    /// Returns the resources in use, where the program knows them.
    fn usage(&self) -> Option<Usage>;
    /// Runs a future beside the tests.
    fn spawn(&self, work: Boxed<'static, ()>);
}

/// The environment over `xen-blk`'s frontend.
pub struct Front<P, H> {
    platform: P,
    store: Store,
    host: H,
}

impl<P: Platform, H: Host> Front<P, H> {
    /// Creates the environment from a platform, its connection to xenstore, and the program's
    /// services.
    pub fn new(platform: &P, store: &Store, host: H) -> Self {
        Front { platform: platform.clone(), store: store.clone(), host }
    }
}

impl<P: Platform, H: Host> Environment for Front<P, H> {
    fn now(&self) -> Time {
        self.platform.now()
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(sleep(&self.platform, time))
    }

    fn print(&self, text: Arguments<'_>) {
        self.host.print(text);
    }

    fn flushed(&self) -> Boxed<'_, ()> {
        self.host.flushed()
    }

    fn usage(&self) -> Option<Usage> {
        self.host.usage()
    }

    fn disks(&self) -> Boxed<'_, Vec<u32>> {
        Box::pin(async { front::list(&self.store).await.unwrap_or_default() })
    }

    fn attach<'a>(
        &'a self,
        vdev: u32,
        config: &'a Config,
    ) -> Boxed<'a, Result<Rc<dyn Device>, Error>> {
        Box::pin(async move {
            let (disk, driver) =
                front::attach(&self.platform, &self.store, vdev, config).await.map_err(failure)?;
            self.host.spawn(Box::pin(async move {
                if let Err(why) = driver.await {
                    log::warn!("{}: {why}", xen_blk::protocol::vdev::name(vdev));
                }
            }));
            let (platform, slowest) = (self.platform.clone(), Cell::default());
            Ok(Rc::new(Connected { disk, platform, slowest }) as Rc<dyn Device>)
        })
    }

    fn keys(&self, vdev: u32) -> Boxed<'_, Result<Vec<(String, String)>, Error>> {
        Box::pin(async move {
            let keys = front::backend_keys(&self.store, vdev).await;
            keys.map_err(|why| Error::other(why.to_string()))
        })
    }

    fn raw<'a>(
        &'a self,
        vdev: u32,
        rings: Rings,
        keys: &'a [(&'a str, &'a str)],
    ) -> Boxed<'a, Result<Box<dyn Raw>, Error>> {
        Box::pin(raw::connect(&self.platform, &self.store, vdev, rings, keys))
    }

    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            if let Err(why) =
                self.store.write(&format!("data/report/{key}"), value.as_bytes()).await
            {
                log::warn!("{why}");
            }
        })
    }
}

/// A disk of the frontend.
struct Connected<P: Platform> {
    disk: Disk<P>,
    platform: P,
    slowest: Cell<Duration>,
}

impl<P: Platform> Connected<P> {
    /// Awaits a request, and notes how long it takes.
    async fn timed(
        &self,
        request: impl Future<Output = Result<(), front::Error<P::Error>>>,
    ) -> Result<(), Error> {
        let begun = self.platform.now();
        let outcome = request.await.map_err(failure);
        self.slowest.set(self.slowest.get().max(self.platform.now().since(begun)));
        outcome
    }
}

impl<P: Platform> Device for Connected<P> {
    fn info(&self) -> Box<Info> {
        Box::new(self.disk.info())
    }

    fn stats(&self) -> Stats {
        self.disk.stats()
    }

    fn slowest(&self) -> Duration {
        self.slowest.get()
    }

    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Error>> {
        let disk = &self.disk;
        let transfer = match io {
            Io::Read(sector, to) => disk.read(sector, to),
            Io::Write(sector, from) => disk.write(sector, from),
            Io::Barrier(sector, from) => disk.barrier(sector, from),
            Io::Discard { sector, count, secure } => disk.discard(sector, count, secure),
            Io::Flush => return Box::pin(self.timed(disk.flush())),
        };
        Box::pin(self.timed(transfer))
    }

    fn pages(&self, bytes: usize) -> Result<Box<dyn Pages + '_>, Error> {
        let buffer = self.disk.buffer(bytes.div_ceil(PAGE_SIZE)).map_err(failure)?;
        Ok(Box::new(Granted { disk: &self.disk, buffer, bytes }))
    }

    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()> {
        Box::pin(self.disk.changed(seen))
    }

    fn ended(&self) -> Boxed<'_, ()> {
        Box::pin(self.disk.ended())
    }

    fn close(&self) -> Boxed<'_, Result<(), Error>> {
        Box::pin(async {
            self.disk.close().await;
            Ok(())
        })
    }
}

/// Pages that are shared with a disk's backend.
struct Granted<'a, P: Platform> {
    disk: &'a Disk<P>,
    buffer: Buffer<P>,
    bytes: usize,
}

impl<P: Platform> Pages for Granted<'_, P> {
    fn io(&self, direction: Direction, sector: u64) -> Boxed<'_, Result<(), Error>> {
        let transfer = match direction {
            Direction::Read => self.disk.read_into(sector, &self.buffer, 0..self.bytes),
            Direction::Write => self.disk.write_from(sector, &self.buffer, 0..self.bytes),
        };
        Box::pin(async { transfer.await.map_err(failure) })
    }
}

fn failure<E: core::fmt::Display>(why: front::Error<E>) -> Error {
    let kind = match &why {
        front::Error::OutOfRange { .. } | front::Error::Unaligned { .. } => ErrorKind::OutOfRange,
        front::Error::ReadOnly(_) => ErrorKind::ReadOnly,
        front::Error::Unsupported(_) => ErrorKind::Unsupported,
        front::Error::Failed { .. } => ErrorKind::Failed,
        front::Error::TimedOut(_) => ErrorKind::TimedOut,
        front::Error::Gone(_) => ErrorKind::Gone,
        _ => ErrorKind::Other,
    };
    Error::new(kind, why.to_string())
}
