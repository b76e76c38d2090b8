//! A world with a xenstored and a backend in dom0, and a frontend that keeps to no rules.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::back::{self, Config, End, Handle, Storage};
use xen_blk::front::{self, Disk};
use xen_blk::protocol::wire::{self, Abi, Op, RESPONSE_MAX, RawRequest, Response, Segment};
use xen_blk::toolstack::{self, Attributes, Device};
use xen_platform::{
    Channel as _, Clock, DomId, GrantRef, Granted, PAGE_SIZE, Platform, ReadySince, SharedMem,
};
use xen_platform::{deadline, sleep};
use xen_ring::slots::{Front, Shape};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Channel, Domain, Grant, Sim, Task};
use xen_store::Store;

pub const DOM0: DomId = DomId(0);
pub const GUEST: DomId = DomId(1);
pub const XVDA: u32 = 51712;
pub const XVDB: u32 = 51728;

/// A world with its xenstored and two guests.
pub struct Bench(xen_sim::Bench);

/// A process and its connection to xenstore.
#[derive(Clone)]
pub struct Host {
    pub domain: Domain,
    pub store: Store,
    spawner: xen_sim::Spawner,
    pub xs: Xenstored,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(Sim::new())
    }

    pub fn with_seed(seed: u64) -> Self {
        Self::with(Sim::with_seed(seed))
    }

    fn with(sim: Sim) -> Self {
        Bench(xen_sim::Bench::new(sim, |xs| {
            for guest in 1..=2 {
                xs.introduce(DomId(guest));
                xs.set(&format!("/local/domain/{guest}/device/vbd"), "");
            }
            xs.set("/local/domain/0/backend", "");
        }))
    }

    /// A new process of a domain.
    pub fn host(&self, domid: DomId) -> Host {
        Host::new(&self.sim, &self.xs, domid)
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

/// The guest's disk of that number, served by dom0.
pub fn device(vdev: u32) -> Device {
    Device { front: GUEST, back: DOM0, vdev, kind: "xen-disk".into() }
}

/// A disk being served.
pub struct Served {
    pub device: Device,
    pub handle: Handle,
    host: Host,
    task: Task<Result<End, back::Error>>,
}

impl Host {
    /// A new process of a domain.
    pub fn new(sim: &Sim, xs: &Xenstored, domid: DomId) -> Host {
        let domain = sim.domain(domid.0);
        let (from, to) = xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        sim.spawn(&domain, driver);
        Host { domain, store, spawner: sim.spawner(), xs: xs.clone() }
    }

    /// Makes a disk and serves it.
    pub async fn plug<S: Storage + 'static>(
        &self,
        vdev: u32,
        storage: &Rc<S>,
        config: Config,
    ) -> Served {
        toolstack::create(&self.store, &device(vdev), &Attributes::default()).await.unwrap();
        self.serve(vdev, storage, config)
    }

    /// Serves a disk that is there.
    pub fn serve<S: Storage + 'static>(
        &self,
        vdev: u32,
        storage: &Rc<S>,
        config: Config,
    ) -> Served {
        let (handle, device) = (Handle::new(), device(vdev));
        let (host, storage, given, of) =
            (self.clone(), storage.clone(), handle.clone(), device.clone());
        let task = self.spawner.spawn(&self.domain, async move {
            back::serve(&host.domain, &host.store, &of, &*storage, &config, &given).await
        });
        Served { device, handle, host: self.clone(), task }
    }

    /// Attaches the disk, as the guest.
    pub async fn attach(
        &self,
        vdev: u32,
        front_config: &front::Config,
    ) -> (Disk<Domain>, Task<front::End>) {
        let (disk, driver) =
            front::attach(&self.domain, &self.store, vdev, front_config).await.unwrap();
        (disk, self.spawner.spawn(&self.domain, async move { driver.await.unwrap() }))
    }

    pub async fn moment(&self) {
        sleep(&self.domain, Duration::from_millis(10)).await
    }
}

impl Host {
    pub fn spawner(&self) -> &xen_sim::Spawner {
        &self.spawner
    }
}

impl Served {
    /// Its result, once it has ended.
    pub async fn result(self) -> Result<End, back::Error> {
        self.task.join().await
    }

    /// Its end, once it has ended.
    pub async fn end(self) -> End {
        self.task.join().await.unwrap()
    }

    /// Its end, if it was not killed.
    pub async fn outcome(self) -> Option<End> {
        self.task.outcome().await.map(|end| end.unwrap())
    }

    /// Stops it, and removes the disk.
    pub async fn unplug(self) {
        let (host, device) = (self.host.clone(), self.device.clone());
        self.handle.stop();
        assert_eq!(self.end().await, End::Stopped);
        toolstack::remove(&host.store, &device).await.unwrap();
    }
}

/// Bytes that look random but are the same each time.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491).wrapping_add(77);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Layout of a [`RawFront`].
#[derive(Clone, Copy)]
pub struct Layout {
    pub abi: Abi,
    pub order: u32,
    /// First index of the ring.
    pub start: u32,
    /// It uses persistent grants.
    pub persistent: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Layout { abi: Abi::X86_64, order: 0, start: 0, persistent: true }
    }
}

/// A frontend that writes what it likes.
pub struct RawFront {
    pub host: Host,
    pub abi: Abi,
    pub ring: Grant,
    /// Eight pages for data.
    pub data: Grant,
    pub channel: Channel,
    pub front: Front,
    events: ReadySince,
    path: String,
    back: String,
    next_id: u64,
}

impl RawFront {
    /// Shares a ring and publishes it.
    pub fn publish(guest: &Host, vdev: u32, layout: Layout) -> Self {
        let Layout { abi, order, start, persistent } = layout;
        let ring = guest.domain.share(DOM0, 1 << order).unwrap();
        let data = guest.domain.share(DOM0, 8).unwrap();
        let channel = guest.domain.listen(DOM0).unwrap();
        let front = Front::starting_at(Shape::new(ring.len(), abi.slot()), &ring, start);
        let (path, back) = (device(vdev).front_path(), device(vdev).back_path());
        let key = |name: &str, value: String| guest.xs.set(&format!("{path}/{name}"), value);
        key("event-channel", channel.port().to_string());
        key("protocol", abi.name().into());
        key("feature-persistent", u8::from(persistent).to_string());
        match order {
            0 => key("ring-ref", ring.refs()[0].to_string()),
            _ => {
                key("ring-page-order", order.to_string());
                (0..)
                    .zip(ring.refs())
                    .for_each(|(page, gref)| key(&format!("ring-ref{page}"), gref.to_string()));
            }
        }
        key("state", State::INITIALISED.0.to_string());
        let events = ReadySince::now(&channel);
        RawFront {
            host: guest.clone(),
            abi,
            ring,
            data,
            channel,
            front,
            events,
            path,
            back,
            next_id: 0xfeed_0000_0000,
        }
    }

    /// The same, and waits until the backend has connected.
    pub async fn connect(guest: &Host, vdev: u32, layout: Layout) -> Self {
        let raw = Self::publish(guest, vdev, layout);
        raw.until(State::CONNECTED).await;
        raw.set_state(State::CONNECTED);
        raw
    }

    pub fn set_state(&self, state: State) {
        self.host.xs.set(&format!("{}/state", self.path), state.0.to_string())
    }

    pub fn state_of_backend(&self) -> State {
        let value = self.host.xs.get(&format!("{}/state", self.back));
        State(value.map_or(0, |value| String::from_utf8(value).unwrap().parse().unwrap()))
    }

    /// The backend's error node.
    pub fn error(&self) -> String {
        String::from_utf8(self.host.xs.get(&format!("{}/error", self.back)).unwrap_or_default())
            .unwrap()
    }

    /// Waits for the backend to reach a state.
    pub async fn until(&self, state: State) {
        for _ in 0..1000 {
            if self.state_of_backend() == state {
                return;
            }
            self.host.moment().await;
        }
        panic!("the backend stays in {}: {}", self.state_of_backend(), self.error());
    }

    pub fn segment(&self, page: usize, first: u8, last: u8) -> Segment {
        Segment { gref: self.data.refs()[page], first, last }
    }

    /// Moves the index of requests to where it cannot be.
    pub fn break_index(&self) {
        use xen_platform::IndexMemory;
        self.ring.store(0, self.ring.load(0).wrapping_add(1000));
        self.channel.notify();
    }

    /// Puts a request that makes sense, and shows it; returns its id.
    pub fn ask(&mut self, body: &RawRequest) -> u64 {
        self.next_id += 1;
        let raw = wire::encode(self.abi, self.next_id, body);
        self.put(&raw);
        self.next_id
    }

    /// Puts any bytes as a request, and shows it.
    pub fn put(&mut self, raw: &[u8]) {
        self.front.put(&self.ring, raw);
        self.show();
    }

    pub fn show(&mut self) {
        if self.front.push(&self.ring) {
            self.channel.notify();
        }
    }

    /// The next response.
    pub async fn response(&mut self) -> Response {
        self.raw_response().await.1
    }

    pub async fn raw_response(&mut self) -> ([u8; RESPONSE_MAX], Response) {
        let until = Some(self.host.domain.now() + Duration::from_secs(100));
        loop {
            let mut raw = [0; RESPONSE_MAX];
            if self.front.take(&self.ring, &mut raw[..self.abi.response()]).unwrap() {
                return (raw, Response::decode(&raw));
            }
            if !self.front.arm(&self.ring, 1).unwrap() {
                let heard =
                    deadline(&self.host.domain, until, self.events.wait(&self.channel)).await;
                assert!(heard.is_ok(), "the backend does not answer");
            }
        }
    }

    /// The status of a request's response.
    pub async fn status(&mut self, body: &RawRequest) -> i16 {
        let id = self.ask(body);
        let response = self.response().await;
        assert_eq!(response.id, id);
        response.status
    }

    pub async fn write(&mut self, sector: u64, bytes: &[u8]) -> i16 {
        self.data.write(0, bytes);
        let segments = self.whole(bytes.len());
        self.status(&RawRequest::Direct { op: Op::Write, sector, segments }).await
    }

    pub async fn read(&mut self, sector: u64, len: usize) -> Vec<u8> {
        let segments = self.whole(len);
        assert_eq!(self.status(&RawRequest::Direct { op: Op::Read, sector, segments }).await, 0);
        let mut bytes = vec![0; len];
        self.data.read(0, &mut bytes);
        bytes
    }

    /// Segments for the first `len` bytes of the data.
    fn whole(&self, len: usize) -> Vec<Segment> {
        let sectors = |page: usize| ((len - page * PAGE_SIZE).min(PAGE_SIZE) / 512) as u8;
        (0..len.div_ceil(PAGE_SIZE)).map(|page| self.segment(page, 0, sectors(page) - 1)).collect()
    }

    /// Checks that reads and writes still work.
    pub async fn works(&mut self) {
        let bytes = pattern(2 * PAGE_SIZE, self.next_id as u32);
        assert_eq!(self.write(8, &bytes).await, 0);
        self.data.write(0, &vec![0; 2 * PAGE_SIZE]);
        assert_eq!(self.read(8, 2 * PAGE_SIZE).await, bytes);
    }

    /// Closes as a frontend should, so that it can connect again.
    pub async fn close(self) {
        self.set_state(State::CLOSING);
        self.until(State::CLOSING).await;
        self.set_state(State::CLOSED);
        self.until(State::CLOSED).await;
    }
}

/// A page's reference that was never granted.
pub const NO_GRANT: GrantRef = GrantRef(30_000);
