//! The busy-poll window of a ring.

use crate::{Platform, yield_now};
use core::task::{Context, Poll};

/// A bounded number of further looks at a ring that was found empty, before its end asks for an
/// event and sleeps. Each look comes after a [`yield_now`].
///
/// A peer that got something mostly gives something back at once: a frontend sends the next
/// request, a backend its response, an echo server the echo. If the peer shares the processor with
/// this end, it only has to be let run for that; on a processor of its own it is done within a few
/// yields. Either way no event is sent and no task is woken. A peer that gives nothing back makes
/// the looks vain, so [`BusyPoll::poll_over`] halves the window after each vain one.
pub struct BusyPoll {
    /// Number of looks in a full window.
    max: u32,
    /// Number of looks in the next window.
    window: u32,
    /// Number of looks left in this window.
    left: u32,
    /// Count of yields last seen.
    seen: u32,
    /// True while a yield is waited for.
    yielding: bool,
}

impl BusyPoll {
    /// Number of looks in a window by default: they take about as long as to sleep and be woken.
    pub const LOOKS: u32 = 8;

    /// Creates a closed window of `looks` looks, which [`BusyPoll::open`] opens.
    pub const fn new(looks: u32) -> Self {
        BusyPoll { max: looks, window: looks, left: 0, seen: 0, yielding: false }
    }

    /// Opens the window: the ring had something. A window that was open was worth it, so the next
    /// one is a full one.
    pub fn open(&mut self, platform: &impl Platform) {
        if self.yielding {
            self.window = self.max;
        }
        (self.left, self.seen, self.yielding) = (self.window, platform.yields().count(), false);
    }

    /// Returns true once the window is over and it is time to sleep. Before that, the task is woken
    /// for its next look.
    pub fn poll_over(&mut self, platform: &impl Platform, cx: &mut Context<'_>) -> bool {
        while self.left > 0 {
            self.yielding = true;
            if platform.yields().poll_after(&mut self.seen, cx) == Poll::Pending {
                return false;
            }
            self.left -= 1;
            if self.left == 0 {
                self.window = (self.window / 2).max(1);
            }
        }
        self.yielding = false;
        true
    }

    /// Waits for the next look of an open window; returns false, at once, if none is left.
    pub async fn next_look(&mut self, platform: &impl Platform) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        yield_now(platform).await;
        true
    }
}
