//! Putting a request on a ring.

use super::in_flight::{NONE, Stage, TICKS};
use super::request::{Data, Request};
use super::split;
use crate::front::device::{Device, State};
use crate::front::error::{Error, Op};
use crate::protocol::wire::EncodedRequest;
use core::task::Context;
use xen_abi::blkif::{MAX_SEGMENTS_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{Granted, PAGE_SIZE, Platform};

/// Bytes of one entry in a list of segments.
const ENTRY: usize = PAGE_SIZE / SEGMENTS_PER_INDIRECT_PAGE;
/// Number of entries that are written to the list at a time.
const BATCH: usize = 32;

/// Sends as much of `rest` as one request can move, takes that off `rest`, and returns the slot of
/// the request. Returns `None` if it has to wait: then the task is woken to try again.
///
/// The rest has its turn after all that wait by now, or at once if `keeps_turn`.
pub(crate) fn submit<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    rest: &mut Request,
    data: &Data<'_, P>,
    keeps_turn: bool,
    cx: &Context<'_>,
) -> Result<Option<u16>, Error<P::Error>> {
    let admission = &mut state.in_flight.admission;
    let ticket = *rest.ticket.get_or_insert_with(|| admission.new_ticket());
    let queue = match admission.is_turn(ticket) {
        true => state.queues.choose(rest.op, state.stats.in_flight),
        false => None,
    };
    let index = match queue {
        Some(queue) => send(device, state, rest, data, queue)?,
        None => None,
    };
    let Some(index) = index else {
        return wait(device, state, rest, ticket, cx).map(|()| None);
    };
    state.in_flight.get(index).waker = Some(cx.waker().clone());
    if rest.sectors == 0 || !keeps_turn {
        state.in_flight.admission.leave(ticket);
        rest.ticket = None;
    }
    state.wakers.wake_driver();
    state.wake_first();
    Ok(Some(index))
}

/// Waits for the request's turn, unless it has waited for longer than the timeout.
fn wait<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    rest: &Request,
    ticket: u64,
    cx: &Context<'_>,
) -> Result<(), Error<P::Error>> {
    state.stats.waits += 1;
    let tick = state.in_flight.tick;
    // The driver looks after the time.
    state.wakers.wake_driver();
    if state.in_flight.admission.wait(ticket, cx.waker(), tick) {
        let since = tick.wrapping_sub(TICKS + 1);
        let place = (rest.op, rest.sector, rest.sectors);
        return Err(Error::TimedOut(state.stuck(place, None, since, device.tick())));
    }
    Ok(())
}

/// Makes a request of the first part of `rest` and puts it on the ring. Returns `None` if there are
/// too few free slots or pages now.
fn send<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    rest: &mut Request,
    data: &Data<'_, P>,
    queue: u32,
) -> Result<Option<u16>, Error<P::Error>> {
    if let Data::Shared(pages, _) = data {
        pages.renew(&device.platform, state.info.backend).map_err(Error::Platform)?;
    }
    let Some(index) = state.in_flight.take() else { return Ok(None) };
    let shape = match take_pages(device, state, rest, data, index) {
        Ok(Some(shape)) => shape,
        other => {
            state.in_flight.release(index);
            return other.map(|_| None);
        }
    };
    state.stats.bounce_pages = state.in_flight.pool.pages() as u32;
    let at = rest.at;
    let sectors = if shape.len > 0 { shape.len as u64 / 512 } else { rest.sectors };
    let tick = state.in_flight.tick;
    let slot = state.in_flight.get(index);
    slot.request = Request { sectors, ..*rest };
    (slot.stage, slot.queue, slot.sent, slot.next) = (Stage::InFlight, queue, tick, NONE);
    slot.indirect = shape.lists > 0;
    if let Data::Shared(pages, start) = data {
        slot.shared = Some((pages.grant(), start + at));
    }
    copy_in(state, index, data, at, shape.len);
    put(device, state, index, queue, &shape);
    (rest.sector, rest.sectors, rest.at) =
        (rest.sector + sectors, rest.sectors - sectors, at + shape.len);
    Ok(Some(index))
}

/// Takes the pages that the next request needs from the pool.
fn take_pages<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    rest: &Request,
    data: &Data<'_, P>,
    index: u16,
) -> Result<Option<Shape>, Error<P::Error>> {
    loop {
        let shape = Shape::new(state, rest, data);
        let (slot, pool) = state.in_flight.slot_and_pool(index);
        let max = pool.max_pages();
        match pool.take(&device.platform, shape.pages, &mut slot.pages) {
            Ok(true) => return Ok(Some(shape)),
            // The pool can grow less than was thought: a smaller request, then.
            Ok(false) if pool.max_pages() < max => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(Error::Platform(error)),
        }
    }
}

/// Size of one request in bytes, segments and pages.
struct Shape {
    /// Bytes that it moves.
    len: usize,
    /// Offset of the first byte in its page.
    within: usize,
    /// Number of segments.
    segments: usize,
    /// Number of pages with the list of segments.
    lists: usize,
    /// Number of pages from the pool.
    pages: usize,
}

impl Shape {
    fn new<P: Platform>(state: &State<P>, rest: &Request, data: &Data<'_, P>) -> Shape {
        let limits = &state.limits;
        let direct = MAX_SEGMENTS_PER_REQUEST as u32;
        let (within, bounced, max) = match data {
            Data::None => return Shape { len: 0, within: 0, segments: 0, lists: 0, pages: 0 },
            Data::Shared(_, start) => ((start + rest.at) % PAGE_SIZE, false, limits.segments),
            _ => (0, true, limits.bounced_segments(state.in_flight.pool.max_pages())),
        };
        let max = if rest.op == Op::Barrier { max.min(direct) } else { max };
        let bytes = usize::try_from(rest.sectors).map_or(usize::MAX, |sectors| sectors * 512);
        let len = split::piece(bytes, within, max, limits.sector_size);
        let segments = split::segments(len, within);
        let lists = split::lists(segments);
        Shape { len, within, segments, lists, pages: lists + if bounced { segments } else { 0 } }
    }
}

/// Copies data to be written into the request's pages, and clears the rest of the last one.
fn copy_in<P: Platform>(
    state: &mut State<P>,
    index: u16,
    data: &Data<'_, P>,
    at: usize,
    len: usize,
) {
    let Data::Out(from) = data else { return };
    let (slot, pool) = state.in_flight.slot_and_pool(index);
    for (&page, from) in slot.pages.iter().zip(from[at..at + len].chunks(PAGE_SIZE)) {
        pool.write(page, 0, from);
        pool.clear_from(page, from.len());
    }
}

/// Encodes the request and puts it on its ring.
fn put<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    index: u16,
    queue: u32,
    shape: &Shape,
) {
    let id = state.in_flight.new_id(index);
    let encoded = encode(state, index, id, shape);
    let op = state.in_flight.get(index).request.op;
    let State { queues, stats, .. } = state;
    queues.get(queue).put(&encoded);
    stats.requests += 1;
    stats.in_flight += 1;
    stats.max_in_flight = stats.max_in_flight.max(stats.in_flight);
    queues.exclusive |= op == Op::Barrier && (queues.len() > 1 || !device.config.bare_barriers);
}

fn encode<P: Platform>(state: &mut State<P>, index: u16, id: u64, shape: &Shape) -> EncodedRequest {
    let State { in_flight, limits, info, .. } = state;
    let (slot, pool) = in_flight.slot_and_pool(index);
    let Request { op, sector, sectors, .. } = slot.request;
    let number = sector / limits.number_unit;
    let gref = |number: usize| match &slot.shared {
        Some((grant, start)) => grant.refs()[start / PAGE_SIZE + number],
        None => pool.gref(slot.pages[number]),
    };
    let segment =
        |number: usize| split::segment(number, gref(number), shape.len, shape.within, limits);
    if matches!(op, Op::Discard | Op::SecureDiscard) {
        let (count, secure) = (sectors / limits.number_unit, op == Op::SecureDiscard);
        return EncodedRequest::discard(info.abi, id, number, count, secure);
    }
    if shape.lists == 0 {
        let segments = (0..shape.segments).map(segment);
        return EncodedRequest::direct(info.abi, id, op.code(), number, segments);
    }
    let lists = &slot.pages[slot.pages.len() - shape.lists..];
    for first in (0..shape.segments).step_by(BATCH) {
        let count = BATCH.min(shape.segments - first);
        let mut entries = [0; BATCH * ENTRY];
        for (number, entry) in entries.chunks_exact_mut(ENTRY).take(count).enumerate() {
            entry.copy_from_slice(&segment(first + number).bytes());
        }
        let list = lists[first / SEGMENTS_PER_INDIRECT_PAGE];
        let at = first % SEGMENTS_PER_INDIRECT_PAGE * ENTRY;
        pool.write(list, at, &entries[..count * ENTRY]);
    }
    let pages = lists.iter().map(|&page| pool.gref(page));
    EncodedRequest::indirect(info.abi, id, op.code(), number, shape.segments as u16, pages)
}
