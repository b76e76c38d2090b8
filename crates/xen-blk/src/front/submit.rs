//! Putting a request on a ring.

use super::device::{Device, State};
use super::slab::{NONE, Stage, Work};
use super::transfer::{Data, Part};
use super::{Error, Op, split};
use crate::wire::RawRequest;
use core::task::Context;
use xen_abi::blkif::{MAX_SEGMENTS_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE};
use xen_platform::{Granted, PAGE_SIZE, Platform};

/// Bytes of one entry in a list of segments.
const ENTRY: usize = PAGE_SIZE / SEGMENTS_PER_INDIRECT_PAGE;
/// Entries that are written to the list at a time.
const BATCH: usize = 32;

/// Sends as much of `part` as fits one request, and takes it off the part; gives the request's slot. `None` if it has to
/// wait: the task is woken when it should try again. What is left over then has its turn after all who wait by now, or
/// at once if it keeps its turn.
pub(crate) fn submit<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    part: &mut Part,
    data: &Data<'_, P>,
    keeps_turn: bool,
    cx: &Context<'_>,
) -> Result<Option<u16>, Error<P::Error>> {
    let ticket = match part.ticket {
        Some(ticket) => ticket,
        None => *part.ticket.insert(state.waiting.new_ticket()),
    };
    let index = match choose_queue(state, part.op, ticket) {
        Some(queue) => fill(device, state, part, data, queue, ticket)?,
        None => None,
    };
    let Some(index) = index else {
        return wait(device, state, part, ticket, cx).map(|()| None);
    };
    state.slab.get(index).waker = Some(cx.waker().clone());
    if part.sectors == 0 || !keeps_turn {
        state.waiting.leave(ticket);
        part.ticket = None;
    }
    state.wake_driver();
    state.wake_first();
    Ok(Some(index))
}

/// Waits for its turn, unless it has done so for too long.
fn wait<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    part: &Part,
    ticket: u64,
    cx: &Context<'_>,
) -> Result<(), Error<P::Error>> {
    state.stats.waits += 1;
    let epoch = state.epoch;
    // The driver looks after the time.
    state.wake_driver();
    if state.waiting.wait(ticket, cx.waker(), epoch) {
        let since = epoch.wrapping_sub(super::device::STEPS + 1);
        let stuck = state.stuck(part.op, part.sector, part.sectors, None, since, device.step());
        return Err(Error::TimedOut(stuck));
    }
    Ok(())
}

/// The ring to send on: the next one in turn that has room, if it is this ticket's turn.
fn choose_queue<P: Platform>(state: &mut State<P>, op: Op, ticket: u64) -> Option<u32> {
    let count = state.queues.len() as u32;
    // What is on one ring is not passed by a later barrier; what is on another may be.
    let alone = op == Op::Barrier && count > 1;
    if !state.waiting.is_turn(ticket) || state.exclusive || alone && state.stats.in_flight > 0 {
        return None;
    }
    let has_room = |number: &u32| state.queues[*number as usize].ring.free() > 0;
    let number = (0..count).map(|step| (state.next_queue + step) % count).find(has_room)?;
    state.next_queue = number + 1;
    Some(number)
}

/// Makes a request and puts it on the ring. `None` if there are not pages enough now.
fn fill<P: Platform>(
    device: &Device<P>,
    state: &mut State<P>,
    part: &mut Part,
    data: &Data<'_, P>,
    queue: u32,
    ticket: u64,
) -> Result<Option<u16>, Error<P::Error>> {
    let Some(index) = state.slab.take() else { return Ok(None) };
    let mut pages = core::mem::take(&mut state.slab.get(index).pages);
    let taken = loop {
        let shape = Shape::new(state, part, data);
        let most = state.pool.most();
        match state.pool.take(&device.platform, shape.pages, &mut pages) {
            Ok(true) => break Ok(Some(shape)),
            // There can be fewer pages than was thought.
            Ok(false) if state.pool.most() < most => {}
            Ok(false) => break Ok(None),
            Err(error) => break Err(Error::Platform(error)),
        }
    };
    state.slab.get(index).pages = pages;
    let shape = match taken {
        Ok(Some(shape)) => shape,
        other => {
            state.slab.give(index);
            return other.map(|_| None);
        }
    };
    state.stats.bounce_pages = state.pool.pages() as u32;
    let Part { op, sector, sectors, at, .. } = *part;
    let sectors = if shape.len > 0 { shape.len as u64 / 512 } else { sectors };
    let slot = state.slab.get(index);
    slot.work = Work { op, sector, sectors, at, ticket };
    (slot.stage, slot.queue, slot.epoch, slot.next) = (Stage::Flying, queue, state.epoch, NONE);
    slot.indirect = shape.lists > 0;
    if let Data::Shared(grant, start) = data {
        slot.shared = Some((grant.clone(), start + at));
    }
    copy_in(state, index, data, at, shape.len);
    put(device, state, index, queue, &shape);
    (part.sector, part.sectors, part.at) = (sector + sectors, part.sectors - sectors, at + shape.len);
    Ok(Some(index))
}

/// What one request will have.
struct Shape {
    /// Bytes that it moves.
    len: usize,
    /// Where they begin in their first page.
    within: usize,
    segments: usize,
    /// Pages with the list of segments.
    lists: usize,
    /// Pages from the pool.
    pages: usize,
}

impl Shape {
    fn new<P: Platform>(state: &State<P>, part: &Part, data: &Data<'_, P>) -> Shape {
        let limits = &state.limits;
        let direct = MAX_SEGMENTS_PER_REQUEST as u32;
        let (within, bounced, most) = match data {
            Data::None => return Shape { len: 0, within: 0, segments: 0, lists: 0, pages: 0 },
            Data::Shared(_, start) => ((start + part.at) % PAGE_SIZE, false, limits.segments),
            _ => (0, true, limits.bounced_segments(state.pool.most())),
        };
        let most = if part.op == Op::Barrier { most.min(direct) } else { most };
        let rest = usize::try_from(part.sectors).map_or(usize::MAX, |sectors| sectors * 512);
        let len = split::piece(rest, within, most, limits.sector_size);
        let segments = split::segments(len, within);
        let lists = split::lists(segments);
        Shape { len, within, segments, lists, pages: lists + if bounced { segments } else { 0 } }
    }
}

/// Copies what is to be written into the request's pages. Nothing else is in them.
fn copy_in<P: Platform>(state: &mut State<P>, index: u16, data: &Data<'_, P>, at: usize, len: usize) {
    let Data::Out(from) = data else { return };
    for (&page, from) in state.slab.get(index).pages.iter().zip(from[at..at + len].chunks(PAGE_SIZE)) {
        state.pool.write(page, 0, from);
        state.pool.clear_from(page, from.len());
    }
}

/// Encodes the request and puts it on its ring.
fn put<P: Platform>(device: &Device<P>, state: &mut State<P>, index: u16, queue: u32, shape: &Shape) {
    let id = state.slab.id(index);
    let State { slab, pool, limits, info, queues, stats, .. } = state;
    let slot = slab.get(index);
    let Work { op, sector, sectors, .. } = slot.work;
    let number = sector / limits.number_unit;
    let gref = |number: usize| match &slot.shared {
        Some((grant, start)) => grant.refs()[start / PAGE_SIZE + number],
        None => pool.gref(slot.pages[number]),
    };
    let segment = |number: usize| split::segment(number, gref(number), shape.len, shape.within, limits);
    let raw = match op {
        Op::Discard | Op::SecureDiscard => {
            RawRequest::discard(info.abi, id, number, sectors / limits.number_unit, op == Op::SecureDiscard)
        }
        _ if shape.lists > 0 => {
            let lists = &slot.pages[slot.pages.len() - shape.lists..];
            for first in (0..shape.segments).step_by(BATCH) {
                let many = BATCH.min(shape.segments - first);
                let mut entries = [0; BATCH * ENTRY];
                for (number, entry) in entries.chunks_exact_mut(ENTRY).take(many).enumerate() {
                    entry.copy_from_slice(&segment(first + number).bytes());
                }
                let (list, at) = (first / SEGMENTS_PER_INDIRECT_PAGE, first % SEGMENTS_PER_INDIRECT_PAGE * ENTRY);
                pool.write(lists[list], at, &entries[..many * ENTRY]);
            }
            let pages = lists.iter().map(|&page| pool.gref(page));
            RawRequest::indirect(info.abi, id, op.code(), number, shape.segments as u16, pages)
        }
        _ => RawRequest::direct(info.abi, id, op.code(), number, (0..shape.segments).map(segment)),
    };
    let queue = &mut queues[queue as usize];
    queue.ring.put(&queue.mem, raw.bytes());
    queue.unpushed = true;
    stats.requests += 1;
    stats.in_flight += 1;
    stats.max_in_flight = stats.max_in_flight.max(stats.in_flight);
    state.exclusive |= op == Op::Barrier && (queues.len() > 1 || !device.wishes.bare_barriers);
}
