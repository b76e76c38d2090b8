//! The server: shares a page, publishes it, and waits for the client.
//!
//! Every client gets a fresh page, fresh rings and a fresh port, so that nothing of one client's
//! connection, and nothing that it may still do to the pages it knows, reaches the next one.

use crate::info::{Info, Role};
use crate::keys::{Keys, Values};
use crate::layout::own_domid;
use crate::link::Link;
use crate::memory::{Memory, Pages};
use crate::monitor::{PeerMonitor, watch_deaths};
use crate::rings::{Rings, WaitFor, half_close};
use crate::{ConfigError, Connection, Error, Order, Orders};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::vchan::{self, GRANTS, Indices, Interface, NOTIFY_WRITE};
use xen_platform::{Channel, DomId, GrantRef, Granted, Platform, SharedMem};
use xen_store::Store;
use zerocopy::IntoBytes;

/// The interval at which a client that may not exist yet is given its permissions again.
const PERMIT_EVERY: Duration = Duration::from_secs(1);

/// The configuration of a server: its client and its channel.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The only domain that can be the client.
    pub peer: DomId,
    /// The folder for the keys in xenstore: absolute, or relative to the own domain's folder
    /// (`data/vchan`).
    pub path: String,
    /// The ring from the client to the server.
    pub left: Order,
    /// The ring from the server to the client.
    pub right: Order,
    /// Closes each direction on its own where the client can, too.
    pub half_close: bool,
}

impl ServerConfig {
    /// Returns the configuration of a channel for `peer` under `path`, with rings of 8 KiB.
    pub fn new(peer: DomId, path: impl Into<String>) -> Self {
        let order = Order::for_size(8192).expect("a ring can have 8 KiB");
        ServerConfig { peer, path: path.into(), left: order, right: order, half_close: true }
    }

    /// Leaves the bits of half-close alone, so that this end is like one of libxenvchan.
    pub fn without_half_close(mut self) -> Self {
        self.half_close = false;
        self
    }

    /// Changes the orders of the two rings.
    pub fn rings(mut self, left: Order, right: Order) -> Self {
        (self.left, self.right) = (left, right);
        self
    }
}

/// A published channel that waits for its client. Dropping it takes the channel back but leaves the
/// keys: see [`Offer::withdraw`].
pub struct Offer<P: Platform> {
    link: Rc<Link<P>>,
    seen: u32,
    /// The peer may not exist yet, and its permissions be forgotten when it comes.
    may_be_forgotten: bool,
}

impl<P: Platform> Offer<P> {
    /// Shares the pages and publishes them in xenstore, as the last step and all at once, readable
    /// by the peer alone. What an earlier server left under the same path is replaced, or removed
    /// if this fails.
    pub async fn publish(
        platform: &P,
        store: &Store,
        config: &ServerConfig,
    ) -> Result<Offer<P>, Error<P::Error>> {
        Self::publish_from(platform, store, config, 0).await
    }

    /// As [`Offer::publish`], with indices that begin at `start`. A peer that keeps to the protocol
    /// cannot tell; a test can so see them wrap.
    pub async fn publish_from(
        platform: &P,
        store: &Store,
        config: &ServerConfig,
        start: u32,
    ) -> Result<Offer<P>, Error<P::Error>> {
        let orders = Orders::new(config.left, config.right).map_err(ConfigError::from)?;
        let own = own_domid(platform, store).await?;
        if own == config.peer {
            return Err(ConfigError::OwnDomain(own).into());
        }
        let keys = Keys::new(own, &config.path);
        let monitor =
            PeerMonitor::new(platform, store, config.peer, watch_deaths(store, config.peer).await);
        let link = match share(platform, config, keys, orders, start, monitor) {
            Ok(link) => link,
            Err(error) => {
                Keys::new(own, &config.path).sweep(store).await?;
                return Err(Error::Platform(error));
            }
        };
        let values = Values { control_ref: link.info.control_ref, port: link.info.port };
        link.keys.publish(store, own, config.peer, values).await?;
        let may_be_forgotten = ![own, config.peer].contains(&DomId(0));
        Ok(Offer { seen: link.seen(), link: Rc::new(link), may_be_forgotten })
    }

    /// Returns what is offered.
    pub fn info(&self) -> &Info {
        &self.link.info
    }

    /// The used bytes of the shared page as they are now: its head and the list of grants.
    pub fn page(&self) -> Vec<u8> {
        self.link.head()
    }

    /// Waits until the client has come, as long as it takes. Dropping the future leaves the offer
    /// as it was.
    ///
    /// It waits idle, without a timer, where the client's domain is known to be there: dom0 always
    /// is, and dom0 itself knows of all. Elsewhere the client is given its permission to read the
    /// keys once a second: xenstore forgets one for a domain that does not exist yet (XSA-322), and
    /// no guest can learn that another has come.
    ///
    /// Clients that say nothing when they connect (those of Xen before 4.14) are noticed when they
    /// first write or read.
    pub async fn arrival(&mut self) -> Result<(), Error<P::Error>> {
        let Offer { link, seen, may_be_forgotten } = self;
        if !*may_be_forgotten {
            return link.until(seen, WaitFor::Data, |link| link.try_client()).await;
        }
        loop {
            let arrived = link.until(seen, WaitFor::Data, |link| link.try_client());
            if let Ok(arrived) = link.within(PERMIT_EVERY, arrived).await {
                return arrived;
            }
            link.keys.permit(link.store(), link.info.peer).await?;
        }
    }

    /// Waits for the client and returns the connection with it. A client that has come, written and
    /// left by now is one, too: what it wrote can be read.
    pub async fn accept(mut self) -> Result<Connection<P>, Error<P::Error>> {
        self.arrival().await?;
        Ok(self.into_connection())
    }

    /// Returns the connection without waiting for the client: what is written stays in the ring
    /// until it comes. [`Connection::has_met`] tells.
    pub fn into_connection(self) -> Connection<P> {
        Connection::new(self.link)
    }

    /// Takes the offer back and removes its keys.
    pub async fn withdraw(self) -> Result<(), Error<P::Error>> {
        self.link.close(None).await
    }
}

/// Opens the port, shares the pages, and fills the page in: all that is done before anyone hears of
/// it.
fn share<P: Platform>(
    platform: &P,
    config: &ServerConfig,
    keys: Keys,
    orders: Orders,
    start: u32,
    monitor: PeerMonitor<P>,
) -> Result<Link<P>, P::Error> {
    let peer = config.peer;
    let channel = platform.listen(peer)?;
    let control = platform.share(peer, 1)?;
    let ring = |order: Order| match order.pages() {
        0 => Ok(None),
        pages => platform.share(peer, pages).map(Some),
    };
    let (left, right) = (ring(orders.left())?, ring(orders.right())?);
    let refs = |ring: &Option<P::Grant>| {
        ring.as_ref().map(|pages| pages.refs().to_vec()).unwrap_or_default()
    };
    let info = Info {
        peer,
        role: Role::Server,
        control_ref: control.refs()[0],
        left_refs: refs(&left),
        right_refs: refs(&right),
        port: channel.port(),
        local_port: channel.port(),
        orders,
    };
    fill_in(&control, &info, start, config.half_close);
    let pages = Pages {
        control: Memory::Own(control),
        left: left.map(Memory::Own),
        right: right.map(Memory::Own),
    };
    let rings = Rings::server(pages, orders, start);
    rings.announce_death(platform, &channel)?;
    let link = Link::new(keys, info, rings.head(), channel, rings, monitor);
    Ok(if config.half_close { link } else { link.without_half_close() })
}

/// Writes the page's head as libxenvchan does (init_gnt_srv, tools/libs/vchan/init.c): both ends
/// named, the client asked to say when it writes, the server not yet asked for anything. A client
/// that can half-close learns from the spare bit that the server can.
fn fill_in(page: &impl SharedMem, info: &Info, start: u32, half_close: bool) {
    let indices = Indices { cons: start, prod: start };
    let head = Interface {
        left: indices,
        right: indices,
        left_order: info.orders.left().get().into(),
        right_order: info.orders.right().get().into(),
        cli_live: vchan::Live::NOT_YET,
        srv_live: vchan::Live::CONNECTED,
        cli_notify: NOTIFY_WRITE | if half_close { half_close::CAPABLE } else { 0 },
        srv_notify: 0,
    };
    page.write(0, head.as_bytes());
    let refs: Vec<u32> =
        info.left_refs.iter().chain(&info.right_refs).map(|&GrantRef(gref)| gref).collect();
    page.write(GRANTS, refs.as_bytes());
}
