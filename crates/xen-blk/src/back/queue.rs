//! One ring: requests are taken, carried out side by side, and answered in the order of the ring.
//!
//! ```text
//!   ring --take--> batch --check, lists, merge, copy in--> waiting --start--> in flight --copy out--> answers --> ring
//!                                        \--if the storage can do it at once----------------------------/
//! ```
//!
//! Answers wait for those before them, so that a backend that is started anew knows from the ring alone which requests
//! are still open: those behind its response index. A barrier starts when nothing is in flight, and nothing starts while
//! one is; a flush starts when nothing is in flight.

use super::PeerError;
use super::answers::Answers;
use super::buffer::Pool;
use super::data;
use super::flight::Flight;
use super::grants::Grants;
use super::journal;
use super::now;
use super::request::{self, Good, Kind, Limits, Work};
use super::storage::Storage;
use super::work::carry_out;
use super::{Config, Handle};
use crate::patience::Patience;
use crate::wire::{self, Abi, Body, SLOT_MAX};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use xen_platform::{Channel, Platform};
use xen_ring::slots::{Back, Corrupt};

/// How often the ring is looked at before others get their turn.
const ROUNDS: usize = 8;

/// A ring's pages and event channel, as the frontend published them.
pub(super) struct Wiring<P: Platform> {
    pub number: u32,
    pub abi: Abi,
    pub ring: Back,
    /// Where in the ring the next response goes.
    pub next: u32,
    pub page: P::Map,
    pub channel: P::Channel,
    pub grants: Grants<P>,
}

/// One ring being served.
pub(super) struct Queue<'a, P: Platform, S> {
    wiring: Wiring<P>,
    platform: P,
    storage: &'a S,
    config: &'a Config,
    handle: &'a Handle,
    limits: Limits,
    /// Events seen.
    seen: u32,
    patience: Patience,
    /// No more requests are taken.
    closing: bool,
    answers: Answers,
    waiting: VecDeque<Work>,
    flight: Flight<'a, Work>,
    /// A barrier is in flight.
    barrier: bool,
    done: Vec<Work>,
    pool: Pool,
    /// Bytes of what waits or is in flight.
    bytes: usize,
}

impl<'a, P: Platform, S: Storage> Queue<'a, P, S> {
    pub fn new(
        wiring: Wiring<P>,
        platform: &P,
        storage: &'a S,
        config: &'a Config,
        handle: &'a Handle,
        limits: Limits,
    ) -> Self {
        let seen = wiring.channel.seen();
        Queue {
            wiring,
            platform: platform.clone(),
            storage,
            config,
            handle,
            limits,
            seen,
            patience: Patience::new(),
            closing: false,
            answers: Answers::default(),
            waiting: VecDeque::new(),
            flight: Flight::new(),
            barrier: false,
            done: Vec::new(),
            pool: Pool::new(config.memory / 4),
            bytes: 0,
        }
    }

    pub fn channel(&self) -> &P::Channel {
        &self.wiring.channel
    }

    /// The disk is of another size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes no more requests; those that were taken are still answered.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Whether all that was taken is answered.
    pub fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Moves on as far as it can; ready only when the frontend broke the protocol.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<PeerError> {
        for _ in 0..ROUNDS {
            match self.round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(corrupt) => return Poll::Ready(PeerError::Ring { queue: self.wiring.number, corrupt }),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One look at everything; false if there is nothing to do until the task is woken.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, Corrupt> {
        let mut moved = self.take()?;
        moved |= self.start();
        self.flight.poll(cx, &mut self.done);
        moved |= !self.done.is_empty();
        self.finish();
        self.answer();
        if moved {
            return Ok(true);
        }
        // Whoever has no room for more requests need not hear of them.
        if !self.has_room() {
            return Ok(false);
        }
        // What the storage is still at may want this processor.
        if self.flight.is_empty() && !self.patience.is_over(&self.platform, cx) {
            return Ok(false);
        }
        let Wiring { ring, page, channel, .. } = &mut self.wiring;
        if ring.arm(page)? {
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

    /// Takes what is in the ring and makes work of it; says whether there was anything.
    fn take(&mut self) -> Result<bool, Corrupt> {
        // Read once there is a request: it may be a system call, and most looks find nothing.
        let mut now = None;
        let mut batch: Vec<(u64, Body)> = Vec::new();
        let (before, mut corrupt) = (self.answers.len(), Ok(()));
        let mut room = self.config.memory.saturating_sub(self.bytes);
        while !self.closing && room > 0 {
            let mut slot = [0; SLOT_MAX];
            let Wiring { ring, page, abi, .. } = &mut self.wiring;
            let slot = &mut slot[..abi.slot()];
            match ring.take(page, slot) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    // What was taken before that is still done.
                    corrupt = Err(why);
                    break;
                }
            }
            let wire::Request { id, operation, body } = wire::decode(*abi, slot);
            let now = *now.get_or_insert_with(|| self.platform.now());
            let answer = self.answers.expect(id, operation, now);
            match body.and_then(|body| self.limits.admit(body)) {
                Ok(body) => {
                    room = room.saturating_sub(data::most_bytes(&body));
                    batch.push((answer, body));
                }
                Err(why) => {
                    log::debug!("request {id:#x} on ring {}: {why}", self.wiring.number);
                    self.answers.set(answer, why.status());
                }
            }
        }
        if self.answers.len() == before {
            return corrupt.map(|()| false);
        }
        self.patience.rewarded(&self.platform);
        let mut stats = self.handle.count();
        stats.occupancy.add(self.wiring.ring.unanswered() as usize);
        stats.in_flight += (self.answers.len() - before) as u32;
        drop(stats);
        let good = self.look_closer(batch);
        let works = request::merge(good, self.config.merge);
        let works = self.do_now(works);
        self.prepare(works);
        corrupt.map(|()| true)
    }

    /// Gets the lists of segments, and checks requests as a whole.
    fn look_closer(&mut self, batch: Vec<(u64, Body)>) -> Vec<Good> {
        let mut lists = data::lists(&mut self.wiring.grants, &batch, self.handle).into_iter();
        let mut good = Vec::with_capacity(batch.len());
        for (answer, body) in batch {
            let list = match body {
                Body::Indirect { .. } => lists.next().expect("there is one for each"),
                _ => Ok(Vec::new()),
            };
            match list.and_then(|list| self.limits.check(body, list)) {
                Ok((kind, sector, segments)) => {
                    self.handle.count().segments.add(segments.len());
                    self.answers.describe(answer, kind, &segments);
                    good.push(Good { answer, kind, sector, segments });
                }
                Err(status) => self.answers.set(answer, status),
            }
        }
        good
    }

    /// Does what the storage can do at once, straight between it and the frontend's pages; returns the rest. Nothing that
    /// would have to wait for something else is done.
    fn do_now(&mut self, mut works: Vec<Work>) -> Vec<Work> {
        let mut free = self.waiting.is_empty() && !self.barrier;
        works.retain_mut(|work| {
            let done = free && now::carry_out(self.storage, &mut self.wiring.grants, work, self.handle);
            if done {
                self.handle.count().merged += work.parts.len() as u64 - 1;
                work.parts.iter().for_each(|part| self.answers.set(part.answer, part.status));
            }
            free &= work.may_be_passed();
            !done
        });
        works
    }

    /// Gives works their memory, fetches what is to be written, and puts them in line.
    fn prepare(&mut self, mut works: Vec<Work>) {
        for work in &mut works {
            work.buffer = self.pool.take(work.len());
            self.bytes += work.len();
            self.handle.count().merged += work.parts.len() as u64 - 1;
        }
        data::fetch(&mut self.wiring.grants, &mut works, self.handle);
        self.waiting.extend(works);
    }

    /// Starts what can be started now; says whether there was anything.
    fn start(&mut self) -> bool {
        let mut started = false;
        while let Some(work) = self.waiting.front() {
            if self.barrier || !work.may_be_passed() && !self.flight.is_empty() {
                break;
            }
            self.barrier = work.kind == Kind::Barrier;
            let work = self.waiting.pop_front().expect("it was just looked at");
            self.flight.add(carry_out(self.storage, work));
            started = true;
        }
        started
    }

    /// Hands out what was read, and notes the answers of all that is done.
    fn finish(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let mut done = core::mem::take(&mut self.done);
        data::hand_out(&mut self.wiring.grants, &mut done, self.handle);
        for work in done.drain(..) {
            self.barrier &= work.kind != Kind::Barrier;
            self.bytes -= work.len();
            work.parts.iter().for_each(|part| self.answers.set(part.answer, part.status));
            self.pool.give(work.buffer);
        }
        self.done = done;
    }

    /// Answers what can be answered, with one event at most.
    fn answer(&mut self) {
        if !self.answers.is_ready() {
            return;
        }
        let Wiring { ring, page, channel, abi, next, .. } = &mut self.wiring;
        let now = self.platform.now();
        let mut stats = self.handle.count();
        while let Some(response) = self.answers.next(now, &mut stats) {
            let response = response.encode();
            journal::note(page, *next, &response);
            ring.put(page, &response[..abi.response()]);
            *next = next.wrapping_add(1);
            stats.in_flight -= 1;
        }
        if ring.push(page) {
            stats.events_sent += 1;
            channel.notify();
        }
    }
}

impl<P: Platform, S> Drop for Queue<'_, P, S> {
    /// What is not answered will not be.
    fn drop(&mut self) {
        self.handle.count().in_flight -= self.answers.len() as u32;
    }
}
