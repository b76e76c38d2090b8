//! The client: finds a server's keys, maps its pages, and says that it is there.

use crate::info::{Info, Role};
use crate::keys::{Fault, Keys, Values};
use crate::link::Link;
use crate::lookout::{Lookout, watch_deaths};
use crate::memory::{Memory, Pages};
use crate::rings::Rings;
use crate::{ConfigError, Connection, Error, Order, Orders, PeerError, Side, Stale};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;
use xen_abi::vchan::{self, GRANTS, Interface};
use xen_platform::{Access, Channel, DomId, Elapsed, GrantRef, IndexMemory, Platform, SharedMem, Time, deadline};
use xen_store::{Store, Watch};
use zerocopy::IntoBytes;

/// Which server to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// The server's domain.
    pub peer: DomId,
    /// The folder with its keys in xenstore: absolute, or relative to the server's folder (`data/vchan`).
    pub path: String,
    /// Until when to wait for a usable offer; `None` is as long as the server's domain lives, where this one may know that:
    /// dom0 may. What a server does that was connected to is beyond this: it may do nothing, and every wait for it can
    /// have a deadline of its own.
    pub deadline: Option<Time>,
}

/// Waits for a server's offer and connects to it. Keys that lead nowhere (left over from a server that is gone, or of one
/// that serves another client) are not the end: they may be replaced until the deadline comes.
///
/// Fails with [`Error::NoServer`], [`Error::Stale`] or [`Error::Busy`] at the deadline, saying what was found last; at
/// once with [`Error::Died`] if the domain does not exist or ends, and with [`Error::Peer`] if what is offered is wrong.
pub async fn connect<P: Platform>(
    platform: &P,
    store: &Store,
    config: &ClientConfig,
) -> Result<Connection<P>, Error<P::Error>> {
    if platform.domid() == Some(config.peer) {
        return Err(ConfigError::OwnDomain(config.peer).into());
    }
    let keys = Keys::new(config.peer, &config.path);
    let mut obstacle = None;
    let path = keys.dir.clone();
    let found = deadline(platform, config.deadline, seek(platform, store, config.peer, keys, &mut obstacle)).await;
    match found {
        Ok(link) => Ok(Connection::new(Rc::new(link?))),
        Err(Elapsed) => Err(match obstacle {
            None => Error::Timeout,
            Some(Obstacle::NoKeys) => Error::NoServer { path },
            Some(Obstacle::Hidden(error)) => Error::Store(error),
            Some(Obstacle::Busy) => Error::Busy { path },
            Some(Obstacle::Stale(why)) => Error::Stale { path, why },
        }),
    }
}

/// What stands between the client and a connection, and may go away.
enum Obstacle<E> {
    NoKeys,
    /// The keys cannot be read, which in a folder that cannot be read either may only mean that there are none.
    Hidden(xen_store::Error),
    Busy,
    Stale(Stale<E>),
}

/// Why an attempt failed.
enum Failure<E> {
    ForNow(Obstacle<E>),
    ForGood(Error<E>),
}

impl<E> From<PeerError> for Failure<E> {
    fn from(error: PeerError) -> Self {
        Failure::ForGood(error.into())
    }
}

impl<E> From<Fault> for Failure<E> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) if error.kind == xen_store::ErrorKind::Access => {
                Failure::ForNow(Obstacle::Hidden(error))
            }
            Fault::Store(error) => Failure::ForGood(error.into()),
            Fault::Peer(error) => Failure::ForGood(error.into()),
        }
    }
}

/// Tries whenever the keys change; `obstacle` tells why it is still trying.
async fn seek<P: Platform>(
    platform: &P,
    store: &Store,
    peer: DomId,
    keys: Keys,
    obstacle: &mut Option<Obstacle<P::Error>>,
) -> Result<Link<P>, Error<P::Error>> {
    let mut changes = store.watch(&keys.dir).await?;
    let mut deaths = watch_deaths(store, peer).await;
    loop {
        if peer != DomId(0) && store.is_domain_introduced(peer).await == Ok(false) {
            return Err(Error::Died(peer));
        }
        let attempt = match keys.find(store, peer).await {
            Ok(Some(values)) => attach(platform, peer, values),
            Ok(None) => Err(Failure::ForNow(Obstacle::NoKeys)),
            Err(fault) => Err(fault.into()),
        };
        match attempt {
            Ok(Attached { info, first_page, channel, rings }) => {
                let lookout = Lookout::new(platform, store, peer, deaths);
                let link = Link::new(keys, info, first_page, channel, rings, lookout);
                link.announce();
                return Ok(link);
            }
            Err(Failure::ForGood(error)) => return Err(error),
            Err(Failure::ForNow(why)) => *obstacle = Some(why),
        }
        news(&mut changes, &mut deaths).await?;
    }
}

/// Waits until the keys may have changed or a domain has gone.
async fn news(changes: &mut Watch, deaths: &mut Option<Watch>) -> Result<(), xen_store::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(change) = changes.poll_next(cx) {
            return Poll::Ready(change.map(drop));
        }
        match deaths {
            Some(deaths) => deaths.poll_next(cx).map_ok(drop),
            None => Poll::Pending,
        }
    })
    .await
}

/// What an attempt gives that succeeds.
struct Attached<P: Platform> {
    info: Info,
    /// The page's head and list of grants, as they were found.
    first_page: Vec<u8>,
    channel: P::Channel,
    rings: Rings<P>,
}

/// Maps what the keys lead to and checks it, and only then binds the port: an attempt that fails leaves no trace at the
/// server. (libxenvchan binds first. The server cannot tell, as long as the port is bound when `cli_live` says so.)
fn attach<P: Platform>(platform: &P, peer: DomId, values: Values) -> Result<Attached<P>, Failure<P::Error>> {
    let stale = |why| Failure::ForNow(Obstacle::Stale(why));
    let map = |refs: &[GrantRef], access| platform.map(peer, refs, access).map_err(|error| stale(Stale::Map(error)));
    let control = map(&[values.control_ref], Access::ReadWrite)?;
    let head = read_head(&control);
    check_live(&head)?;
    let orders = check_orders(&head)?;
    let refs = read_refs(&control, orders);
    let first_page = [head.as_bytes(), refs.as_bytes()].concat();
    let (left_refs, right_refs) = refs.split_at(orders.left().pages());
    let typed = |refs: &[u32]| -> Vec<_> { refs.iter().copied().map(GrantRef).collect() };
    let (left_refs, right_refs) = (typed(left_refs), typed(right_refs));
    let ring = |refs: &[GrantRef], access| match refs {
        [] => Ok(None),
        refs => map(refs, access).map(Memory::Peer).map(Some),
    };
    let left = ring(&left_refs, Access::ReadWrite)?;
    let right = ring(&right_refs, Access::ReadOnly)?;

    let rings = Rings::client(Pages { control: Memory::Peer(control), left, right }, orders, &head)?;

    let channel = platform.connect(peer, values.port).map_err(|error| stale(Stale::Bind(error)))?;
    rings.announce_death(platform, &channel).map_err(|error| Failure::ForGood(Error::Platform(error)))?;
    let info = Info {
        peer,
        role: Role::Client,
        control_ref: values.control_ref,
        left_refs,
        right_refs,
        port: values.port,
        local_port: channel.port(),
        orders,
    };
    Ok(Attached { info, first_page, channel, rings })
}

/// Reads the page's head, each field once and in one access: from here on only the copy is looked at.
fn read_head(page: &impl IndexMemory) -> Interface {
    const WORDS: usize = size_of::<Interface>() / 4;
    let words: [u32; WORDS] = core::array::from_fn(|n| page.load(4 * n));
    zerocopy::transmute!(words)
}

/// Whether the page belongs to a server that waits for a client.
fn check_live<E>(head: &Interface) -> Result<(), Failure<E>> {
    match head.srv_live {
        vchan::Live::CONNECTED => {}
        vchan::Live::EXITED | vchan::Live::NOT_YET => return Err(Failure::ForNow(Obstacle::Stale(Stale::NoServer))),
        vchan::Live(value) => return Err(PeerError::Live { who: Role::Server, value }.into()),
    }
    match head.cli_live {
        vchan::Live::NOT_YET => Ok(()),
        vchan::Live::CONNECTED => Err(Failure::ForNow(Obstacle::Busy)),
        vchan::Live::EXITED => Err(Failure::ForNow(Obstacle::Stale(Stale::Used))),
        vchan::Live(value) => Err(PeerError::Live { who: Role::Client, value }.into()),
    }
}

fn check_orders(head: &Interface) -> Result<Orders, PeerError> {
    let order = |side, order: u16| Order::new(order).ok_or(PeerError::Order { side, order });
    Ok(Orders::new(order(Side::Left, head.left_order)?, order(Side::Right, head.right_order)?)?)
}

/// Reads the grants of the left ring and then those of the right.
fn read_refs(page: &impl SharedMem, orders: Orders) -> Vec<u32> {
    let mut refs = vec![0u32; orders.left().pages() + orders.right().pages()];
    page.read(GRANTS, refs.as_mut_bytes());
    refs
}
