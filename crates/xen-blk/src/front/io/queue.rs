//! The rings of one connection with their event channels.

use crate::front::error::{Op, PeerError};
use crate::front::xenbus::negotiate::RingPlan;
use crate::protocol::wire::{Abi, EncodedRequest, RESPONSE_MAX, Response};
use alloc::vec::Vec;
use xen_platform::{BusyPoll, Channel, DomId, PAGE_SIZE, Platform};
use xen_ring::slots::{Front, Shape};

/// A ring with its event channel.
pub(crate) struct Queue<P: Platform> {
    pub mem: P::Grant,
    pub ring: Front,
    pub channel: P::Channel,
    /// Count of events seen.
    pub seen: u32,
    pub busy_poll: BusyPoll,
    /// It has requests that the backend was not shown.
    unpushed: bool,
}

impl<P: Platform> Queue<P> {
    pub fn new(platform: &P, backend: DomId, pages: u32, abi: Abi) -> Result<Self, P::Error> {
        let channel = platform.listen(backend)?;
        let mem = platform.share(backend, pages as usize)?;
        let ring = Front::new(Shape::new(pages as usize * PAGE_SIZE, abi.slot()), &mem);
        let seen = channel.seen();
        let busy_poll = BusyPoll::new(BusyPoll::LOOKS);
        Ok(Queue { mem, ring, channel, seen, busy_poll, unpushed: false })
    }

    /// Puts a request on the ring, which must have room; the backend sees it after
    /// [`Queue::push`].
    pub fn put(&mut self, request: &EncodedRequest) {
        self.ring.put(&self.mem, request.bytes());
        self.unpushed = true;
    }

    /// Takes the next response off the ring.
    pub fn take(&mut self, number: u32, abi: Abi) -> Result<Option<Response>, PeerError> {
        let mut slot = [0; RESPONSE_MAX];
        match self.ring.take(&self.mem, &mut slot[..abi.response()]) {
            Ok(true) => Ok(Some(Response::decode(&slot))),
            Ok(false) => Ok(None),
            Err(corrupt) => Err(PeerError::Ring { queue: number, corrupt }),
        }
    }

    /// Shows the backend the requests on the ring; tells if an event was sent.
    fn push(&mut self) -> bool {
        let notify = core::mem::take(&mut self.unpushed) && self.ring.push(&self.mem);
        if notify {
            self.channel.notify();
        }
        notify
    }

    /// Asks for an event at the next response; tells if one is there already.
    pub fn arm(&mut self, number: u32) -> Result<bool, PeerError> {
        // At the very next one: the second may take for ever, and the first must not wait for it.
        self.ring.arm(&self.mem, 1).map_err(|corrupt| PeerError::Ring { queue: number, corrupt })
    }
}

/// Creates all rings of a plan.
pub(crate) fn create<P: Platform>(
    platform: &P,
    backend: DomId,
    plan: RingPlan,
    abi: Abi,
) -> Result<Vec<Queue<P>>, P::Error> {
    (0..plan.queues).map(|_| Queue::new(platform, backend, plan.pages, abi)).collect()
}

/// The rings of the present connection, of which requests take turns.
pub(crate) struct Queues<P: Platform> {
    /// Empty while there is no connection.
    rings: Vec<Queue<P>>,
    /// Number of connections so far.
    pub generation: u32,
    /// Number of the ring that the next request goes to.
    next: u32,
    /// True while a barrier is in flight: nothing is sent before its response.
    pub exclusive: bool,
}

impl<P: Platform> Queues<P> {
    pub const fn new() -> Self {
        Queues { rings: Vec::new(), generation: 0, next: 0, exclusive: false }
    }

    /// Puts the rings of a new connection in use.
    pub fn connect(&mut self, rings: Vec<Queue<P>>) {
        self.rings = rings;
        self.generation += 1;
    }

    /// Takes the rings out of use.
    pub fn disconnect(&mut self) -> Vec<Queue<P>> {
        self.exclusive = false;
        core::mem::take(&mut self.rings)
    }

    pub fn len(&self) -> u32 {
        self.rings.len() as u32
    }

    pub fn get(&mut self, number: u32) -> &mut Queue<P> {
        &mut self.rings[number as usize]
    }

    /// Chooses the ring for a request: the next one in turn that has room. `None` if the request
    /// has to wait, of which `in_flight` are without a response.
    pub fn choose(&mut self, op: Op, in_flight: u32) -> Option<u32> {
        let count = self.len();
        // A later barrier passes nothing on its own ring, but may pass what is on another.
        let alone = op == Op::Barrier && count > 1;
        if self.exclusive || alone && in_flight > 0 {
            return None;
        }
        let has_room = |number: &u32| self.rings[*number as usize].ring.free() > 0;
        let number = (0..count).map(|step| (self.next + step) % count).find(has_room)?;
        self.next = number + 1;
        Some(number)
    }

    /// Shows the backend the new requests of all rings; returns the number of events sent.
    pub fn push(&mut self) -> u64 {
        self.rings.iter_mut().map(|queue| u64::from(queue.push())).sum()
    }
}
