//! The requests in flight, each in a slot whose number and serial number are its id on the ring.

use super::admission::Admission;
use super::pool::Pool;
use super::request::Request;
use crate::front::error::Op;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::task::Waker;
use xen_platform::{DomId, Platform};

/// Number of ticks before a request counts as late.
pub(crate) const TICKS: u32 = 4;

/// State of a slot.
///
/// ```text
///   Free --> InFlight --> Completed --> Free
///               |`------> Requeued -----^      (the connection it was sent on is gone)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Free,
    /// On a ring.
    InFlight,
    /// Its response came, and its transfer has not looked at it yet.
    Completed(Outcome),
    /// The ring it was on is gone. Its transfer has to send it again.
    Requeued,
}

/// The status of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Okay,
    Failed,
    /// The backend does not know the operation.
    Unsupported,
}

/// Marks the end of a transfer's list of slots.
pub(crate) const NONE: u16 = u16::MAX;

pub(crate) struct Slot<P: Platform> {
    pub stage: Stage,
    /// Its transfer was dropped.
    pub abandoned: bool,
    /// It has waited for longer than the timeout.
    pub late: bool,
    /// It was sent as an indirect request.
    pub indirect: bool,
    /// Number of the ring it is on.
    pub queue: u32,
    /// Tells it from earlier requests in the same slot.
    serial: u32,
    /// Tick at which it was sent.
    pub sent: u32,
    pub request: Request,
    /// The slot of the next request of the same transfer, or [`NONE`].
    pub next: u16,
    /// Pages of the pool: those with data, then those with the list of segments.
    pub pages: Vec<u32>,
    /// Shared pages that the backend moves data to or from directly, and where the data begins.
    pub shared: Option<(Rc<P::Grant>, usize)>,
    /// The transfer's task.
    pub waker: Option<Waker>,
}

impl<P: Platform> Slot<P> {
    fn new() -> Self {
        Slot {
            stage: Stage::Free,
            abandoned: false,
            late: false,
            indirect: false,
            queue: 0,
            serial: 0,
            sent: 0,
            request: Request::new(Op::Flush, 0, 0),
            next: NONE,
            pages: Vec::new(),
            shared: None,
            waker: None,
        }
    }
}

/// The requests in flight, the pages that they use, and the tasks that wait for room.
pub(crate) struct InFlight<P: Platform> {
    slots: Vec<Slot<P>>,
    free: Vec<u16>,
    pub pool: Pool<P>,
    pub admission: Admission,
    /// Time, in ticks of a quarter of the request timeout.
    pub tick: u32,
}

impl<P: Platform> InFlight<P> {
    pub fn new(peer: DomId, bounce_pages: u32) -> Self {
        InFlight {
            slots: Vec::new(),
            free: Vec::new(),
            pool: Pool::new(peer, bounce_pages),
            admission: Admission::default(),
            tick: 0,
        }
    }

    /// Takes a free slot. There are never more than there is room for on all rings, and completed
    /// ones whose transfers have not looked at them.
    pub fn take(&mut self) -> Option<u16> {
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        let index = u16::try_from(self.slots.len()).ok().filter(|&index| index != NONE)?;
        self.slots.push(Slot::new());
        Some(index)
    }

    pub fn get(&mut self, index: u16) -> &mut Slot<P> {
        &mut self.slots[usize::from(index)]
    }

    /// Returns a slot together with the pool that its pages are in.
    pub fn slot_and_pool(&mut self, index: u16) -> (&mut Slot<P>, &mut Pool<P>) {
        (&mut self.slots[usize::from(index)], &mut self.pool)
    }

    /// Gives a slot and its pages back.
    pub fn release(&mut self, index: u16) {
        let (slot, pool) = self.slot_and_pool(index);
        pool.give(&mut slot.pages);
        slot.stage = Stage::Free;
        (slot.abandoned, slot.late) = (false, false);
        (slot.shared, slot.waker) = (None, None);
        self.free.push(index);
    }

    /// Makes a new id for the request in a slot: the slot's number, and how many requests were sent
    /// from it.
    pub fn new_id(&mut self, index: u16) -> u64 {
        let slot = self.get(index);
        slot.serial = slot.serial.wrapping_add(1);
        u64::from(slot.serial) << 16 | u64::from(index)
    }

    /// Finds the request in flight on that ring with this id.
    pub fn find(&self, queue: u32, id: u64) -> Option<u16> {
        let index = id as u16;
        let slot = self.slots.get(usize::from(index))?;
        let is_it = slot.stage == Stage::InFlight
            && slot.queue == queue
            && u64::from(slot.serial) == id >> 16;
        is_it.then_some(index)
    }

    /// Takes all requests off their rings: they keep their turns, to be sent again.
    pub fn requeue(&mut self) {
        for index in 0..self.slots.len() as u16 {
            let tick = self.tick;
            let (slot, pool) = self.slot_and_pool(index);
            if slot.stage != Stage::InFlight {
                continue;
            }
            slot.stage = Stage::Requeued;
            pool.give(&mut slot.pages);
            let (ticket, waker) = (slot.request.ticket, slot.waker.clone());
            match ticket {
                Some(ticket) if !slot.abandoned => self.admission.keep_turn(ticket, waker, tick),
                _ => self.release(index),
            }
        }
    }

    /// Requeues reads whose data was not copied out of the pool's pages, which are about to go.
    pub fn requeue_unread(&mut self) {
        for slot in &mut self.slots {
            let unread = slot.stage == Stage::Completed(Outcome::Okay) && !slot.pages.is_empty();
            if unread {
                slot.stage = Stage::InFlight;
            }
        }
        self.requeue();
    }

    /// Forgets the pages of all requests, and returns the pool that they are in. The new one has
    /// at most `bounce_pages` pages.
    pub fn take_pool(&mut self, peer: DomId, bounce_pages: u32) -> Pool<P> {
        self.slots.iter_mut().for_each(|slot| slot.pages.clear());
        core::mem::replace(&mut self.pool, Pool::new(peer, bounce_pages))
    }

    /// Lets a tick pass: marks the requests that have become late, and returns the wakers of their
    /// tasks.
    pub fn sweep(&mut self) -> Vec<Waker> {
        self.tick = self.tick.wrapping_add(1);
        let tick = self.tick;
        let is_late = move |since: u32| tick.wrapping_sub(since) > TICKS;
        let mut wakers = Vec::new();
        for slot in &mut self.slots {
            let counts = slot.stage == Stage::InFlight && !slot.late && !slot.abandoned;
            if counts && is_late(slot.sent) {
                slot.late = true;
                wakers.extend(slot.waker.clone());
            }
        }
        wakers.extend(self.admission.mark_late(is_late));
        wakers
    }

    /// Takes the wakers of all tasks that wait for a response or for their turn.
    pub fn wakers(&mut self) -> Vec<Waker> {
        let slots = self.slots.iter_mut().filter_map(|slot| slot.waker.take());
        let mut wakers: Vec<Waker> = slots.collect();
        wakers.extend(self.admission.wakers());
        wakers
    }
}
