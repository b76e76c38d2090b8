//! The domain as a [`Platform`]: what the protocol crates run on.

use super::clock::{self, Alarm};
use super::events::{self, EventChannel};
use super::foreign::Map;
use super::grants::Grant;
use super::{DomId, Error, GrantRef, Port};
use crate::arch::idle;
use alloc::rc::Rc;
use core::cell::Cell;
use core::task::{Context, Poll};
use xen_abi::xen::VIRQ_TIMER;
use xen_exec::Turn;
use xen_hypercall::{event_channel as evtchn, sched};
use xen_platform::{Access, Channel, Clock, EventCounter, Piece, Platform, Time, Timers};

/// A handle to the domain's platform.
#[derive(Clone)]
pub struct Xen(Rc<Inner>);

struct Inner {
    domid: Option<DomId>,
    timers: Timers,
    alarm: Alarm,
    pauses: EventCounter,
    timer_event: EventChannel,
    /// The time when timers were last looked at. What is due by the true time alone is found due when the alarm rings.
    looked: Cell<Time>,
}

impl Xen {
    /// Takes the timer's interrupt. `domid` is the own number, if it is known.
    pub fn new(domid: Option<DomId>) -> Result<Self, xen_hypercall::Error> {
        let timer_event = EventChannel::own(evtchn::bind_virq(VIRQ_TIMER)?);
        let looked = Cell::new(clock::now());
        let (timers, pauses) = (Timers::new(), EventCounter::new());
        Ok(Xen(Rc::new(Inner { domid, timers, alarm: Alarm::new(), pauses, timer_event, looked })))
    }

    /// What the executor does between two rounds: hands out events and timers, and sleeps while there are none, or pauses.
    ///
    /// That a timer is due is learned from the alarm's event, like everything else: the clock is not read for it.
    pub fn turn(&self, turn: Turn) {
        let Inner { timers, alarm, pauses, timer_event, looked, .. } = &*self.0;
        loop {
            alarm.set(timers.next());
            let rang = timer_event.seen();
            let moved = events::dispatch();
            if timer_event.seen() != rang {
                alarm.rang();
                looked.set(clock::now());
                timers.fire(looked.get());
            }
            if moved || turn == Turn::Busy {
                return;
            }
            if pauses.is_awaited() {
                sched::yield_now();
                pauses.signal();
                return;
            }
            idle::sleep();
        }
    }
}

impl Clock for Xen {
    fn now(&self) -> Time {
        clock::now()
    }

    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.looked.get() >= at {
            return Poll::Ready(());
        }
        self.0.timers.wake_at(at, cx);
        Poll::Pending
    }
}

impl Platform for Xen {
    type Grant = Grant;
    type Map = Map;
    type Channel = EventChannel;
    type Error = Error;

    fn pauses(&self) -> &EventCounter {
        &self.0.pauses
    }

    fn domid(&self) -> Option<DomId> {
        self.0.domid
    }

    fn share(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        Grant::new(peer, pages, Access::ReadWrite)
    }

    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Grant, Error> {
        Grant::new(peer, pages, Access::ReadOnly)
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Map, Error> {
        Map::new(peer, refs, access)
    }

    fn copy(&self, peer: DomId, pieces: &mut [Piece<'_>]) -> Result<(), Error> {
        // SAFETY: every mapping is the identity: what Rust borrows lies at its guest-physical address.
        unsafe { xen_hypercall::grant_table::copy(peer, pieces) }.map_err(|why| Error::Copy { peer, why })
    }

    fn listen(&self, peer: DomId) -> Result<EventChannel, Error> {
        let port = evtchn::alloc_unbound(peer).map_err(|why| Error::Listen { peer, why })?;
        Ok(EventChannel::own(port))
    }

    fn connect(&self, peer: DomId, port: Port) -> Result<EventChannel, Error> {
        let local = evtchn::bind_interdomain(peer, port).map_err(|why| Error::Connect { peer, port, why })?;
        Ok(EventChannel::own(local))
    }

    fn clear_grant_on_death(&self, grant: &Grant, at: usize, channel: &EventChannel) -> Result<(), Error> {
        grant.clear_on_death(at, channel.port())
    }

    fn clear_map_on_death(&self, map: &Map, at: usize, channel: &EventChannel) -> Result<(), Error> {
        map.clear_on_death(at, channel.port())
    }
}
