//! A read, write, flush or discard in progress: cut into requests, sent, awaited, and put together
//! again.

use super::in_flight::{NONE, Outcome, Stage};
use super::request::{Data, Request};
use super::submit::submit;
use crate::front::device::{Device, State};
use crate::front::error::{Error, Op};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use xen_platform::{PAGE_SIZE, Platform};

/// Largest number of requests of one transfer in flight: it leaves room on the rings for others.
const WINDOW: u32 = 32;

/// A read, write, flush or discard. Nothing happens before its first poll. Dropping it gives up the
/// result: a request that is on a ring by then is still carried out.
#[must_use = "nothing happens unless it is awaited"]
pub struct Transfer<'a, P: Platform> {
    device: &'a Device<P>,
    data: Data<'a, P>,
    /// The part that was not sent yet.
    rest: Option<Request>,
    /// Requests to be sent again, in their old order.
    requeued: Vec<Request>,
    /// The slots of the requests in flight, as a list through [`super::in_flight::Slot::next`]: the
    /// first, the last, and their number.
    first: u16,
    last: u16,
    count: u32,
    /// The connection that they were sent on.
    generation: u32,
    /// The reason why it cannot begin.
    refused: Option<Error<P::Error>>,
}

impl<'a, P: Platform> Transfer<'a, P> {
    pub(crate) fn new(
        device: &'a Device<P>,
        request: Result<Request, Error<P::Error>>,
        data: Data<'a, P>,
    ) -> Self {
        let (rest, refused) = match request {
            Ok(request) => (Some(request), None),
            Err(why) => (None, Some(why)),
        };
        Transfer {
            device,
            data,
            rest,
            requeued: Vec::new(),
            first: NONE,
            last: NONE,
            count: 0,
            generation: 0,
            refused,
        }
    }

    fn advance(
        &mut self,
        state: &mut State<P>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error<P::Error>>> {
        if let Some(over) = state.life.over().cloned() {
            // Requests that were completed before the end are good.
            if !state.life.has_ended() {
                self.reap(state, cx)?;
            }
            return Poll::Ready(if self.is_done() { Ok(()) } else { Err(over.into()) });
        }
        if self.generation != state.queues.generation {
            self.generation = state.queues.generation;
            self.take_back(state);
        }
        self.reap(state, cx)?;
        while self.count < WINDOW && self.send_next(state, cx)? {}
        if self.is_done() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn is_done(&self) -> bool {
        self.count == 0 && self.rest.is_none() && self.requeued.is_empty()
    }

    /// Takes back the requests that were on the rings of an earlier connection.
    fn take_back(&mut self, state: &mut State<P>) {
        let mut index = core::mem::replace(&mut self.first, NONE);
        (self.last, self.count) = (NONE, 0);
        while index != NONE {
            let slot = state.in_flight.get(index);
            let (next, request) = (slot.next, slot.request);
            match slot.stage {
                Stage::Requeued => {
                    self.requeued.push(request);
                    state.in_flight.release(index);
                }
                _ => self.append(state, index),
            }
            index = next;
        }
    }

    fn append(&mut self, state: &mut State<P>, index: u16) {
        state.in_flight.get(index).next = NONE;
        match self.last {
            NONE => self.first = index,
            last => state.in_flight.get(last).next = index,
        }
        self.last = index;
        self.count += 1;
    }

    /// Takes the completed requests, in the order in which they were sent.
    fn reap(&mut self, state: &mut State<P>, cx: &mut Context<'_>) -> Result<(), Error<P::Error>> {
        while self.first != NONE {
            let index = self.first;
            let slot = state.in_flight.get(index);
            let request @ Request { op, sector, sectors, .. } = slot.request;
            match slot.stage {
                Stage::Completed(Outcome::Okay) => self.copy_out(state, index),
                Stage::Completed(Outcome::Failed) => {
                    return Err(Error::Failed { op, sector, count: sectors });
                }
                Stage::Completed(Outcome::Unsupported) => {
                    let indirect = slot.indirect;
                    if !state.unsupported(op, indirect) {
                        return Err(match op {
                            Op::Read | Op::Write => Error::Failed { op, sector, count: sectors },
                            op => Error::Unsupported(op),
                        });
                    }
                    self.requeued.push(Request { ticket: None, ..request });
                }
                Stage::InFlight if slot.late => {
                    let (queue, sent) = (Some(slot.queue), slot.sent);
                    let tick = self.device.tick();
                    return Err(Error::TimedOut(state.stuck(
                        (op, sector, sectors),
                        queue,
                        sent,
                        tick,
                    )));
                }
                _ => {
                    if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        slot.waker = Some(cx.waker().clone());
                    }
                    return Ok(());
                }
            }
            self.first = state.in_flight.get(index).next;
            self.count -= 1;
            state.in_flight.release(index);
            state.wake_first();
        }
        self.last = NONE;
        Ok(())
    }

    /// Copies data that was read out of the pages of the pool.
    fn copy_out(&mut self, state: &mut State<P>, index: u16) {
        let Data::In(to) = &mut self.data else { return };
        let (slot, pool) = state.in_flight.slot_and_pool(index);
        let (at, len) = (slot.request.at, slot.request.len());
        for (&page, to) in slot.pages.iter().zip(to[at..at + len].chunks_mut(PAGE_SIZE)) {
            pool.read(page, to);
        }
    }

    /// Sends the next request if its turn has come; tells if it did.
    fn send_next(
        &mut self,
        state: &mut State<P>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Error<P::Error>> {
        let again = !self.requeued.is_empty();
        let next = if again { self.requeued.first_mut() } else { self.rest.as_mut() };
        let Some(next) = next else { return Ok(false) };
        let Some(index) = submit(self.device, state, next, &self.data, again, cx)? else {
            return Ok(false);
        };
        if next.sectors == 0 {
            match again {
                true => drop(self.requeued.remove(0)),
                false => self.rest = None,
            }
        }
        self.append(state, index);
        Ok(true)
    }
}

/// Nothing in it is pinned.
impl<P: Platform> Unpin for Transfer<'_, P> {}

impl<P: Platform> Future for Transfer<'_, P> {
    type Output = Result<(), Error<P::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(why) = this.refused.take() {
            return Poll::Ready(Err(why));
        }
        let device = this.device;
        device.with(|state| this.advance(state, cx))
    }
}

impl<P: Platform> Drop for Transfer<'_, P> {
    fn drop(&mut self) {
        if self.is_done() {
            return;
        }
        self.device.with(|state| {
            for ticket in self.requeued.iter().chain(&self.rest).filter_map(|rest| rest.ticket) {
                state.in_flight.admission.leave(ticket);
            }
            let mut index = self.first;
            while index != NONE {
                let slot = state.in_flight.get(index);
                let (next, ticket) = (slot.next, slot.request.ticket);
                match slot.stage {
                    // The backend may still use its pages.
                    Stage::InFlight => (slot.abandoned, slot.waker) = (true, None),
                    stage => {
                        if let (Stage::Requeued, Some(ticket)) = (stage, ticket) {
                            state.in_flight.admission.leave(ticket);
                        }
                        state.in_flight.release(index);
                    }
                }
                index = next;
            }
            state.wake_first();
            // It may wait for the last one to be gone.
            if state.life.is_closing() {
                state.wakers.wake_driver();
            }
        });
    }
}
