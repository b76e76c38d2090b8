//! Responses of the backend: checked, and matched with the requests that they belong to.

use super::in_flight::{Outcome, Stage};
use crate::front::device::State;
use crate::front::error::{Op, PeerError};
use crate::front::note::Note;
use crate::front::xenbus::negotiate::Limits;
use crate::protocol::wire::Response;
use core::task::Context;
use xen_abi::blkif;
use xen_platform::{Channel, Platform};

impl<P: Platform> State<P> {
    /// Takes the responses of all rings, and registers the task to be woken by more.
    pub fn receive(&mut self, platform: &P, cx: &mut Context<'_>) -> Result<(), PeerError> {
        (0..self.queues.len()).try_for_each(|number| self.receive_on(platform, number, cx))
    }

    fn receive_on(
        &mut self,
        platform: &P,
        number: u32,
        cx: &mut Context<'_>,
    ) -> Result<(), PeerError> {
        loop {
            let queue = self.queues.get(number);
            let before = queue.seen;
            while queue.channel.poll_after(&mut queue.seen, cx).is_ready() {}
            self.stats.events_received += u64::from(queue.seen.wrapping_sub(before));
            let before = self.stats.responses;
            self.take_all(number)?;
            let queue = self.queues.get(number);
            if self.stats.responses != before {
                queue.busy_poll.open(platform);
            }
            let is_idle = queue.ring.in_flight() == 0;
            if is_idle || !queue.busy_poll.poll_over(platform, cx) || !queue.arm(number)? {
                return Ok(());
            }
        }
    }

    /// Takes all responses off a ring.
    fn take_all(&mut self, number: u32) -> Result<(), PeerError> {
        let abi = self.info.abi;
        while let Some(response) = self.queues.get(number).take(number, abi)? {
            let (index, outcome) = self.check(number, response)?;
            self.complete(index, outcome);
        }
        Ok(())
    }

    /// Finds the request that a response belongs to.
    fn check(&mut self, queue: u32, response: Response) -> Result<(u16, Outcome), PeerError> {
        let Response { id, operation, status } = response;
        let index = self.in_flight.find(queue, id).ok_or(PeerError::UnknownId { queue, id })?;
        let slot = self.in_flight.get(index);
        let op = slot.request.op;
        // For an indirect request, backends repeat the operation that it wraps; one that repeats
        // the indirect operation itself is tolerated.
        let fits = operation == op.code() || slot.indirect && operation == blkif::OP_INDIRECT;
        if !fits {
            return Err(PeerError::Operation { queue, id, op, found: operation });
        }
        let outcome = match status {
            blkif::RSP_OKAY => Outcome::Okay,
            blkif::RSP_ERROR => Outcome::Failed,
            blkif::RSP_EOPNOTSUPP => Outcome::Unsupported,
            status => return Err(PeerError::Status { queue, id, op, status }),
        };
        Ok((index, outcome))
    }

    fn complete(&mut self, index: u16, outcome: Outcome) {
        let (slot, pool) = self.in_flight.slot_and_pool(index);
        slot.stage = Stage::Completed(outcome);
        self.stats.responses += 1;
        self.stats.in_flight -= 1;
        self.stats.failed += u64::from(outcome != Outcome::Okay);
        self.queues.exclusive &= slot.request.op != Op::Barrier;
        if outcome == Outcome::Okay {
            match slot.request.op {
                Op::Read => self.stats.bytes_read += slot.request.len() as u64,
                _ => self.stats.bytes_written += slot.request.len() as u64,
            }
        }
        if slot.abandoned {
            self.in_flight.release(index);
        } else {
            // Data that was read has to be copied out first.
            if slot.request.op != Op::Read {
                pool.give(&mut slot.pages);
            }
            self.wakers.wake(slot.waker.take());
        }
        self.wake_first();
    }

    /// Notes that the backend refused a request as unknown; tells if the request can be sent in
    /// another way.
    pub fn unsupported(&mut self, op: Op, indirect: bool) -> bool {
        let note = match (op, indirect) {
            (_, true) => {
                self.limits = Limits::new(self.limits.sector_size, 0, self.info.units);
                self.info.indirect_segments = 0;
                self.info.max_transfer = self.limits.max_transfer(self.in_flight.pool.max_pages());
                Note::RefusedIndirect
            }
            (op, false) => {
                match op {
                    Op::Flush => self.info.flush = false,
                    Op::Barrier => self.info.barrier = false,
                    Op::Discard => self.info.discard = None,
                    Op::SecureDiscard => {
                        self.info.discard.iter_mut().for_each(|discard| discard.secure = false)
                    }
                    Op::Read | Op::Write => {}
                }
                Note::Refused(op)
            }
        };
        self.info.add_notes([note]);
        indirect
    }
}
