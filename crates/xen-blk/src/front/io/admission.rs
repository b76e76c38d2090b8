//! Order of requests that wait for room on the rings or for pages.
//!
//! A request gets a ticket when it is first tried. None passes one that waits with a lower ticket,
//! so every task gets its share. Requests that a lost backend has not completed keep their tickets:
//! they are sent again in their old order with nothing in between, and stay on their side of every
//! barrier.

use alloc::collections::VecDeque;
use core::task::Waker;

struct Waiter {
    ticket: u64,
    waker: Option<Waker>,
    /// Tick at which it began to wait.
    since: u32,
    /// It has waited for longer than the timeout.
    late: bool,
}

/// The requests that wait for their turn.
#[derive(Default)]
pub(crate) struct Admission {
    /// In the order of their tickets.
    queue: VecDeque<Waiter>,
    last_ticket: u64,
}

impl Admission {
    pub fn new_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Tells if no request waits before that ticket.
    pub fn is_turn(&self, ticket: u64) -> bool {
        self.queue.front().is_none_or(|first| first.ticket >= ticket)
    }

    /// Registers a task to be woken at the ticket's turn; tells if it has waited for too long.
    pub fn wait(&mut self, ticket: u64, waker: &Waker, tick: u32) -> bool {
        let at = self.queue.partition_point(|waiter| waiter.ticket < ticket);
        match self.queue.get_mut(at).filter(|waiter| waiter.ticket == ticket) {
            Some(waiter) => {
                if !waiter.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                    waiter.waker = Some(waker.clone());
                }
                waiter.late
            }
            None => {
                let waker = Some(waker.clone());
                self.queue.insert(at, Waiter { ticket, waker, since: tick, late: false });
                false
            }
        }
    }

    /// Keeps the turn of a request that has to be sent again.
    pub fn keep_turn(&mut self, ticket: u64, waker: Option<Waker>, tick: u32) {
        let at = self.queue.partition_point(|waiter| waiter.ticket <= ticket);
        self.queue.insert(at, Waiter { ticket, waker, since: tick, late: false });
    }

    /// Gives a turn up.
    pub fn leave(&mut self, ticket: u64) {
        let at = self.queue.partition_point(|waiter| waiter.ticket < ticket);
        if self.queue.get(at).is_some_and(|waiter| waiter.ticket == ticket) {
            self.queue.remove(at);
        }
    }

    /// Returns the waker of the request whose turn it is.
    pub fn first(&self) -> Option<Waker> {
        self.queue.front().and_then(|waiter| waiter.waker.clone())
    }

    /// Marks those as late that have waited since a tick which `is_late`, and returns their wakers.
    pub fn mark_late(&mut self, is_late: impl Fn(u32) -> bool) -> impl Iterator<Item = Waker> {
        self.queue
            .iter_mut()
            .filter(move |waiter| !waiter.late && is_late(waiter.since))
            .filter_map(|waiter| {
                waiter.late = true;
                waiter.waker.clone()
            })
    }

    /// Returns the wakers of all that wait.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.queue.iter().filter_map(|waiter| waiter.waker.clone())
    }
}
