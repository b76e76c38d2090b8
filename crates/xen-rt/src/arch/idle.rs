//! Waiting for an event, without missing one and without burning time.
//!
//! Interrupts are on only between `sti` and `cli` below, so no code ever runs beside the interrupt:
//! there is nothing to lock, and its handler only has to end the wait. Whatever Xen announces
//! before `sti` stays pending and comes then.
//!
//! A processor that keeps its word delivers nothing between `sti` and the instruction behind it. A
//! hypervisor in between may not: one that is itself emulated was seen to forget the promise when
//! it was entered just there. The interrupt then comes *before* `hlt`, and a handler that returned
//! there would sleep on what has already happened; with interrupts off, which Xen takes for a
//! processor that shuts down, for ever. So the handler compares its return address, and returns
//! behind `hlt` in any case.

use core::arch::global_asm;
use x86_64::VirtAddr;

/// The interrupt vector by which Xen announces events.
pub const EVENT_VECTOR: u8 = 0x20;

// Xen raises the vector for as long as an event is pending and interrupts are on. So the handler
// returns with interrupts off: bit 9 of the flags that `iretq` restores.
global_asm!(
    ".section .text.idle, \"ax\", @progbits",
    ".global idle_sleep",
    "idle_sleep:",
    "    sti",
    "idle_hlt:",
    "    hlt",
    "    cli",
    "    ret",
    ".global event_upcall",
    "event_upcall:",
    "    push rax",
    "    lea rax, [rip + idle_hlt]",
    "    cmp [rsp + 8], rax",
    "    jne 2f",
    // `hlt` is one byte long.
    "    inc qword ptr [rsp + 8]",
    "2:",
    "    pop rax",
    "    btr qword ptr [rsp + 16], 9",
    "    iretq",
    ".text",
);

unsafe extern "C" {
    fn event_upcall();
    fn idle_sleep();
}

/// The handler of [`EVENT_VECTOR`].
pub fn event_handler() -> VirtAddr {
    VirtAddr::new(event_upcall as *const () as u64)
}

/// Sleeps until Xen announces an event; at once if it already has. Interrupts are off before and
/// after.
pub fn sleep() {
    // SAFETY: the handler for the one vector that can come is in place, and returns into
    // `idle_sleep` with all registers kept. It is a call, so the processor's frame lies below all
    // that the compiler uses of the stack.
    unsafe { idle_sleep() };
}
