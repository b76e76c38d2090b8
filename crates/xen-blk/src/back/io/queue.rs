//! One ring: requests are taken, carried out side by side, and completed in the order of the ring.
//!
//! ```text
//!   ring --take--> raw requests --check--> requests --merge--> operations
//!   operations --carry out now, if the storage does not block--> responses
//!   operations --copy in--> waiting --start--> in flight --copy out--> responses
//!   responses --respond--> ring
//! ```
//!
//! Responses wait for those before them, so a backend that is started anew knows from the ring
//! alone which requests are open: those behind its response index. A barrier starts when nothing is
//! in flight, and nothing starts while one is; a flush starts when nothing is in flight.

use super::buffer::Pool;
use super::data;
use super::grants::Grants;
use super::immediate;
use super::journal;
use super::operation::{Operation, carry_out, merge};
use super::request::{Kind, Limits, Request};
use super::responses::Responses;
use crate::back::config::Config;
use crate::back::error::PeerError;
use crate::back::handle::Handle;
use crate::back::storage::Storage;
use crate::protocol::wire::{self, Abi, RawRequest, SLOT_MAX};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use xen_exec::TaskSet;
use xen_platform::{BusyPoll, Channel, Platform};
use xen_ring::slots::{Back, Corrupt};

/// Number of looks at the ring before other tasks get their turn.
const ROUNDS: usize = 8;

/// A ring with its pages and event channel, as the frontend published them.
pub(in crate::back) struct Ring<P: Platform> {
    pub number: u32,
    pub abi: Abi,
    pub slots: Back,
    /// Index of the next response.
    pub next: u32,
    pub page: P::Map,
    pub channel: P::Channel,
    pub grants: Grants<P>,
}

/// A ring being served.
pub(in crate::back) struct Queue<'a, P: Platform, S> {
    ring: Ring<P>,
    platform: P,
    storage: &'a S,
    config: &'a Config,
    handle: &'a Handle,
    limits: Limits,
    /// Count of events seen.
    seen: u32,
    busy_poll: BusyPoll,
    /// No more requests are taken.
    closing: bool,
    responses: Responses,
    waiting: VecDeque<Operation>,
    in_flight: TaskSet<'a, Operation>,
    /// A barrier is in flight.
    barrier: bool,
    done: Vec<Operation>,
    pool: Pool,
    /// Bytes of the operations that wait or are in flight.
    bytes: usize,
}

impl<'a, P: Platform, S: Storage> Queue<'a, P, S> {
    pub fn new(
        ring: Ring<P>,
        platform: &P,
        storage: &'a S,
        config: &'a Config,
        handle: &'a Handle,
        limits: Limits,
    ) -> Self {
        let seen = ring.channel.seen();
        Queue {
            ring,
            platform: platform.clone(),
            storage,
            config,
            handle,
            limits,
            seen,
            busy_poll: BusyPoll::new(BusyPoll::LOOKS),
            closing: false,
            responses: Responses::default(),
            waiting: VecDeque::new(),
            in_flight: TaskSet::new(),
            barrier: false,
            done: Vec::new(),
            pool: Pool::new(config.memory / 4),
            bytes: 0,
        }
    }

    pub fn channel(&self) -> &P::Channel {
        &self.ring.channel
    }

    /// Takes over new limits: the disk has another size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes no more requests. Those that were taken are still completed.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Tells if all requests that were taken are completed.
    pub fn is_idle(&self) -> bool {
        self.responses.is_empty()
    }

    /// Lets the frontend's pages and port go, and returns the operations in flight.
    pub fn into_in_flight(mut self) -> TaskSet<'a, Operation> {
        core::mem::take(&mut self.in_flight)
    }

    /// Moves on as far as it can; ready only when the frontend broke the protocol.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PeerError> {
        for _ in 0..ROUNDS {
            match self.round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(corrupt) => {
                    return Poll::Ready(PeerError::Ring { queue: self.ring.number, corrupt });
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks at everything once; returns false if there is nothing to do until the task is woken.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Corrupt> {
        let mut moved = self.take()?;
        moved |= self.start();
        self.in_flight.poll_all(cx, &mut self.done);
        moved |= !self.done.is_empty();
        self.finish();
        self.respond();
        if moved {
            return Ok(true);
        }
        // Without room for more requests, none needs to be announced.
        if !self.has_room() {
            return Ok(false);
        }
        // The storage may need this processor for what is in flight.
        if self.in_flight.is_empty() && !self.busy_poll.poll_over(&self.platform, cx) {
            return Ok(false);
        }
        let Ring { slots, page, channel, .. } = &mut self.ring;
        if slots.arm(page)? {
            return Ok(true);
        }
        if channel.poll_after(&mut self.seen, cx).is_ready() {
            self.handle.count().events_received += 1;
            return Ok(true);
        }
        Ok(false)
    }

    fn has_room(&self) -> bool {
        !self.closing && self.bytes < self.config.memory
    }

    /// Takes the requests in the ring and makes operations of them; tells if there were any.
    fn take(&mut self) -> Result<bool, Corrupt> {
        // Read once there is a request: it may be a system call, and most looks find nothing.
        let mut now = None;
        let mut batch: Vec<(u64, RawRequest)> = Vec::new();
        let (before, mut corrupt) = (self.responses.len(), Ok(()));
        let mut room = self.config.memory.saturating_sub(self.bytes);
        while !self.closing && room > 0 {
            let mut slot = [0; SLOT_MAX];
            let Ring { slots, page, abi, .. } = &mut self.ring;
            let slot = &mut slot[..abi.slot()];
            match slots.take(page, slot) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    // The requests that were taken before are still carried out.
                    corrupt = Err(why);
                    break;
                }
            }
            let wire::Decoded { id, operation, request } = wire::decode(*abi, slot);
            let now = *now.get_or_insert_with(|| self.platform.now());
            let response = self.responses.owe(id, operation, now);
            match request.and_then(|request| self.limits.admit(request)) {
                Ok(request) => {
                    room = room.saturating_sub(data::max_bytes(&request));
                    batch.push((response, request));
                }
                Err(why) => {
                    log::debug!("request {id:#x} on ring {}: {why}", self.ring.number);
                    self.responses.set(response, why.status());
                }
            }
        }
        if self.responses.len() == before {
            return corrupt.map(|()| false);
        }
        self.busy_poll.open(&self.platform);
        let mut stats = self.handle.count();
        stats.occupancy.add(self.ring.slots.unanswered() as usize);
        stats.in_flight += (self.responses.len() - before) as u32;
        drop(stats);
        let requests = self.check(batch);
        let operations = merge(requests, self.config.merge);
        let operations = self.carry_out_now(operations);
        self.prepare(operations);
        corrupt.map(|()| true)
    }

    /// Copies the lists of segments, and checks every request as a whole.
    fn check(&mut self, batch: Vec<(u64, RawRequest)>) -> Vec<Request> {
        let mut lists = data::lists(&mut self.ring.grants, &batch, self.handle).into_iter();
        let mut requests = Vec::with_capacity(batch.len());
        for (response, raw) in batch {
            let list = match raw {
                RawRequest::Indirect { .. } => lists.next().expect("there is one for each"),
                _ => Ok(Vec::new()),
            };
            match list.and_then(|list| self.limits.check(response, raw, list)) {
                Ok(request) => {
                    self.handle.count().segments.add(request.segments.len());
                    self.responses.describe(&request);
                    requests.push(request);
                }
                Err(status) => self.responses.set(response, status),
            }
        }
        requests
    }

    /// Carries out the operations for which the storage does not block, between it and the
    /// frontend's pages; returns the others. None is carried out that would have to wait for
    /// another.
    fn carry_out_now(&mut self, mut operations: Vec<Operation>) -> Vec<Operation> {
        let mut free = self.waiting.is_empty() && !self.barrier;
        operations.retain_mut(|operation| {
            let grants = &mut self.ring.grants;
            let done = free && immediate::carry_out(self.storage, grants, operation, self.handle);
            if done {
                self.handle.count().merged += operation.requests.len() as u64 - 1;
                self.complete(&operation.requests);
            }
            free &= operation.may_be_passed();
            !done
        });
        operations
    }

    fn complete(&mut self, requests: &[Request]) {
        requests.iter().for_each(|request| self.responses.set(request.response, request.status));
    }

    /// Gives operations their memory, copies data to be written, and puts them in line.
    fn prepare(&mut self, mut operations: Vec<Operation>) {
        for operation in &mut operations {
            operation.buffer = self.pool.take(operation.len());
            self.bytes += operation.len();
            self.handle.count().merged += operation.requests.len() as u64 - 1;
        }
        data::copy_from_peer(&mut self.ring.grants, &mut operations, self.handle);
        self.waiting.extend(operations);
    }

    /// Starts the operations whose turn it is; tells if there were any.
    fn start(&mut self) -> bool {
        let mut started = false;
        while let Some(next) = self.waiting.front() {
            if self.barrier || !next.may_be_passed() && !self.in_flight.is_empty() {
                break;
            }
            self.barrier = next.kind == Kind::Barrier;
            let next = self.waiting.pop_front().expect("it was just looked at");
            self.in_flight.push(carry_out(self.storage, next));
            started = true;
        }
        started
    }

    /// Copies data that was read to the frontend, and notes the status of all that is done.
    fn finish(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let mut done = core::mem::take(&mut self.done);
        data::copy_to_peer(&mut self.ring.grants, &mut done, self.handle);
        for operation in done.drain(..) {
            self.barrier &= operation.kind != Kind::Barrier;
            self.bytes -= operation.len();
            self.complete(&operation.requests);
            self.pool.give(operation.buffer);
        }
        self.done = done;
    }

    /// Gives the responses whose turn it is, with one event at most.
    fn respond(&mut self) {
        if !self.responses.is_ready() {
            return;
        }
        let Ring { slots, page, channel, abi, next, .. } = &mut self.ring;
        let now = self.platform.now();
        let mut stats = self.handle.count();
        while let Some(response) = self.responses.next(now, &mut stats) {
            let response = response.encode();
            journal::note(page, *next, &response);
            slots.put(page, &response[..abi.response()]);
            *next = next.wrapping_add(1);
            stats.in_flight -= 1;
        }
        if slots.push(page) {
            stats.events_sent += 1;
            channel.notify();
        }
    }
}

impl<P: Platform, S> Drop for Queue<'_, P, S> {
    /// Counts the requests off that will not be completed any more.
    fn drop(&mut self) {
        self.handle.count().in_flight -= self.responses.len() as u32;
    }
}
