//! Dom0 for who may not ask Xen: the simulated domain, but for event channels that do not tell whether their peer is there.

use std::task::{Context, Poll};
use xen_platform::{Access, Channel, Clock, DomId, EventCounter, GrantRef, Piece, Platform, Port, Time};
use xen_sim::{Domain, Error, Grant, Map};

#[derive(Clone)]
pub struct Blind(pub Domain);

pub struct BlindChannel(xen_sim::Channel);

impl Clock for Blind {
    fn now(&self) -> Time {
        self.0.now()
    }
    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_until(at, cx)
    }
}

impl Channel for BlindChannel {
    fn port(&self) -> Port {
        self.0.port()
    }
    fn notify(&self) {
        self.0.notify()
    }
    fn seen(&self) -> u32 {
        self.0.seen()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        true
    }
}

impl Platform for Blind {
    type Grant = Grant;
    type Map = Map;
    type Channel = BlindChannel;
    type Error = Error;

    fn pauses(&self) -> &EventCounter {
        self.0.pauses()
    }
    fn domid(&self) -> Option<DomId> {
        self.0.domid()
    }
    fn share(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.0.share(peer, pages)
    }
    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        self.0.share_read_only(peer, pages)
    }
    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Error> {
        self.0.map(peer, refs, access)
    }
    fn copy(&self, peer: DomId, pieces: &mut [Piece<'_>]) -> Result<(), Error> {
        self.0.copy(peer, pieces)
    }
    fn listen(&self, peer: DomId) -> Result<BlindChannel, Error> {
        self.0.listen(peer).map(BlindChannel)
    }
    fn connect(&self, peer: DomId, port: Port) -> Result<BlindChannel, Error> {
        self.0.connect(peer, port).map(BlindChannel)
    }
    fn clear_grant_on_death(&self, grant: &Grant, at: usize, channel: &BlindChannel) -> Result<(), Error> {
        self.0.clear_grant_on_death(grant, at, &channel.0)
    }
    fn clear_map_on_death(&self, map: &Map, at: usize, channel: &BlindChannel) -> Result<(), Error> {
        self.0.clear_map_on_death(map, at, &channel.0)
    }
}
