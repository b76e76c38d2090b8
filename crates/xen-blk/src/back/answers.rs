//! The answers that a ring still owes, in the order of its requests.

use super::Stats;
use super::request::Kind;
use crate::wire::{Response, Segment};
use alloc::collections::VecDeque;
use xen_abi::blkif::{RSP_OKAY, SECTOR};
use xen_platform::Time;

/// The answers owed. Each has a number, which goes up by one with each request.
#[derive(Default)]
pub(super) struct Answers {
    owed: VecDeque<Owed>,
    /// The number of the first of them.
    first: u64,
}

struct Owed {
    id: u64,
    operation: u8,
    taken: Time,
    /// What it turned out to be, and its bytes; unknown of a request that was refused.
    what: Option<(Kind, u64)>,
    status: Option<i16>,
}

impl Answers {
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Adds one; returns its number.
    pub fn expect(&mut self, id: u64, operation: u8, taken: Time) -> u64 {
        self.owed.push_back(Owed { id, operation, taken, what: None, status: None });
        self.first + self.owed.len() as u64 - 1
    }

    fn of(&mut self, number: u64) -> &mut Owed {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.owed.get_mut(at)).expect("an answer is owed until it is given")
    }

    /// The request is good.
    pub fn describe(&mut self, number: u64, kind: Kind, segments: &[Segment]) {
        let sectors: u64 = match kind {
            Kind::Discard { count, .. } => count,
            _ => segments.iter().map(|segment| segment.sectors()).sum(),
        };
        self.of(number).what = Some((kind, sectors * SECTOR as u64));
    }

    /// The request is to be answered with this status.
    pub fn set(&mut self, number: u64, status: i16) {
        self.of(number).status = Some(status);
    }

    /// Whether the next answer is known.
    pub fn is_ready(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.status.is_some())
    }

    /// The next answer, if it is known.
    pub fn next(&mut self, now: Time, stats: &mut Stats) -> Option<Response> {
        let status = self.owed.front()?.status?;
        let Owed { id, operation, taken, what, .. } = self.owed.pop_front()?;
        self.first += 1;
        stats.latencies.add(now.since(taken));
        let count = match what {
            Some((kind, bytes)) => Some((
                match kind {
                    Kind::Read => &mut stats.reads,
                    Kind::Write => &mut stats.writes,
                    Kind::Barrier => &mut stats.barriers,
                    Kind::Flush => &mut stats.flushes,
                    Kind::Discard { .. } => &mut stats.discards,
                },
                bytes,
            )),
            None => None,
        };
        match count {
            Some((count, bytes)) => count.add(status == RSP_OKAY, bytes),
            None => stats.refused += 1,
        }
        Some(Response { id, operation, status })
    }
}
