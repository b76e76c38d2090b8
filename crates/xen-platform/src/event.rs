//! Events as counters, not edges.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll, Waker};

/// Counts events and wakes the tasks that wait for more.
///
/// Each waiter remembers the count it last saw, so two tasks that wait on one event channel cannot
/// steal each other's wake-up, and an event that comes before anyone waits is not lost.
#[derive(Default)]
pub struct EventCounter {
    count: Cell<u32>,
    wakers: RefCell<Vec<Waker>>,
}

impl EventCounter {
    /// Creates a counter at zero.
    pub const fn new() -> Self {
        EventCounter { count: Cell::new(0), wakers: RefCell::new(Vec::new()) }
    }

    /// Returns the count, which wraps at 2^32.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// Returns whether a task waits for the next event.
    pub fn is_awaited(&self) -> bool {
        !self.wakers.borrow().is_empty()
    }

    /// Counts one more event and wakes every waiter.
    pub fn signal(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        for waker in self.wakers.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Ready, with `seen` brought up to date, once the count differs from `seen`.
    pub fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        if self.count.get() != *seen {
            *seen = self.count.get();
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
