//! The domain as a [`Platform`]: what the protocol crates run on.

use super::clock::{self, Alarm};
use super::events::{self, EventChannel};
use super::foreign::Map;
use super::grants::Grant;
use super::{DomId, Error, GrantRef, Port, own_domid};
use crate::arch::idle;
use crate::console;
use alloc::rc::Rc;
use core::cell::Cell;
use core::task::{Context, Poll};
use xen_abi::xen::VIRQ_TIMER;
use xen_exec::Turn;
use xen_hypercall::{event_channel as evtchn, sched};
use xen_platform::{Access, Channel, Clock, CopySegment, EventCounter, Platform, Time, Timers};

/// A handle to the domain's platform.
#[derive(Clone)]
pub struct Xen(Rc<Inner>);

struct Inner {
    /// The first of Xen's CPUID leaves.
    leaf: u32,
    domid: Cell<Option<DomId>>,
    timers: Timers,
    alarm: Alarm,
    yields: EventCounter,
    resumes: EventCounter,
    timer_event: EventChannel,
    /// The time when timers were last looked at. What is due by the true time alone is found due
    /// when the alarm rings.
    looked: Cell<Time>,
}

impl Xen {
    /// Binds the timer's interrupt. `leaf` is the first of Xen's CPUID leaves.
    pub fn new(leaf: u32) -> Result<Self, xen_hypercall::Error> {
        let timer_event = EventChannel::own(evtchn::bind_virq(VIRQ_TIMER)?);
        let looked = Cell::new(clock::now());
        let (timers, yields) = (Timers::new(), EventCounter::new());
        let resumes = EventCounter::new();
        let domid = Cell::new(own_domid(leaf));
        Ok(Xen(Rc::new(Inner {
            leaf,
            domid,
            timers,
            alarm: Alarm::new(),
            yields,
            resumes,
            timer_event,
            looked,
        })))
    }

    /// Takes up the number and the timer of a restored domain, all else being in place again.
    pub(super) fn resume(&self) -> Result<(), xen_hypercall::Error> {
        let Inner { leaf, domid, timers, alarm, timer_event, looked, resumes, .. } = &*self.0;
        domid.set(own_domid(*leaf));
        timer_event.rebind(evtchn::bind_virq(VIRQ_TIMER)?);
        alarm.rang();
        looked.set(clock::now());
        timers.fire(looked.get());
        resumes.signal();
        Ok(())
    }

    /// Returns whether the timer's port is bound as this domain bound it: a restored domain has
    /// none of its ports.
    pub(super) fn has_timer(&self) -> bool {
        evtchn::is_virq(self.0.timer_event.port()).unwrap_or(false)
    }

    /// Runs between two rounds of the executor: hands out events and timers, and sleeps while
    /// there are none, or pauses.
    ///
    /// That a timer is due is learned from the alarm's event, like everything else: the clock is
    /// not read for it.
    pub fn turn(&self, turn: Turn) {
        let Inner { timers, alarm, yields, timer_event, looked, .. } = &*self.0;
        console::announce();
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
            if yields.is_awaited() {
                sched::yield_now();
                yields.signal();
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

    fn yields(&self) -> &EventCounter {
        &self.0.yields
    }

    fn resumes(&self) -> &EventCounter {
        &self.0.resumes
    }

    fn domid(&self) -> Option<DomId> {
        self.0.domid.get()
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

    fn copy(&self, peer: DomId, pieces: &mut [CopySegment<'_>]) -> Result<(), Error> {
        // SAFETY: every mapping is the identity: what Rust borrows lies at its guest-physical
        // address.
        unsafe { xen_hypercall::grant_table::copy(peer, pieces) }
            .map_err(|why| Error::Copy { peer, why })
    }

    fn listen(&self, peer: DomId) -> Result<EventChannel, Error> {
        let port = evtchn::alloc_unbound(peer).map_err(|why| Error::Listen { peer, why })?;
        Ok(EventChannel::own(port))
    }

    fn connect(&self, peer: DomId, port: Port) -> Result<EventChannel, Error> {
        let local = evtchn::bind_interdomain(peer, port).map_err(|why| Error::Connect {
            peer,
            port,
            why,
        })?;
        Ok(EventChannel::own(local))
    }

    fn clear_grant_on_death(
        &self,
        grant: &Grant,
        at: usize,
        channel: &EventChannel,
    ) -> Result<(), Error> {
        grant.clear_on_death(at, channel.port())
    }

    fn clear_map_on_death(
        &self,
        map: &Map,
        at: usize,
        channel: &EventChannel,
    ) -> Result<(), Error> {
        map.clear_on_death(at, channel.port())
    }
}
