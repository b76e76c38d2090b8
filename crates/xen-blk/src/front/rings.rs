//! The rings of one connection with their event channels.

use super::PeerError;
use super::offer::RingPlan;
use crate::patience::Patience;
use crate::wire::{Abi, RESPONSE_MAX, Response};
use alloc::vec::Vec;
use xen_platform::{Channel, DomId, PAGE_SIZE, Platform};
use xen_ring::slots::{Front, Shape};

/// One ring.
pub(crate) struct Queue<P: Platform> {
    pub mem: P::Grant,
    pub ring: Front,
    pub channel: P::Channel,
    /// Events of the channel seen so far.
    pub seen: u32,
    pub patience: Patience,
    /// There are requests on it that the backend was not shown.
    pub unpushed: bool,
}

impl<P: Platform> Queue<P> {
    pub fn new(platform: &P, backend: DomId, pages: u32, abi: Abi) -> Result<Self, P::Error> {
        let channel = platform.listen(backend)?;
        let mem = platform.share(backend, pages as usize)?;
        let ring = Front::new(Shape::new(pages as usize * PAGE_SIZE, abi.slot()), &mem);
        let seen = channel.seen();
        Ok(Queue { mem, ring, channel, seen, patience: Patience::new(), unpushed: false })
    }

    /// Takes the next answer off the ring, if there is one.
    pub fn take(&mut self, number: u32, abi: Abi) -> Result<Option<Response>, PeerError> {
        let mut slot = [0; RESPONSE_MAX];
        match self.ring.take(&self.mem, &mut slot[..abi.response()]) {
            Ok(true) => Ok(Some(Response::decode(&slot))),
            Ok(false) => Ok(None),
            Err(corrupt) => Err(PeerError::Ring { queue: number, corrupt }),
        }
    }

    /// Shows the backend what is on the ring; says whether an event was sent.
    pub fn push(&mut self) -> bool {
        let notify = core::mem::take(&mut self.unpushed) && self.ring.push(&self.mem);
        if notify {
            self.channel.notify();
        }
        notify
    }

    /// Asks for an event when answers come; true if some are there already.
    pub fn arm(&mut self, number: u32) -> Result<bool, PeerError> {
        // At the very next one: the second may take for ever, and the first must not wait for it.
        self.ring.arm(&self.mem, 1).map_err(|corrupt| PeerError::Ring { queue: number, corrupt })
    }
}

/// Makes all rings of a plan.
pub(crate) fn make<P: Platform>(
    platform: &P,
    backend: DomId,
    plan: RingPlan,
    abi: Abi,
) -> Result<Vec<Queue<P>>, P::Error> {
    (0..plan.queues).map(|_| Queue::new(platform, backend, plan.pages, abi)).collect()
}
