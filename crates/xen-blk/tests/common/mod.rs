//! A world with a xenstored and a disk in it, and a backend that does what the test says.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod backend;

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use xen_blk::front::{Config, Disk, End, attach};
use xen_platform::{Clock, DomId, Time};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, Sim, Task};
use xen_store::Store;

pub type Error = xen_blk::front::Error<xen_sim::Error>;
pub type Driver = Task<Result<End, Error>>;

pub const DOM0: DomId = DomId(0);
pub const GUEST: DomId = DomId(1);
/// xvda.
pub const VDEV: u32 = 51712;
pub const FRONT: &str = "/local/domain/1/device/vbd/51712";
pub const BACK: &str = "/local/domain/0/backend/vbd/1/51712";

/// Sectors of 512 bytes of the disk in most tests.
pub const SECTORS: u64 = 4096;

/// A world with its xenstored, where the guest has one disk.
pub struct Bench(xen_sim::Bench);

/// A process and its connection to xenstore.
#[derive(Clone)]
pub struct Host {
    pub domain: Domain,
    pub store: Store,
    pub xs: Xenstored,
    pub spawner: xen_sim::Spawner,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Sim::new())
    }

    /// Everything happens in a random order, the same for the same seed.
    pub fn with_seed(seed: u64) -> Self {
        Self::with(Sim::with_seed(seed))
    }

    fn with(sim: Sim) -> Self {
        let set_up = |xs: &Xenstored| {
            xs.introduce(GUEST);
            plug(xs, VDEV);
        };
        Bench(xen_sim::Bench::without_toolstack(sim, set_up))
    }

    /// A new process of a domain.
    pub fn host(&self, domid: DomId) -> Host {
        let domain = self.sim.domain(domid.0);
        let (from, to) = self.xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        self.sim.spawn(&domain, driver);
        Host { domain, store, xs: self.xs.clone(), spawner: self.sim.spawner() }
    }
}

impl Deref for Bench {
    type Target = xen_sim::Bench;

    fn deref(&self) -> &xen_sim::Bench {
        &self.0
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut xen_sim::Bench {
        &mut self.0
    }
}

/// Makes a disk's folders, as a toolstack does.
pub fn plug(xs: &Xenstored, vdev: u32) {
    let (front, back) = (
        format!("/local/domain/1/device/vbd/{vdev}"),
        format!("/local/domain/0/backend/vbd/1/{vdev}"),
    );
    xs.set(&front, "");
    xs.set_permissions(&front, "n1 r0");
    xs.set(&format!("{front}/backend-id"), "0");
    xs.set(&format!("{front}/state"), "1");
    xs.set(&format!("{front}/backend"), &back);
    xs.set(&back, "");
    xs.set_permissions(&back, "n0 r1");
    xs.set(&format!("{back}/state"), "1");
}

impl Host {
    /// Connects to the disk and runs its driver.
    pub async fn attach(&self, config: &Config) -> Result<(Disk<Domain>, Driver), Error> {
        let (disk, driver) = attach(&self.domain, &self.store, VDEV, config).await?;
        Ok((disk, self.spawner.spawn(&self.domain, driver)))
    }

    pub fn spawn<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> Task<T> {
        self.spawner.spawn(&self.domain, work)
    }

    pub fn in_secs(&self, secs: u64) -> Time {
        self.domain.now() + Duration::from_secs(secs)
    }
}

/// Bytes that tell where they are.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |n: usize| {
        (n as u64 / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed).to_le_bytes()[n % 8]
    };
    (0..len).map(word).collect()
}
