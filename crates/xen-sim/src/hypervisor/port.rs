//! Event channels, with Xen's states: a port that exists is unbound or bound to a port of another
//! domain.

use super::process::Domain;
use super::world::State;
use crate::{Operation, Reason};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_platform::{DomId, EventCounter, Port};

/// The first port handed out: libxl opens two for the store and the console before the domain runs,
/// and 0 is no port.
const FIRST_PORT: u32 = 3;

/// One end of an event channel. See [`xen_platform::Channel`].
pub struct Channel {
    domain: Domain,
    port: Port,
    /// The generation of the process that opened it: a stale handle cannot close a reused number.
    generation: u32,
    events: Rc<Events>,
}

/// Events that reached a port, and the tasks that wait for more.
#[derive(Default)]
pub(crate) struct Events {
    counter: EventCounter,
    pub waiting: Cell<bool>,
}

impl Events {
    pub fn signal(&self) {
        self.waiting.set(false);
        self.counter.signal();
    }
}

/// The other end (`EVTCHNSTAT_*`, event_channel.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// `peer` may bind.
    Unbound { peer: DomId },
    /// Bound to a port of `peer`.
    Bound { peer: DomId, port: Port },
}

pub(crate) struct PortState {
    pub process: u64,
    pub link: Link,
    /// The pending bit: events that come before it is delivered count as one.
    pub pending: bool,
    pub events: Rc<Events>,
    /// Last words that still need the port.
    pub holds: u32,
    /// The channel was dropped, and only last words keep the port.
    pub dropped: bool,
    /// Events that the test still wants to raise.
    pub spurious: u32,
    /// Events that the test still wants to lose.
    pub lost: u32,
}

impl Domain {
    pub(crate) fn open_port(&self, peer: DomId) -> Result<Channel, Reason> {
        self.admit(Operation::Listen)?;
        if peer >= DomId::FIRST_RESERVED {
            return Err(Reason::NoDomain(peer));
        }
        Ok(self.add_port(Link::Unbound { peer }))
    }

    pub(crate) fn bind_port(&self, peer: DomId, port: Port) -> Result<Channel, Reason> {
        self.admit(Operation::Connect)?;
        self.may_bind(peer, port)?;
        let channel = self.add_port(Link::Bound { peer, port });
        let mut state = self.0.world.0.state.borrow_mut();
        let theirs = state.port(peer, port).expect("just looked at");
        theirs.link = Link::Bound { peer: self.id(), port: channel.port };
        // An event sent before the binding would be lost, so Xen makes the new port pending once.
        state.port(self.id(), channel.port).expect("just added").pending = true;
        drop(state);
        Ok(channel)
    }

    fn may_bind(&self, peer: DomId, port: Port) -> Result<(), Reason> {
        let mut state = self.0.world.0.state.borrow_mut();
        state.living(peer).ok_or(Reason::NoDomain(peer))?;
        match state.port(peer, port).ok_or(Reason::NoPort(port))?.link {
            Link::Unbound { peer: to } if to == self.id() => Ok(()),
            Link::Unbound { peer: to } => Err(Reason::PortFor { port, to }),
            Link::Bound { .. } => Err(Reason::PortBusy(port)),
        }
    }

    fn add_port(&self, link: Link) -> Channel {
        let mut state = self.0.world.0.state.borrow_mut();
        let ports = &mut state.domain(self.id()).ports;
        let port = (FIRST_PORT..)
            .map(Port)
            .find(|port| !ports.contains_key(port))
            .expect("no end of ports");
        let events = Rc::new(Events::default());
        let (process, pending, holds, dropped) = (self.0.id, false, 0, false);
        let new = PortState {
            process,
            link,
            pending,
            events: events.clone(),
            holds,
            dropped,
            spurious: 0,
            lost: 0,
        };
        ports.insert(port, new);
        Channel { domain: self.clone(), port, generation: self.0.generation(), events }
    }
}

impl State {
    pub(crate) fn port(&mut self, domid: DomId, port: Port) -> Option<&mut PortState> {
        self.domains.get_mut(&domid)?.ports.get_mut(&port)
    }

    /// An event from `port` of `domid` to the other end, if there is one.
    pub(crate) fn notify(&mut self, domid: DomId, port: Port) {
        self.domain(domid).notifies += 1;
        let Some(Link::Bound { peer, port }) = self.port(domid, port).map(|port| port.link) else {
            return;
        };
        let theirs = self.port(peer, port).expect("a bound port has its other end");
        if theirs.lost > 0 {
            theirs.lost -= 1;
        } else {
            theirs.pending = true;
        }
    }

    /// Closes a port. The other end becomes unbound, open for the same domain to bind again, and
    /// hears nothing of it.
    pub(crate) fn close(&mut self, domid: DomId, port: Port) {
        let Some(closed) = self.domain(domid).ports.remove(&port) else { return };
        if let Link::Bound { peer, port } = closed.link {
            if let Some(theirs) = self.port(peer, port) {
                theirs.link = Link::Unbound { peer: domid };
            }
        }
    }

    /// A last word that needed the port is spoken.
    pub(crate) fn unhold(&mut self, domid: DomId, port: Port) {
        let state = self.port(domid, port).expect("a held port is open");
        state.holds -= 1;
        if state.holds == 0 && state.dropped {
            self.close(domid, port);
        }
    }
}

impl Channel {
    /// Returns whether it belongs to this process.
    pub(crate) fn is_of(&self, process: &Domain) -> bool {
        Rc::ptr_eq(&self.domain.0, &process.0)
    }

    /// Returns whether the port is this channel's: its process lives, and its domain was not
    /// resumed since.
    pub(crate) fn is_open(&self) -> bool {
        self.domain.0.holds(self.generation)
    }
}

impl xen_platform::Channel for Channel {
    fn port(&self) -> Port {
        self.port
    }

    fn notify(&self) {
        if self.is_open() {
            self.domain.0.world.0.state.borrow_mut().notify(self.domain.id(), self.port);
        }
    }

    fn seen(&self) -> u32 {
        self.events.counter.count()
    }

    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        let ready = self.events.counter.poll_after(seen, cx);
        self.events.waiting.set(ready.is_pending());
        ready
    }

    fn is_bound(&self) -> bool {
        let queries = &self.domain.0.state_queries;
        queries.set(queries.get() + 1);
        if self.domain.0.is_blind.get() {
            return true;
        }
        let mut state = self.domain.0.world.0.state.borrow_mut();
        self.is_open()
            && state
                .port(self.domain.id(), self.port)
                .is_some_and(|port| matches!(port.link, Link::Bound { .. }))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.is_open() {
            return;
        }
        let mut state = self.domain.0.world.0.state.borrow_mut();
        let port = state.port(self.domain.id(), self.port).expect("a channel's port is open");
        if port.holds > 0 {
            port.dropped = true;
        } else {
            state.close(self.domain.id(), self.port);
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel(port {} of domain {})", self.port, self.domain.id())
    }
}
