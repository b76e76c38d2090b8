//! What the backend answers: checked, and put to the requests that it belongs to.

use super::device::State;
use super::offer::Limits;
use super::slab::{Answer, Stage};
use super::{Note, Op, PeerError};
use core::task::Context;
use xen_abi::blkif;
use xen_platform::{Channel, Platform};

impl<P: Platform> State<P> {
    /// Takes what answers a ring has, and sees to it that the driver is woken by more.
    pub fn listen(&mut self, platform: &P, number: u32, cx: &mut Context<'_>) -> Result<(), PeerError> {
        loop {
            let queue = &mut self.queues[number as usize];
            let before = queue.seen;
            while queue.channel.poll_after(&mut queue.seen, cx).is_ready() {}
            self.stats.events_received += u64::from(queue.seen.wrapping_sub(before));
            let before = self.stats.responses;
            self.collect(number)?;
            let queue = &mut self.queues[number as usize];
            if self.stats.responses != before {
                queue.patience.rewarded(platform);
            }
            let is_idle = queue.ring.in_flight() == 0;
            if is_idle || !queue.patience.is_over(platform, cx) || !queue.arm(number)? {
                return Ok(());
            }
        }
    }

    /// Takes all answers off a ring.
    fn collect(&mut self, number: u32) -> Result<(), PeerError> {
        let abi = self.info.abi;
        while let Some(response) = self.queues[number as usize].take(number, abi)? {
            let id = response.id;
            let index = self.slab.find(number, id).ok_or(PeerError::UnknownId { queue: number, id })?;
            let slot = self.slab.get(index);
            let op = slot.work.op;
            // Of an indirect request, backends give back what it wraps; let those pass that give back the whole.
            let known = response.operation == op.code() || slot.indirect && response.operation == blkif::OP_INDIRECT;
            if !known {
                return Err(PeerError::Operation { queue: number, id, op, found: response.operation });
            }
            let answer = match response.status {
                blkif::RSP_OKAY => Answer::Okay,
                blkif::RSP_ERROR => Answer::Failed,
                blkif::RSP_EOPNOTSUPP => Answer::Refused,
                status => return Err(PeerError::Status { queue: number, id, op, status }),
            };
            self.settle(index, answer);
        }
        Ok(())
    }

    fn settle(&mut self, index: u16, answer: Answer) {
        let slot = self.slab.get(index);
        slot.stage = Stage::Answered(answer);
        self.stats.responses += 1;
        self.stats.in_flight -= 1;
        self.stats.failed += u64::from(answer != Answer::Okay);
        self.exclusive &= slot.work.op != Op::Barrier;
        if answer == Answer::Okay {
            match slot.work.op {
                Op::Read => self.stats.bytes_read += slot.work.len() as u64,
                _ => self.stats.bytes_written += slot.work.len() as u64,
            }
        }
        if slot.abandoned {
            self.release(index);
        } else {
            // What was read has to be copied out first.
            if slot.work.op != Op::Read {
                self.pool.give(&mut slot.pages);
            }
            self.wakes.extend(slot.waker.take());
        }
        self.wake_first();
    }

    /// The backend refused a request as unknown. True if it can be sent in another way.
    pub fn refused(&mut self, op: Op, indirect: bool) -> bool {
        let note = match (op, indirect) {
            (_, true) => {
                self.limits = Limits::new(self.limits.sector_size, 0, self.info.units);
                self.info.indirect_segments = 0;
                self.info.max_transfer = self.limits.max_transfer(self.pool.most());
                Note::RefusedIndirect
            }
            (op, false) => {
                match op {
                    Op::Flush => self.info.flush = false,
                    Op::Barrier => self.info.barrier = false,
                    Op::Discard => self.info.discard = None,
                    Op::SecureDiscard => self.info.discard.iter_mut().for_each(|discard| discard.secure = false),
                    Op::Read | Op::Write => {}
                }
                Note::Refused(op)
            }
        };
        self.info.add_notes([note]);
        indirect
    }
}
