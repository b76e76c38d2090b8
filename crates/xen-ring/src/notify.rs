//! The protocol by which two sides of a ring sleep and wake each other without an event for every
//! byte.
//!
//! Each side has a byte in the page whose bits say what it wants to be told. A side about to sleep
//! sets a bit and then looks at the ring **again**; a side that has moved an index then looks at
//! the bit, and clears it and sends an event if it was set. Between the two steps of either side
//! stands a full fence. Without it both could look before the other's step is visible: one sleeps,
//! the other believes it awake, and both wait for ever. The test `tests/loom.rs` tries every order
//! of the two sides.
//!
//! ```text
//!   sleeper:  set bit   --fence--  look at the ring (nothing) -> sleep
//!   mover:    move index --fence-- clear bit, was it set?     -> event
//! ```

use xen_platform::IndexMemory;

/// Asks the peer for an event, by setting `bit` in the byte at `at`. The caller then looks at the
/// ring once more, and sleeps only if there is still nothing.
#[inline(always)]
pub fn arm(ctl: &impl IndexMemory, at: usize, bit: u8) {
    ctl.fetch_or(at, bit);
    ctl.fence();
}

/// After the own index has moved: whether the peer asked for an event by `bit` in the byte at `at`.
/// The request is taken back by this, so the event must be sent.
#[inline(always)]
#[must_use = "the peer sleeps until the event is sent"]
pub fn wanted(ctl: &impl IndexMemory, at: usize, bit: u8) -> bool {
    ctl.fence();
    // A peer that is busy has not asked. A plain look finds that out without taking its cache line
    // away.
    ctl.load_u8(at) & bit != 0 && ctl.fetch_and(at, !bit) & bit != 0
}
