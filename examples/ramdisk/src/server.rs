//! Disks that the toolstack makes for this domain to serve, from their beginning to their end.

use crate::images::{self, Images, Lease};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use log::{error, info, warn};
use xen_blk::back::{self, Config, Finder, Handle};
use xen_blk::protocol::vdev;
use xen_blk::toolstack::{self, Device, VBD};
use xen_exec::TaskSet;
use xen_platform::{Clock, deadline, sleep};
use xen_rt::Domain;
use xen_rt::xen::Xen;
use xen_store::{Error, Store};

/// Time for libxl, which looks at states only when it is told of a change, to see one before the
/// next.
const SEEN: Duration = Duration::from_millis(500);
/// Time for all frontends to let go when this domain is to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The state `Closed`.
const CLOSED: &[u8] = b"6";

/// The server of all disks.
pub struct Server {
    domain: Domain,
    images: Rc<Images>,
    serving: RefCell<Vec<(Device, Handle)>>,
    stopping: Cell<bool>,
}

impl Server {
    /// Creates the server, without any disks.
    pub fn new(domain: &Domain, images: Rc<Images>) -> Rc<Server> {
        let (serving, stopping) = (RefCell::default(), Cell::new(false));
        Rc::new(Server { domain: domain.clone(), images, serving, stopping })
    }

    /// Serves all disks, for as long as the domain runs.
    pub async fn run(self: Rc<Self>) {
        let own = self.domain.id().expect("Xen tells a domain its number");
        let finder = Finder::new(self.xen(), self.domain.store(), own, VBD).await;
        let mut finder = finder.unwrap_or_else(|why| panic!("no disks can be looked for: {why}"));
        let mut serving = TaskSet::new();
        info!("ready: {} KiB are free", images::free() >> 10);
        loop {
            let event = {
                let mut next = pin!(finder.next());
                poll_fn(|cx| match serving.poll_next(cx) {
                    Poll::Ready(ended) => Poll::Ready(Event::Ended(ended)),
                    Poll::Pending => next.as_mut().poll(cx).map(Event::Found),
                })
                .await
            };
            match event {
                Event::Found(Ok(device)) => serving.push(self.serve(device)),
                Event::Found(Err(why)) => panic!("no disks can be looked for: {why}"),
                Event::Ended(device) => finder.forget(&device),
            }
        }
    }

    /// Asks all frontends to let go, and waits for them, but not for ever.
    pub async fn stop(&self) {
        self.stopping.set(true);
        self.serving.borrow().iter().for_each(|(_, handle)| handle.stop());
        let ended = async {
            while !self.serving.borrow().is_empty() {
                sleep(self.xen(), SEEN / 10).await;
            }
        };
        if deadline(self.xen(), Some(self.xen().now() + STOP_TIMEOUT), ended).await.is_err() {
            warn!("{} disks are still in use", self.serving.borrow().len());
        }
    }

    /// Serves a disk until its end, and removes this domain's part of it.
    async fn serve(&self, device: Device) -> Device {
        let (name, store) = (describe(&device), self.domain.store());
        match self.open(&device).await {
            Ok(lease) => {
                let handle = Handle::new();
                self.serving.borrow_mut().push((device.clone(), handle.clone()));
                if self.stopping.get() {
                    handle.stop();
                }
                let end =
                    back::serve(self.xen(), store, &device, &*lease.ram, &config(), &handle).await;
                drop(lease);
                match end {
                    Ok(end) => info!("{name}: {end:?}"),
                    Err(why) => {
                        error!("{name}: {why}");
                        self.close(&device, &why.to_string()).await;
                    }
                }
                sleep(self.xen(), SEEN).await;
            }
            Err(why) => {
                error!("{name}: {why}");
                self.close(&device, &why).await;
            }
        }
        if let Err(why) = toolstack::withdraw(store, &device).await {
            error!("{name}: its folder stays: {why}");
        }
        self.serving.borrow_mut().retain(|(served, _)| *served != device);
        device
    }

    /// Finds the memory that the toolstack wants for a disk: `target=` is its name.
    async fn open(&self, device: &Device) -> Result<Lease, String> {
        let key = async |name: &str| {
            let path = format!("{}/{name}", device.back_path());
            self.domain.store().read_string(&path).await.map_err(|why| why.to_string())
        };
        let (target, mode) = (key("params").await?, key("mode").await?);
        let lease = self.images.open(&target, mode == "r").map_err(|why| why.to_string())?;
        info!("{}: {target:?}, for {mode}", describe(device));
        Ok(lease)
    }

    /// Says why a disk ends, and that it has.
    async fn close(&self, device: &Device, why: &str) {
        let path = device.back_path();
        let written = self.domain.store().transaction(async |tx: &Store| {
            tx.read(&format!("{path}/state")).await?;
            tx.write(&format!("{path}/error"), why.as_bytes()).await?;
            tx.write(&format!("{path}/state"), CLOSED).await
        });
        if let Err(why) = written.await {
            warn!("{}: {why}", describe(device));
        }
    }

    fn xen(&self) -> &Xen {
        self.domain.xen()
    }
}

/// An event in the life of the server.
enum Event {
    /// The toolstack has made a disk.
    Found(Result<Device, Error>),
    /// A disk is not served any more.
    Ended(Device),
}

fn describe(device: &Device) -> String {
    format!("{} of domain {}", vdev::name(device.vdev), device.front)
}

/// Returns the limits of a disk, by which its buffers, rings and grants stay below
/// [`images::SERVING`].
fn config() -> Config {
    Config::default().with(|config| {
        config.ring_order_max = 2;
        config.indirect_segments = 64;
        config.memory = 512 << 10;
        config.merge = 128 << 10;
        config.offer_time = SEEN;
        config.leave_folders = true;
    })
}
