//! The site over `xen-blk`'s frontend, on any platform.

use crate::crowd::Boxed;
use crate::raw::{self, Raw};
use crate::site::{Device, Failure, Io, Kind, Pages, Site, Usage, Way};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Arguments;
use core::time::Duration;
use xen_blk::front::{self, Buffer, Disk, Error, Info, Stats, Wishes};
use xen_platform::{PAGE_SIZE, Platform, Time, sleep};
use xen_store::Store;

/// What the surroundings do for a [`Front`].
pub trait Host {
    /// Shows text.
    fn print(&self, text: Arguments<'_>);
    /// Waits until what was shown has been taken, or nobody takes it.
    fn shown(&self) -> Boxed<'_, ()>;
    /// What is in use, where that can be told.
    fn usage(&self) -> Option<Usage>;
    /// Runs a future beside the tests.
    fn spawn(&self, work: Boxed<'static, ()>);
}

/// Disks that are connected through the frontend.
pub struct Front<P, H> {
    platform: P,
    store: Store,
    host: H,
}

impl<P: Platform, H: Host> Front<P, H> {
    /// Stands on `platform`, its connection to xenstore, and what `host` does.
    pub fn new(platform: &P, store: &Store, host: H) -> Self {
        Front { platform: platform.clone(), store: store.clone(), host }
    }
}

impl<P: Platform, H: Host> Site for Front<P, H> {
    fn now(&self) -> Time {
        self.platform.now()
    }

    fn sleep(&self, time: Duration) -> Boxed<'_, ()> {
        Box::pin(sleep(&self.platform, time))
    }

    fn print(&self, text: Arguments<'_>) {
        self.host.print(text);
    }

    fn shown(&self) -> Boxed<'_, ()> {
        self.host.shown()
    }

    fn usage(&self) -> Option<Usage> {
        self.host.usage()
    }

    fn disks(&self) -> Boxed<'_, Vec<u32>> {
        Box::pin(async { front::list(&self.store).await.unwrap_or_default() })
    }

    fn attach<'a>(&'a self, vdev: u32, wishes: &'a Wishes) -> Boxed<'a, Result<Rc<dyn Device>, Failure>> {
        Box::pin(async move {
            let (disk, driver) = front::attach(&self.platform, &self.store, vdev, wishes).await.map_err(failure)?;
            self.host.spawn(Box::pin(async move {
                if let Err(why) = driver.await {
                    log::warn!("{}: {why}", front::name(vdev));
                }
            }));
            Ok(Rc::new(Connected(disk)) as Rc<dyn Device>)
        })
    }

    fn keys(&self, vdev: u32) -> Boxed<'_, Result<Vec<(String, String)>, Failure>> {
        Box::pin(async move {
            let read = async {
                let back = self.store.read_string(&format!("device/vbd/{vdev}/backend")).await?;
                let mut keys = Vec::new();
                for key in self.store.directory(&back).await? {
                    // A key may be gone by now, or not be text.
                    let value = self.store.read(&format!("{back}/{key}")).await.unwrap_or_default();
                    keys.push((key, String::from_utf8_lossy(&value).into_owned()));
                }
                Ok(keys)
            };
            read.await.map_err(|why: xen_store::Error| Failure::other(why.to_string()))
        })
    }

    fn raw<'a>(&'a self, vdev: u32, keys: &'a [(&'a str, &'a str)]) -> Boxed<'a, Result<Box<dyn Raw>, Failure>> {
        Box::pin(raw::connect(&self.platform, &self.store, vdev, keys))
    }

    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()> {
        Box::pin(async move {
            if let Err(why) = self.store.write(&format!("data/report/{key}"), value.as_bytes()).await {
                log::warn!("{why}");
            }
        })
    }
}

/// A disk of the frontend.
struct Connected<P: Platform>(Disk<P>);

impl<P: Platform> Device for Connected<P> {
    fn info(&self) -> Box<Info> {
        Box::new(self.0.info())
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Failure>> {
        let disk = &self.0;
        let transfer = match io {
            Io::Read(sector, to) => disk.read(sector, to),
            Io::Write(sector, from) => disk.write(sector, from),
            Io::Barrier(sector, from) => disk.barrier(sector, from),
            Io::Discard { sector, count, secure } => disk.discard(sector, count, secure),
            Io::Flush => return Box::pin(async { disk.flush().await.map_err(failure) }),
        };
        Box::pin(async { transfer.await.map_err(failure) })
    }

    fn pages(&self, bytes: usize) -> Result<Box<dyn Pages + '_>, Failure> {
        let buffer = self.0.buffer(bytes.div_ceil(PAGE_SIZE)).map_err(failure)?;
        Ok(Box::new(Granted { disk: &self.0, buffer, bytes }))
    }

    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()> {
        Box::pin(self.0.changed(seen))
    }

    fn close(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async {
            self.0.close().await;
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
    fn io(&self, way: Way, sector: u64) -> Boxed<'_, Result<(), Failure>> {
        let transfer = match way {
            Way::Read => self.disk.read_into(sector, &self.buffer, 0..self.bytes),
            Way::Write => self.disk.write_from(sector, &self.buffer, 0..self.bytes),
        };
        Box::pin(async { transfer.await.map_err(failure) })
    }
}

fn failure<E: core::fmt::Display>(why: Error<E>) -> Failure {
    let kind = match &why {
        Error::OutOfRange { .. } | Error::Unaligned { .. } => Kind::OutOfRange,
        Error::ReadOnly(_) => Kind::ReadOnly,
        Error::Unsupported(_) => Kind::Unsupported,
        Error::Failed { .. } => Kind::Failed,
        Error::TimedOut(_) => Kind::TimedOut,
        Error::Gone(_) => Kind::Gone,
        _ => Kind::Other,
    };
    Failure::new(kind, why.to_string())
}
