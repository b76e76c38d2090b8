//! A platform that counts what costs a hypercall.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_platform::{Access, Clock, DomId, EventCounter, GrantRef, Piece, Platform, Port, Time};
use xen_sim::{Domain, Error, Grant, Map};

/// A domain's process, and how often it has asked for the state of an event channel.
#[derive(Clone)]
pub struct Counting {
    pub domain: Domain,
    pub asked: Rc<Cell<u32>>,
}

/// An event channel of such a process.
pub struct Channel {
    channel: xen_sim::Channel,
    asked: Rc<Cell<u32>>,
}

impl Clock for Counting {
    fn now(&self) -> Time {
        self.domain.now()
    }
    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        self.domain.poll_until(at, cx)
    }
}

impl Counting {
    fn channel(&self, channel: xen_sim::Channel) -> Channel {
        Channel { channel, asked: self.asked.clone() }
    }
}

impl Platform for Counting {
    type Grant = Grant;
    type Map = Map;
    type Channel = Channel;
    type Error = Error;

    fn pauses(&self) -> &EventCounter {
        self.domain.pauses()
    }
    fn domid(&self) -> Option<DomId> {
        self.domain.domid()
    }
    fn share(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.domain.share(peer, pages)
    }
    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.domain.share_read_only(peer, pages)
    }
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Error> {
        self.domain.map(peer, refs, access)
    }
    fn copy(&self, peer: DomId, pieces: &mut [Piece<'_>]) -> Result<(), Error> {
        self.domain.copy(peer, pieces)
    }
    fn listen(&self, peer: DomId) -> Result<Channel, Error> {
        self.domain.listen(peer).map(|channel| self.channel(channel))
    }
    fn connect(&self, peer: DomId, port: Port) -> Result<Channel, Error> {
        self.domain.connect(peer, port).map(|channel| self.channel(channel))
    }
    fn clear_grant_on_death(&self, grant: &Grant, at: usize, channel: &Channel) -> Result<(), Error> {
        self.domain.clear_grant_on_death(grant, at, &channel.channel)
    }
    fn clear_map_on_death(&self, map: &Map, at: usize, channel: &Channel) -> Result<(), Error> {
        self.domain.clear_map_on_death(map, at, &channel.channel)
    }
}

impl xen_platform::Channel for Channel {
    fn port(&self) -> Port {
        self.channel.port()
    }
    fn notify(&self) {
        self.channel.notify()
    }
    fn seen(&self) -> u32 {
        self.channel.seen()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.channel.poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.channel.is_bound()
    }
}
