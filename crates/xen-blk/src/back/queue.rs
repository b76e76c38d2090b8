//! One ring: requests are taken, carried out side by side, and answered in the order of the ring.
//!
//! ```text
//!   ring --take--> batch --check, lists, merge, copy in--> waiting --start--> in flight --copy out--> answers --> ring
//! ```
//!
//! Answers wait for those before them, so that a backend that is started anew knows from the ring alone which requests
//! are still open: those behind its response index. A barrier starts when nothing is in flight, and nothing starts while
//! one is; a flush starts when nothing is in flight.

use super::PeerError;
use super::answers::Answers;
use super::buffer::Pool;
use super::flight::Flight;
use super::grants::Grants;
use super::journal;
use super::request::{self, Good, Kind, Limits, Work};
use super::storage::Storage;
use super::work::carry_out;
use super::{Config, Handle};
use crate::wire::{self, Abi, Body, Malformed, SLOT_MAX, Segment};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::task::{Context, Poll};
use xen_abi::blkif::{self, RSP_ERROR, RSP_OKAY, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{Channel, Piece, Platform};
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
        let now = self.platform.now();
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
            let answer = self.answers.expect(id, operation, now);
            match body.and_then(|body| self.within_limits(body)) {
                Ok(body) => {
                    room = room.saturating_sub(most_bytes(&body));
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
        let mut stats = self.handle.count();
        stats.occupancy.add(self.wiring.ring.unanswered() as usize);
        stats.in_flight += (self.answers.len() - before) as u32;
        drop(stats);
        let good = self.look_closer(batch);
        let works = request::merge(good, self.config.merge);
        self.prepare(works);
        corrupt.map(|()| true)
    }

    /// Indirect requests can have only as many segments as were offered.
    fn within_limits(&self, body: Body) -> Result<Body, Malformed> {
        match body {
            Body::Indirect { .. } if self.limits.indirect_segments == 0 => {
                Err(Malformed::Operation(blkif::OP_INDIRECT))
            }
            Body::Indirect { count, .. } if count > self.limits.indirect_segments => {
                Err(Malformed::Count { count, most: self.limits.indirect_segments })
            }
            _ => Ok(body),
        }
    }

    /// Gets the lists of segments, and checks requests as a whole.
    fn look_closer(&mut self, batch: Vec<(u64, Body)>) -> Vec<Good> {
        let mut lists = self.lists(&batch).into_iter();
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

    /// The segments of the indirect requests, copied in one go: read once, and checked afterwards.
    fn lists(&mut self, batch: &[(u64, Body)]) -> Vec<Result<Vec<Segment>, i16>> {
        let indirect = batch.iter().filter_map(|(_, body)| match body {
            Body::Indirect { count, pages, .. } => Some((*count, pages)),
            _ => None,
        });
        let mut bytes: Vec<Vec<u8>> =
            indirect.clone().map(|(count, _)| alloc::vec![0; count * size_of::<blkif::Segment>()]).collect();
        if bytes.is_empty() {
            return Vec::new();
        }
        let mut pieces = Vec::new();
        for ((_, pages), bytes) in indirect.clone().zip(&mut bytes) {
            let parts = bytes.chunks_mut(SEGMENTS_PER_INDIRECT_PAGE * size_of::<blkif::Segment>());
            pieces.extend(pages.iter().zip(parts).map(|(gref, part)| Piece::from_peer(*gref, 0, part)));
        }
        let copied = self.wiring.grants.transfer(pieces, &mut self.handle.count());
        let mut copied = copied.into_iter();
        indirect
            .zip(&bytes)
            .map(|((_, pages), bytes)| match copied.by_ref().take(pages.len()).fold(true, |all, one| all & one) {
                true => wire::segments(bytes).map_err(Malformed::status),
                false => Err(RSP_ERROR),
            })
            .collect()
    }

    /// Gives works their memory, fetches what is to be written, and puts them in line.
    fn prepare(&mut self, mut works: Vec<Work>) {
        for work in &mut works {
            work.buffer = self.pool.take(work.len());
            self.bytes += work.len();
            self.handle.count().merged += work.parts.len() as u64 - 1;
        }
        transfer(&mut self.wiring.grants, &mut works, false, self.handle);
        self.waiting.extend(works);
    }

    /// Starts what can be started now; says whether there was anything.
    fn start(&mut self) -> bool {
        let mut started = false;
        while let Some(work) = self.waiting.front() {
            let alone = matches!(work.kind, Kind::Barrier | Kind::Flush);
            if self.barrier || alone && !self.flight.is_empty() {
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
        transfer(&mut self.wiring.grants, &mut done, true, self.handle);
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
        let Wiring { ring, page, channel, abi, next, .. } = &mut self.wiring;
        let mut any = false;
        let now = self.platform.now();
        let mut stats = self.handle.count();
        while let Some(response) = self.answers.next(now, &mut stats) {
            let response = response.encode();
            journal::note(page, *next, &response);
            ring.put(page, &response[..abi.response()]);
            *next = next.wrapping_add(1);
            stats.in_flight -= 1;
            any = true;
        }
        if any && ring.push(page) {
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

/// The most bytes that a request can move.
fn most_bytes(body: &Body) -> usize {
    const PAGE: usize = xen_platform::PAGE_SIZE;
    match body {
        Body::Direct { segments, .. } => segments.len() * PAGE,
        Body::Indirect { count, .. } => count * PAGE,
        Body::Discard { .. } => 0,
    }
}

/// Copies the data of all works that move some in that direction; who cannot be reached fails alone.
fn transfer<P: Platform>(grants: &mut Grants<P>, works: &mut [Work], to_peer: bool, handle: &Handle) {
    let moves = |work: &Work| if to_peer { work.kind == Kind::Read } else { work.brings_data() };
    let mut pieces = Vec::new();
    for work in works.iter_mut().filter(|work| moves(work)) {
        let Work { buffer, parts, .. } = work;
        let mut rest = buffer.bytes_mut();
        for part in parts.iter() {
            let (mut bytes, more) = core::mem::take(&mut rest).split_at_mut(part.bytes.len());
            rest = more;
            for segment in part.segments.iter().filter(|_| part.status == RSP_OKAY) {
                let (piece, more) = bytes.split_at_mut(segment.sectors() as usize * blkif::SECTOR);
                bytes = more;
                let at = usize::from(segment.first) * blkif::SECTOR;
                pieces.push(match to_peer {
                    true => Piece::to_peer(segment.gref, at, piece),
                    false => Piece::from_peer(segment.gref, at, piece),
                });
            }
        }
    }
    if pieces.is_empty() {
        return;
    }
    let mut copied = grants.transfer(pieces, &mut handle.count()).into_iter();
    for part in works.iter_mut().filter(|work| moves(work)).flat_map(|work| &mut work.parts) {
        if part.status == RSP_OKAY && !copied.by_ref().take(part.segments.len()).fold(true, |all, one| all & one) {
            part.status = RSP_ERROR;
        }
    }
}
