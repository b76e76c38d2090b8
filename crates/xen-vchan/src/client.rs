//! The client: finds a server's keys, maps its pages, and says that it is there.

mod attach;

use crate::keys::{Fault, Keys};
use crate::link::Link;
use crate::monitor::{PeerMonitor, watch_deaths};
use crate::{ConfigError, Connection, Error, PeerError, Stale, WindowSize};
use alloc::rc::Rc;
use alloc::string::String;
use attach::{Attached, attach};
use core::future::poll_fn;
use core::task::Poll;
use core::time::Duration;
use xen_platform::{DomId, Elapsed, Platform, Port, Time, deadline};
use xen_store::{Store, Watch};

/// The interval at which a client that waits tries a channel again that was taken: its client may
/// have left a server that uses the channel for the next, or have died before it was there.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The configuration of a client: the server and how long to wait for it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The server's domain.
    pub peer: DomId,
    /// The folder with its keys in xenstore: absolute, or relative to the server's folder
    /// (`data/vchan`).
    pub path: String,
    /// The time until which to wait for a usable offer; `None` is as long as the server's domain
    /// lives, where this one may know that: dom0 may. What a server does that was connected to is
    /// beyond this: it may do nothing, and every wait for it can have a deadline of its own.
    pub deadline: Option<Time>,
    /// Waits for an offer, if true, and else fails at once if there is no usable one.
    pub waits: bool,
    /// Closes each direction on its own where the server can, too.
    pub half_close: bool,
    /// The size of the terminal at which the client's user sits, for a server that can half-close.
    pub window: Option<WindowSize>,
}

impl ClientConfig {
    /// Returns the configuration of a client of `peer` under `path`, without a deadline.
    pub fn new(peer: DomId, path: impl Into<String>) -> Self {
        let (deadline, waits, half_close, window) = (None, true, true, None);
        ClientConfig { peer, path: path.into(), deadline, waits, half_close, window }
    }

    /// Changes the time until which to wait.
    pub fn deadline(mut self, deadline: Option<Time>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Looks for an offer once, and fails if there is no usable one, as libxenvchan's client does.
    pub fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// Passes the size of a terminal to the server, which knows it as soon as the client has come.
    pub fn window(mut self, size: Option<WindowSize>) -> Self {
        self.window = size;
        self
    }

    /// Leaves the bits of half-close alone, so that this end is like one of libxenvchan.
    pub fn without_half_close(mut self) -> Self {
        self.half_close = false;
        self
    }
}

/// Waits for a server's offer and connects to it. Keys that lead nowhere (left over from a server
/// that is gone, or of one that serves another client) are not the end: they may be replaced until
/// the deadline comes.
///
/// Fails with [`Error::NoServer`], [`Error::Stale`] or [`Error::Busy`] at the deadline, saying what
/// was found last; at once with [`Error::Died`] if the domain does not exist or ends, and with
/// [`Error::Peer`] if what is offered is wrong.
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
    let seeking = seek(platform, store, config, keys, &mut obstacle);
    let found = deadline(platform, config.deadline, seeking).await;
    match found {
        Ok(link) => Ok(Connection::new(Rc::new(link?))),
        Err(Elapsed) => Err(obstacle.map_or(Error::Timeout, |why| why.into_error(path))),
    }
}

/// An obstacle between the client and a connection, and may go away.
enum Obstacle<E> {
    NoKeys,
    /// The keys cannot be read, which in a folder that cannot be read either may only mean that
    /// there are none.
    Hidden(xen_store::Error),
    Busy,
    Stale(Stale<E>),
}

impl<E> Obstacle<E> {
    /// The error of a client that waits no longer for the keys in the folder `path`.
    fn into_error(self, path: String) -> Error<E> {
        match self {
            Obstacle::NoKeys => Error::NoServer { path },
            Obstacle::Hidden(error) => Error::Store(error),
            Obstacle::Busy => Error::Busy { path },
            Obstacle::Stale(why) => Error::Stale { path, why },
        }
    }
}

/// The reason why an attempt failed.
enum Failure<E> {
    ForNow(Obstacle<E>),
    ForGood(Error<E>),
}

impl<E> From<PeerError> for Failure<E> {
    fn from(error: PeerError) -> Self {
        Failure::ForGood(error.into())
    }
}

impl<E> From<xen_store::Error> for Failure<E> {
    fn from(error: xen_store::Error) -> Self {
        Failure::ForGood(error.into())
    }
}

impl<E> From<Fault> for Failure<E> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) if matches!(error.kind, xen_store::ErrorKind::Access) => {
                Failure::ForNow(Obstacle::Hidden(error))
            }
            Fault::Store(error) => Failure::ForGood(error.into()),
            Fault::Peer(error) => Failure::ForGood(error.into()),
        }
    }
}

/// Tries whenever the keys change; `obstacle` holds the reason why it is still trying.
///
/// Many clients may wait for the same server, and all of them learn of each fresh channel, which
/// one of them gets. So to fail costs the others as little as it can: one event, one request, and
/// one port that cannot be bound.
async fn seek<P: Platform>(
    platform: &P,
    store: &Store,
    config: &ClientConfig,
    keys: Keys,
    obstacle: &mut Option<Obstacle<P::Error>>,
) -> Result<Link<P>, Error<P::Error>> {
    let peer = config.peer;
    let mut changes = store.watch(keys.last_written()).await?;
    let mut deaths = watch_deaths(store, peer).await;
    let mut change = Some(Change::Domain);
    // The port that was refused last, and whether the reason was looked for.
    let mut refused: Option<(Port, bool)> = None;
    loop {
        if change == Some(Change::Domain)
            && peer != DomId(0)
            && store.is_domain_introduced(peer).await == Ok(false)
        {
            return Err(Error::Died(peer));
        }
        let port = match (change, refused) {
            (None, Some((port, _))) => Some(port),
            _ => keys.peek(store).await?,
        };
        let claim = match port.map(|port| platform.connect(peer, port)) {
            Some(Err(error)) if P::is_local(&error) => return Err(Error::Platform(error)),
            claim => claim.and_then(Result::ok),
        };
        // Why it is taken is asked at once if nothing is known yet, or later if it stays.
        let is_known = matches!(refused, Some((known, true)) if Some(known) == port);
        let is_late = change.is_none() || obstacle.is_none();
        let is_taken = port.is_some() && claim.is_none();
        if let (Some(port), true) = (port, is_taken && (is_known || !is_late)) {
            refused = Some((port, is_known));
            if !is_known {
                *obstacle = Some(Obstacle::Busy);
            }
        } else {
            refused = port.map(|port| (port, true));
            match attempt(platform, store, peer, &keys, port.zip(claim)).await {
                Ok(Attached { info, first_page, channel, rings, half_close }) => {
                    let monitor = PeerMonitor::new(platform, store, peer, deaths);
                    let link = Link::new(keys, info, first_page, channel, rings, monitor);
                    link.announce(half_close && config.half_close, config.window);
                    return Ok(link);
                }
                Err(Failure::ForGood(error)) => return Err(error),
                Err(Failure::ForNow(why)) if !config.waits => return Err(why.into_error(keys.dir)),
                Err(Failure::ForNow(why)) => *obstacle = Some(why),
            }
        }
        let news = wait_for_change(&mut changes, &mut deaths);
        let until = refused.map(|_| platform.now() + RETRY_EVERY);
        change = deadline(platform, until, news).await.ok().transpose()?;
    }
}

/// Connects to what the keys lead to. `claim` is a port of the server's that was bound.
async fn attempt<P: Platform>(
    platform: &P,
    store: &Store,
    peer: DomId,
    keys: &Keys,
    claim: Option<(Port, P::Channel)>,
) -> Result<Attached<P>, Failure<P::Error>> {
    let Some(values) = keys.find(store, peer).await? else {
        return Err(Failure::ForNow(Obstacle::NoKeys));
    };
    let claim = claim.filter(|(port, _)| *port == values.port).map(|(_, channel)| channel);
    attach(platform, peer, values, claim)
}

/// A reason to try again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The keys may have changed.
    Keys,
    /// A domain has gone.
    Domain,
}

/// Waits until the keys may have changed or a domain has gone.
async fn wait_for_change(
    changes: &mut Watch,
    deaths: &mut Option<Watch>,
) -> Result<Change, xen_store::Error> {
    poll_fn(|cx| {
        if let Some(deaths) = deaths {
            if let Poll::Ready(death) = deaths.poll_next(cx) {
                return Poll::Ready(death.map(|_| Change::Domain));
            }
        }
        let mut changed = Poll::Pending;
        // Several changes since the last attempt are one reason for the next.
        while let Poll::Ready(change) = changes.poll_next(cx) {
            change?;
            changed = Poll::Ready(Ok(Change::Keys));
        }
        changed
    })
    .await
}
