//! Faults that a test asks for.

use crate::World;
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

/// Tells whether a failure that was asked for has happened ([`World::fail_nth`]).
#[derive(Clone, Debug)]
pub struct Failure(Rc<Cell<u32>>);

impl Failure {
    /// Whether it has.
    pub fn happened(&self) -> bool {
        self.0.get() == 0
    }
}

pub(crate) struct Fault {
    domid: DomId,
    kind: Operation,
    left: Rc<Cell<u32>>,
}

impl World {
    /// Makes the `nth` operation of this kind that the domain tries from now on fail; 1 is the next one.
    ///
    /// A test that counts `nth` up until the failure does not happen any more has seen every place fail.
    pub fn fail_nth(&self, domid: DomId, kind: Operation, nth: u32) -> Failure {
        assert!(nth > 0, "operations are counted from 1");
        let left = Rc::new(Cell::new(nth));
        self.0.state.borrow_mut().faults.push(Fault { domid, kind, left: left.clone() });
        Failure(left)
    }

    pub(crate) fn is_due_to_fail(&self, domid: DomId, kind: Operation) -> bool {
        let mut state = self.0.state.borrow_mut();
        let before = state.faults.len();
        state.faults.retain(|fault| {
            if (fault.domid, fault.kind) == (domid, kind) {
                fault.left.set(fault.left.get() - 1);
            }
            fault.left.get() > 0
        });
        state.faults.len() < before
    }

    /// Sends `events` events to a port out of nowhere, one each turn. Panics if the port does not exist.
    pub fn storm(&self, domid: DomId, port: Port, events: u32) {
        let mut state = self.0.state.borrow_mut();
        let port = state.port(domid, port).unwrap_or_else(|| panic!("domain {domid} has no port {port}"));
        port.storm += events;
    }

    /// Loses the next `events` events that are sent to a port. Panics if the port does not exist.
    pub fn lose_events(&self, domid: DomId, port: Port, events: u32) {
        let mut state = self.0.state.borrow_mut();
        let port = state.port(domid, port).unwrap_or_else(|| panic!("domain {domid} has no port {port}"));
        port.lost += events;
    }
}
