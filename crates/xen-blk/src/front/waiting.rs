//! Who waits for room on the rings or for pages, in the order in which they are served.
//!
//! A request gets a ticket when it is first tried. Nobody passes whoever waits with a lower one, so that all tasks get
//! their share. When a backend was started anew, the requests that it had not answered keep their tickets, and so go out
//! again in the order of before, with nothing in between: what a barrier held apart stays apart.

use alloc::collections::VecDeque;
use core::task::Waker;

pub(crate) struct Waiter {
    ticket: u64,
    waker: Option<Waker>,
    /// Since when.
    epoch: u32,
    /// It has waited too long.
    pub late: bool,
}

#[derive(Default)]
pub(crate) struct Waiting {
    /// In the order of the tickets.
    queue: VecDeque<Waiter>,
    last: u64,
}

impl Waiting {
    pub fn new_ticket(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether nobody is before that ticket.
    pub fn is_turn(&self, ticket: u64) -> bool {
        self.queue.front().is_none_or(|first| first.ticket >= ticket)
    }

    /// Waits for the ticket's turn; says whether it has waited too long.
    pub fn wait(&mut self, ticket: u64, waker: &Waker, epoch: u32) -> bool {
        let at = self.queue.partition_point(|waiter| waiter.ticket < ticket);
        match self.queue.get_mut(at).filter(|waiter| waiter.ticket == ticket) {
            Some(waiter) => {
                if !waiter.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                    waiter.waker = Some(waker.clone());
                }
                waiter.late
            }
            None => {
                self.queue.insert(at, Waiter { ticket, waker: Some(waker.clone()), epoch, late: false });
                false
            }
        }
    }

    /// Keeps the place of a request that has to be sent again.
    pub fn keep_place(&mut self, ticket: u64, waker: Option<Waker>, epoch: u32) {
        let at = self.queue.partition_point(|waiter| waiter.ticket <= ticket);
        self.queue.insert(at, Waiter { ticket, waker, epoch, late: false });
    }

    /// Waits no more.
    pub fn leave(&mut self, ticket: u64) {
        let at = self.queue.partition_point(|waiter| waiter.ticket < ticket);
        if self.queue.get(at).is_some_and(|waiter| waiter.ticket == ticket) {
            self.queue.remove(at);
        }
    }

    /// The waker of the one whose turn it is.
    pub fn first(&self) -> Option<Waker> {
        self.queue.front().and_then(|waiter| waiter.waker.clone())
    }

    /// Marks those that wait since before `epoch` as late, and gives their wakers.
    pub fn mark_late(&mut self, is_late: impl Fn(u32) -> bool) -> impl Iterator<Item = Waker> {
        self.queue.iter_mut().filter(move |waiter| !waiter.late && is_late(waiter.epoch)).filter_map(|waiter| {
            waiter.late = true;
            waiter.waker.clone()
        })
    }

    /// All wakers.
    pub fn wakers(&self) -> impl Iterator<Item = Waker> {
        self.queue.iter().filter_map(|waiter| waiter.waker.clone())
    }
}
