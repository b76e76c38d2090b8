//! A world with a xenstored, for all tests; and ends of a vchan that keep to no rules.
#![allow(dead_code, reason = "each test file uses a part")]

use embedded_io_async::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use xen_abi::vchan::{Indices, Interface, Live};
use xen_platform::{
    Channel as _, Clock, DomId, Granted, IndexMemory, PAGE_SIZE, Platform, SharedMem, Time,
};
use xen_sim::{Domain, Grant, Sim};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Info, Offer, Order, ServerConfig};
use zerocopy::IntoBytes;

pub type Error = xen_vchan::Error<xen_sim::Error>;

pub const DOM0: DomId = DomId(0);
/// The domain of the server in most tests.
pub const GUEST: DomId = DomId(1);
pub const PATH: &str = "data/vchan";
pub const RING_REF: &str = "/local/domain/1/data/vchan/ring-ref";
pub const EVENT_CHANNEL: &str = "/local/domain/1/data/vchan/event-channel";

/// Offsets of the page's fields.
pub const LEFT_CONS: usize = 0;
pub const LEFT_PROD: usize = 4;
pub const RIGHT_CONS: usize = 8;
pub const RIGHT_PROD: usize = 12;
pub const CLI_LIVE: usize = 20;
pub const SRV_LIVE: usize = 21;
pub const CLI_NOTIFY: usize = 22;
pub const SRV_NOTIFY: usize = 23;

/// A world with its xenstored and three guests.
pub struct Bench(xen_sim::Bench);

/// A process and its connection to xenstore.
#[derive(Clone)]
pub struct Host {
    pub domain: Domain,
    pub store: Store,
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
        Bench(xen_sim::Bench::new(sim, |xs| {
            (1..=3).for_each(|guest| xs.introduce(DomId(guest)));
            xs.set("/local/domain/0/data", "");
        }))
    }

    /// A new process of a domain.
    pub fn host(&self, domid: DomId) -> Host {
        let domain = self.sim.domain(domid.0);
        let (from, to) = self.xs.connect(domid);
        let (store, driver) = xen_store::connect(from, to);
        self.sim.spawn(&domain, driver);
        Host { domain, store }
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

impl Host {
    pub async fn publish(&self, peer: DomId, orders: (u16, u16)) -> Offer<Domain> {
        Offer::publish(&self.domain, &self.store, &server(peer, orders)).await.unwrap()
    }

    pub async fn connect(&self) -> Result<Connection<Domain>, Error> {
        xen_vchan::connect(&self.domain, &self.store, &client(self.in_secs(60))).await
    }

    pub fn in_secs(&self, secs: u64) -> Option<Time> {
        Some(self.domain.now() + Duration::from_secs(secs))
    }
}

/// The guest as server and dom0 as client, connected.
pub async fn pair(
    guest: &Host,
    dom0: &Host,
    orders: (u16, u16),
) -> (Connection<Domain>, Connection<Domain>) {
    let offer = guest.publish(DOM0, orders).await;
    let client = dom0.connect().await.unwrap();
    (offer.accept().await.unwrap(), client)
}

/// Returns true if bytes pass both ways.
pub async fn works(server: &Connection<Domain>, client: &Connection<Domain>) {
    for (from, to) in [(server, client), (client, server)] {
        from.split().1.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        to.split().0.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
}

/// A new client of the guest, in a process of its own, and its connection with a new offer.
pub async fn next_client_is_served(guest: &Host, dom0: &Host) {
    let (server, client) = pair(guest, dom0, (12, 12)).await;
    works(&server, &client).await;
    client.close().await.unwrap();
    server.close().await.unwrap();
}

/// A server for `peer` at the usual path.
pub fn server(peer: DomId, (left, right): (u16, u16)) -> ServerConfig {
    let order = |order| Order::new(order).unwrap();
    ServerConfig::new(peer, PATH).rings(order(left), order(right))
}

/// A client of the guest at the usual path.
pub fn client(deadline: Option<Time>) -> ClientConfig {
    ClientConfig::new(GUEST, PATH).deadline(deadline)
}

/// Bytes that look random but are the same each time, so that a byte in the wrong place is seen.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The head of a server's page as it should be, to be made wrong.
pub fn good_head(left_order: u16, right_order: u16) -> Interface {
    let zero = Indices { cons: 0, prod: 0 };
    Interface {
        left: zero,
        right: zero,
        left_order,
        right_order,
        cli_live: Live::NOT_YET,
        srv_live: Live::CONNECTED,
        cli_notify: 1,
        srv_notify: 0,
    }
}

/// A server that writes what it likes.
pub struct RawServer {
    pub page: Grant,
    pub ring: Grant,
    pub channel: xen_sim::Channel,
}

impl RawServer {
    /// Shares a page with this head, which lists the `ring`'s 8 pages, and publishes it.
    pub fn publish(bench: &Bench, guest: &Domain, head: Interface) -> Self {
        let page = guest.share(DOM0, 1).unwrap();
        let ring = guest.share(DOM0, 8).unwrap();
        let channel = guest.listen(DOM0).unwrap();
        page.write(0, head.as_bytes());
        let refs: Vec<u32> = ring.refs().iter().map(|gref| gref.0).collect();
        page.write(size_of::<Interface>(), refs.as_bytes());
        bench.xs.set(RING_REF, page.refs()[0].to_string());
        bench.xs.set(EVENT_CHANNEL, channel.port().to_string());
        for key in [RING_REF, EVENT_CHANNEL] {
            bench.xs.set_permissions(key, "n1 r0");
        }
        RawServer { page, ring, channel }
    }
}

/// Removes what a raw server has published.
pub fn unpublish(bench: &Bench) {
    bench.xs.remove("/local/domain/1/data/vchan");
}

/// A client that writes what it likes: it has mapped the page of an offer and bound its port.
pub struct RawClient {
    pub domain: Domain,
    pub page: xen_sim::Map,
    pub channel: xen_sim::Channel,
}

impl RawClient {
    pub fn attach(dom0: &Domain, offer: &Offer<Domain>) -> Self {
        Self::of_info(dom0, offer.info())
    }

    pub fn of_info(dom0: &Domain, info: &Info) -> Self {
        let page = dom0.map(GUEST, &[info.control_ref], xen_platform::Access::ReadWrite).unwrap();
        let channel = dom0.connect(GUEST, info.port).unwrap();
        assert_eq!(page.len(), PAGE_SIZE);
        RawClient { domain: dom0.clone(), page, channel }
    }

    /// Says that it is there, as a client of today does.
    pub fn join(&self) {
        self.page.store_u8(SRV_NOTIFY, 1);
        self.page.store_u8(CLI_LIVE, 1);
        self.channel.notify();
    }
}
