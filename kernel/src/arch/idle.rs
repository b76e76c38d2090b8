//! Waiting for an event, without missing one and without burning time.
//!
//! Interrupts are on only between `sti` and `cli` below. Whatever Xen announces before that stays pending, and `sti`
//! takes effect one instruction late, so an event between the last look and `hlt` ends `hlt` at once: none is lost. And
//! as the interrupt comes nowhere else, no code ever runs beside it: there is nothing to lock, and its handler only has
//! to return.

use core::arch::{asm, global_asm};
use x86_64::VirtAddr;

/// The interrupt vector by which Xen announces events.
pub const EVENT_VECTOR: u8 = 0x20;

// Xen raises the vector for as long as an event is pending and interrupts are on. So the handler returns with
// interrupts off: bit 9 of the flags that `iretq` restores.
global_asm!(
    ".section .text.event_upcall, \"ax\", @progbits",
    ".global event_upcall",
    "event_upcall:",
    "    btr qword ptr [rsp + 16], 9",
    "    iretq",
    ".text",
);

unsafe extern "C" {
    fn event_upcall();
}

/// The handler of [`EVENT_VECTOR`].
pub fn event_handler() -> VirtAddr {
    VirtAddr::new(event_upcall as *const () as u64)
}

/// Sleeps until Xen announces an event; at once if it already has. Interrupts are off before and after.
pub fn sleep() {
    // SAFETY: the handler for the one vector that can come is in place, and returns to `cli` with all registers kept.
    // The stack is declared as used, so the processor's frame overwrites nothing of the compiler's.
    unsafe { asm!("sti", "hlt", "cli") };
}
