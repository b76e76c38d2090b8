//! Faults that a test asks for.

use crate::{Reason, World};
use std::cell::Cell;
use std::rc::Rc;
use xen_platform::{DomId, Port};

/// An operation that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// [`xen_platform::Platform::share`] and `share_read_only`.
    Share,
    /// [`xen_platform::Platform::map`].
    Map,
    /// One piece of [`xen_platform::Platform::copy`].
    Copy,
    /// [`xen_platform::Platform::listen`].
    Listen,
    /// [`xen_platform::Platform::connect`].
    Connect,
    /// [`xen_platform::Platform::clear_grant_on_death`] and `clear_map_on_death`.
    ClearOnDeath,
}

impl Operation {
    /// Every operation, for tests that try them all.
    pub const ALL: [Operation; 6] = [
        Operation::Share,
        Operation::Map,
        Operation::Copy,
        Operation::Listen,
        Operation::Connect,
        Operation::ClearOnDeath,
    ];
}

/// Watches a failure that the test arranged ([`World::fail_nth`]).
#[derive(Clone, Debug)]
pub struct InjectedFault(Rc<Cell<u32>>);

impl InjectedFault {
    /// Returns whether it has happened.
    pub fn happened(&self) -> bool {
        self.0.get() == 0
    }
}

pub(crate) struct Fault {
    domid: DomId,
    kind: Operation,
    reason: Reason,
    left: Rc<Cell<u32>>,
}

impl World {
    /// Makes the `nth` operation of this kind that the domain tries from now on fail; 1 is the next
    /// one.
    ///
    /// A test that counts `nth` up until the failure does not happen any more has seen every place
    /// fail.
    pub fn fail_nth(&self, domid: DomId, kind: Operation, nth: u32) -> InjectedFault {
        self.fail_nth_for(domid, kind, nth, Reason::Injected)
    }

    /// As [`World::fail_nth`], for a reason of the test's choice.
    pub fn fail_nth_for(
        &self,
        domid: DomId,
        kind: Operation,
        nth: u32,
        reason: Reason,
    ) -> InjectedFault {
        assert!(nth > 0, "operations are counted from 1");
        let left = Rc::new(Cell::new(nth));
        let fault = Fault { domid, kind, reason, left: left.clone() };
        self.0.state.borrow_mut().faults.push(fault);
        InjectedFault(left)
    }

    /// Counts an operation, and returns the reason for which it is to fail.
    pub(crate) fn failure_due(&self, domid: DomId, kind: Operation) -> Option<Reason> {
        let mut state = self.0.state.borrow_mut();
        let mut due = None;
        state.faults.retain(|fault| {
            if (fault.domid, fault.kind) == (domid, kind) {
                fault.left.set(fault.left.get() - 1);
            }
            let stays = fault.left.get() > 0;
            due = due.or((!stays).then_some(fault.reason));
            stays
        });
        due
    }

    /// Sends `events` events to a port out of nowhere, one each turn. Panics if the port does not
    /// exist.
    pub fn raise_spurious(&self, domid: DomId, port: Port, events: u32) {
        let mut state = self.0.state.borrow_mut();
        let port =
            state.port(domid, port).unwrap_or_else(|| panic!("domain {domid} has no port {port}"));
        port.spurious += events;
    }

    /// Loses the next `events` events that are sent to a port. Panics if the port does not exist.
    pub fn drop_events(&self, domid: DomId, port: Port, events: u32) {
        let mut state = self.0.state.borrow_mut();
        let port =
            state.port(domid, port).unwrap_or_else(|| panic!("domain {domid} has no port {port}"));
        port.lost += events;
    }
}
