//! The bug that is on.

use crate::protocol::wire::{Abi, Decoded, SLOT_MAX, decode};
use std::cell::Cell;
use xen_abi::ring::SLOTS;
use xen_platform::SharedMem;

thread_local! {
    static ON: Cell<&'static str> = const { Cell::new("") };
    static COUNT: Cell<u32> = const { Cell::new(0) };
    static LATCH: Cell<bool> = const { Cell::new(false) };
}

/// Turns a bug on for the backends of this thread, and all others off; none is called "".
pub fn switch(name: &'static str) {
    ON.set(name);
    COUNT.set(0);
    LATCH.set(false);
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

/// Decodes the slot of a request once more, whatever it holds by now.
pub(crate) fn slot(page: &impl SharedMem, slots: u32, abi: Abi, response: u64) -> Decoded {
    let mut slot = [0; SLOT_MAX];
    let slot = &mut slot[..abi.slot()];
    page.read(SLOTS + (response as u32 & (slots - 1)) as usize * abi.slot(), slot);
    decode(abi, slot)
}
