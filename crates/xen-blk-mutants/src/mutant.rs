//! The bug that is on.

use crate::protocol::wire::Response;
use crate::protocol::wire::{Abi, Decoded, SLOT_MAX, decode};
use std::cell::{Cell, RefCell};
use xen_abi::ring::SLOTS;
use xen_platform::SharedMem;

thread_local! {
    static ON: Cell<&'static str> = const { Cell::new("") };
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static LATCH: Cell<bool> = const { Cell::new(false) };
    static STATUS: Cell<i16> = const { Cell::new(0) };
    static PUT_OFF: RefCell<Vec<(u64, u64, bool)>> = const { RefCell::new(Vec::new()) };
    static REFUSAL: Cell<Option<(u64, u32)>> = const { Cell::new(None) };
    static HANDED: Cell<Option<Response>> = const { Cell::new(None) };
    static IN_FLIGHT: RefCell<Vec<(u64, u32)>> = const { RefCell::new(Vec::new()) };
}

/// Turns a bug on for the backends of this thread, and all others off; none is called "".
pub fn switch(name: &'static str) {
    ON.set(name);
    COUNT.set(0);
    LATCH.set(false);
    STATUS.set(0);
    PUT_OFF.take();
    REFUSAL.set(None);
    HANDED.set(None);
    IN_FLIGHT.take();
}

/// Tells if a bug is on.
pub(crate) fn is(name: &str) -> bool {
    ON.get() == name
}

/// Tells, each `every`th time, that it is time for a bug that comes now and then.
pub(crate) fn nth(every: u32) -> bool {
    COUNT.set(COUNT.get() + 1);
    COUNT.get().is_multiple_of(every)
}

/// Returns true from the first time on that `set` was.
pub(crate) fn latch(set: bool) -> bool {
    LATCH.set(LATCH.get() || set);
    LATCH.get()
}

/// Gives a response the status of the one before it.
pub(crate) fn exchange_status(status: &mut i16) {
    *status = STATUS.replace(*status);
}

/// Keeps a discard for later.
pub(crate) fn put_off(discard: (u64, u64, bool)) {
    PUT_OFF.with_borrow_mut(|all| all.push(discard));
}

/// Returns the discards that were kept.
pub(crate) fn take_off() -> Vec<(u64, u64, bool)> {
    PUT_OFF.take()
}

/// Notes the id of a request that was refused on a ring.
pub(crate) fn note_refusal(id: u64, ring: u32) {
    REFUSAL.set(Some((id, ring)));
}

/// Tells if the last request that was refused had that id, and was on another ring.
pub(crate) fn is_refused_elsewhere(id: u64, ring: u32) -> bool {
    REFUSAL.get().is_some_and(|(other, on)| other == id && on != ring)
}

/// Tells if the last request that was refused was on another ring.
pub(crate) fn has_refusal_elsewhere(ring: u32) -> bool {
    REFUSAL.get().is_some_and(|(_, on)| on != ring)
}

/// Forgets the last request that was refused.
pub(crate) fn forget_refusal() {
    REFUSAL.set(None);
}

/// Gives the response to a refused request to the ring that completes one next: from the second
/// ring to the first, in exchange for that one's.
pub(crate) fn hand_over(response: &mut Response, ring: u32) {
    match ring {
        0 => *response = HANDED.take().unwrap_or(*response),
        _ if response.status != 0 => HANDED.set(Some(*response)),
        _ => {}
    }
}

/// Notes a request in flight on a ring; tells if one with its id is in flight on another.
pub(crate) fn is_in_flight_elsewhere(id: u64, ring: u32) -> bool {
    IN_FLIGHT.with_borrow_mut(|all| {
        all.push((id, ring));
        all.iter().any(|(other, on)| *other == id && *on != ring)
    })
}

/// Notes that a request has its response.
pub(crate) fn ended(id: u64, ring: u32) {
    IN_FLIGHT.with_borrow_mut(|all| all.retain(|one| *one != (id, ring)));
}

/// Decodes the slot of a request once more, whatever it holds by now.
pub(crate) fn slot(page: &impl SharedMem, slots: u32, abi: Abi, response: u64) -> Decoded {
    let mut slot = [0; SLOT_MAX];
    let slot = &mut slot[..abi.slot()];
    page.read(SLOTS + (response as u32 & (slots - 1)) as usize * abi.slot(), slot);
    decode(abi, slot)
}
