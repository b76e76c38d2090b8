//! How long a ring that was found empty is looked at before its end asks for an event and sleeps.
//!
//! A peer that has got something mostly gives something back at once: a frontend asks again, a backend answers. If it
//! shares a processor with this end, it only has to be let run for that; if it has one of its own, it takes no longer than
//! a few pauses. Either way no event is sent and nobody is woken. A peer that gives nothing costs pauses in vain, so they
//! get fewer then.

use core::task::{Context, Poll};
use xen_platform::Platform;

/// The most pauses in a row.
const MOST: u32 = 8;

/// The pauses of one ring.
pub(crate) struct Patience {
    /// How many there are to be in a row.
    most: u32,
    /// How many of them are left.
    left: u32,
    /// Pauses seen.
    seen: u32,
    /// One is waited for.
    pausing: bool,
}

impl Patience {
    pub fn new() -> Self {
        Patience { most: MOST, left: 0, seen: 0, pausing: false }
    }

    /// There was something in the ring.
    pub fn rewarded(&mut self, platform: &impl Platform) {
        if self.pausing {
            self.most = MOST;
        }
        (self.left, self.seen, self.pausing) = (self.most, platform.pauses().count(), false);
    }

    /// There was nothing in the ring. True once it is time to sleep; before that the task is woken after a pause.
    pub fn is_over(&mut self, platform: &impl Platform, cx: &mut Context<'_>) -> bool {
        while self.left > 0 {
            self.pausing = true;
            if platform.pauses().poll_after(&mut self.seen, cx) == Poll::Pending {
                return false;
            }
            self.left -= 1;
            if self.left == 0 {
                self.most = (self.most / 2).max(1);
            }
        }
        self.pausing = false;
        true
    }
}
