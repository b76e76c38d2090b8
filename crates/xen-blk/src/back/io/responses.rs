//! Responses that a ring still owes, in the order of its requests.

use super::request::{Kind, Request};
use crate::back::stats::Stats;
use crate::protocol::wire::Response;
use alloc::collections::VecDeque;
use xen_abi::blkif::{RSP_OKAY, SECTOR};
use xen_platform::Time;

/// The responses owed. Each has a number, which goes up by one with each request.
#[derive(Default)]
pub(in crate::back) struct Responses {
    owed: VecDeque<Owed>,
    /// Number of the first of them.
    first: u64,
}

struct Owed {
    id: u64,
    operation: u8,
    taken: Time,
    /// Kind and size in bytes; `None` of a request that was refused.
    request: Option<(Kind, u64)>,
    status: Option<i16>,
}

impl Responses {
    pub fn len(&self) -> usize {
        self.owed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Adds the response to a request; returns its number.
    pub fn owe(&mut self, id: u64, operation: u8, taken: Time) -> u64 {
        self.owed.push_back(Owed { id, operation, taken, request: None, status: None });
        self.first + self.owed.len() as u64 - 1
    }

    fn get(&mut self, number: u64) -> &mut Owed {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.owed.get_mut(at)).expect("a response is owed until it is given")
    }

    /// Notes a request that passed all checks.
    pub fn describe(&mut self, request: &Request) {
        let bytes = match request.kind {
            Kind::Discard { count, .. } => count * SECTOR as u64,
            _ => request.len() as u64,
        };
        self.get(request.response).request = Some((request.kind, bytes));
    }

    /// Sets the status of a response.
    pub fn set(&mut self, number: u64, status: i16) {
        self.get(number).status = Some(status);
    }

    /// Tells if the next response can be given.
    pub fn is_ready(&self) -> bool {
        self.owed.front().is_some_and(|owed| owed.status.is_some())
    }

    /// Takes the next response, if it can be given.
    pub fn next(&mut self, now: Time, stats: &mut Stats) -> Option<Response> {
        let status = self.owed.front()?.status?;
        let Owed { id, operation, taken, request, .. } = self.owed.pop_front()?;
        self.first += 1;
        stats.latencies.add(now.since(taken));
        let count = match request {
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
