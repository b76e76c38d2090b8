//! A read, write, flush or discard under way: cut into requests, sent, awaited, and put together again.

use super::device::{Device, State};
use super::slab::{Answer, NONE, Stage, Work};
use super::{Error, Op, submit};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use xen_platform::{PAGE_SIZE, Platform};

/// The most requests of one transfer that are under way at once. It leaves room on the rings for others.
const WINDOW: u32 = 32;

/// Where a transfer's data comes from or goes to.
pub(crate) enum Data<'a, P: Platform> {
    None,
    In(&'a mut [u8]),
    Out(&'a [u8]),
    /// Pages that are shared with the backend, from this offset on.
    Shared(Rc<P::Grant>, usize),
}

/// A part of a transfer that is not on a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub op: Op,
    /// In sectors of 512 bytes.
    pub sector: u64,
    pub sectors: u64,
    /// Where its data is, in bytes from the transfer's start.
    pub at: usize,
    /// Its turn, once it has been tried.
    pub ticket: Option<u64>,
}

/// A read, write, flush or discard. Nothing happens before it is polled first. Dropping it gives up the result: a
/// request that is on a ring by then is still carried out.
#[must_use = "nothing happens unless it is awaited"]
pub struct Transfer<'a, P: Platform> {
    device: &'a Device<P>,
    data: Data<'a, P>,
    /// What was not sent yet.
    rest: Option<Part>,
    /// What has to be sent again, in the order of before.
    again: Vec<Part>,
    /// The requests under way, by their slots: the first, the last, and how many. They are a list by [`super::slab`].
    first: u16,
    last: u16,
    count: u32,
    /// The connection they were sent on.
    generation: u32,
    /// What was wrong from the beginning.
    wrong: Option<Error<P::Error>>,
}

impl<'a, P: Platform> Transfer<'a, P> {
    pub(crate) fn new(device: &'a Device<P>, part: Result<Part, Error<P::Error>>, data: Data<'a, P>) -> Self {
        let (rest, wrong) = match part {
            Ok(part) => (Some(part), None),
            Err(wrong) => (None, Some(wrong)),
        };
        Transfer { device, data, rest, again: Vec::new(), first: NONE, last: NONE, count: 0, generation: 0, wrong }
    }

    fn advance(&mut self, state: &mut State<P>, cx: &mut Context<'_>) -> Poll<Result<(), Error<P::Error>>> {
        if let Some(over) = state.over.clone() {
            // What was answered before the end is well.
            if !state.ended {
                self.reap(state, cx)?;
            }
            return Poll::Ready(if self.is_done() { Ok(()) } else { Err(over.into()) });
        }
        if self.generation != state.generation {
            self.generation = state.generation;
            self.gather(state);
        }
        self.reap(state, cx)?;
        while self.count < WINDOW && self.send_next(state, cx)? {}
        if self.is_done() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn is_done(&self) -> bool {
        self.count == 0 && self.rest.is_none() && self.again.is_empty()
    }

    /// Takes back what was on the rings of a backend that is gone.
    fn gather(&mut self, state: &mut State<P>) {
        let mut index = core::mem::replace(&mut self.first, NONE);
        (self.last, self.count) = (NONE, 0);
        while index != NONE {
            let slot = state.slab.get(index);
            let (next, Work { op, sector, sectors, at, ticket }) = (slot.next, slot.work);
            match slot.stage {
                Stage::Again => {
                    self.again.push(Part { op, sector, sectors, at, ticket: Some(ticket) });
                    state.release(index);
                }
                _ => self.append(state, index),
            }
            index = next;
        }
    }

    fn append(&mut self, state: &mut State<P>, index: u16) {
        state.slab.get(index).next = NONE;
        match self.last {
            NONE => self.first = index,
            last => state.slab.get(last).next = index,
        }
        self.last = index;
        self.count += 1;
    }

    /// Looks at the answers, in the order of the requests, as far as they have come.
    fn reap(&mut self, state: &mut State<P>, cx: &mut Context<'_>) -> Result<(), Error<P::Error>> {
        while self.first != NONE {
            let index = self.first;
            let slot = state.slab.get(index);
            let Work { op, sector, sectors, at, .. } = slot.work;
            match slot.stage {
                Stage::Answered(Answer::Okay) => self.copy_out(state, index, at),
                Stage::Answered(Answer::Failed) => return Err(Error::Failed { op, sector, count: sectors }),
                Stage::Answered(Answer::Refused) => {
                    let indirect = slot.indirect;
                    if !state.refused(op, indirect) {
                        return Err(match op {
                            Op::Read | Op::Write => Error::Failed { op, sector, count: sectors },
                            op => Error::Unsupported(op),
                        });
                    }
                    self.again.push(Part { op, sector, sectors, at, ticket: None });
                }
                Stage::Flying if slot.late => {
                    let (queue, epoch) = (slot.queue, slot.epoch);
                    let step = self.device.step();
                    return Err(Error::TimedOut(state.stuck(op, sector, sectors, Some(queue), epoch, step)));
                }
                _ => {
                    if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        slot.waker = Some(cx.waker().clone());
                    }
                    return Ok(());
                }
            }
            self.first = state.slab.get(index).next;
            self.count -= 1;
            state.release(index);
            state.wake_first();
        }
        self.last = NONE;
        Ok(())
    }

    /// Copies what was read out of the pages of the pool.
    fn copy_out(&mut self, state: &mut State<P>, index: u16, at: usize) {
        let slot = state.slab.get(index);
        let len = slot.work.len();
        let Data::In(to) = &mut self.data else { return };
        let pages = core::mem::take(&mut slot.pages);
        for (&page, to) in pages.iter().zip(to[at..at + len].chunks_mut(PAGE_SIZE)) {
            state.pool.read(page, to);
        }
        state.slab.get(index).pages = pages;
    }

    /// Sends the next request, if there is one and it is its turn; says whether it was sent.
    fn send_next(&mut self, state: &mut State<P>, cx: &mut Context<'_>) -> Result<bool, Error<P::Error>> {
        let from_again = !self.again.is_empty();
        let part = if from_again { self.again.first_mut() } else { self.rest.as_mut() };
        let Some(part) = part else { return Ok(false) };
        let Some(index) = submit::submit(self.device, state, part, &self.data, from_again, cx)? else {
            return Ok(false);
        };
        if part.sectors == 0 {
            match from_again {
                true => drop(self.again.remove(0)),
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
        if let Some(wrong) = this.wrong.take() {
            return Poll::Ready(Err(wrong));
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
            for ticket in self.again.iter().chain(&self.rest).filter_map(|part| part.ticket) {
                state.waiting.leave(ticket);
            }
            let mut index = self.first;
            while index != NONE {
                let slot = state.slab.get(index);
                let (next, ticket) = (slot.next, slot.work.ticket);
                match slot.stage {
                    // The backend may still use its pages.
                    Stage::Flying => (slot.abandoned, slot.waker) = (true, None),
                    stage => {
                        if stage == Stage::Again {
                            state.waiting.leave(ticket);
                        }
                        state.release(index);
                    }
                }
                index = next;
            }
            state.wake_first();
            // It may wait for the last one to be gone.
            if state.closing.is_some() {
                state.wake_driver();
            }
        });
    }
}
