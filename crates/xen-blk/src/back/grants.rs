//! Reaching the frontend's pages: copied, mapped for a moment, or mapped and kept.

mod kept;

use self::kept::Kept;
use super::Stats;
use super::config::Reach;
use super::storage::{Area, Pages};
use crate::wire::Segment;
use alloc::vec::Vec;
use xen_abi::blkif::SECTOR;
use xen_platform::{Access, Bytes, DomId, GrantRef, PAGE_SIZE, Piece, Platform, SharedMem};

/// The most pages that are mapped at a time for a moment.
const BATCH: usize = 512;

/// The way to one frontend's pages, for one ring.
pub(super) struct Grants<P: Platform> {
    platform: P,
    peer: DomId,
    reach: Reach,
    kept: Kept<P::Map>,
    /// What [`Grants::window`] works on.
    spans: Vec<Span>,
}

impl<P: Platform> Grants<P> {
    /// With `persistent` above zero, the frontend uses pages again and again, and that many at most are kept mapped.
    pub fn new(platform: &P, peer: DomId, reach: Reach, persistent: usize) -> Self {
        Grants { platform: platform.clone(), peer, reach, kept: Kept::new(persistent), spans: Vec::new() }
    }

    /// Copies all pieces; says of each, in their order, whether that could be done.
    pub fn transfer(&mut self, pieces: Vec<Piece<'_>>, stats: &mut Stats) -> Vec<bool> {
        let mut done = alloc::vec![false; pieces.len()];
        let (mut numbers, mut rest) = (Vec::with_capacity(pieces.len()), Vec::with_capacity(pieces.len()));
        for (number, mut piece) in pieces.into_iter().enumerate() {
            if self.through_kept(&mut piece) {
                done[number] = true;
            } else {
                numbers.push(number);
                rest.push(piece);
            }
        }
        stats.pages_persistent += (done.len() - rest.len()) as u64;
        stats.pages_moved += rest.len() as u64;
        if self.reach == Reach::Copy {
            self.copy(&mut rest);
        }
        if self.reach == Reach::Map {
            rest.chunks_mut(BATCH).for_each(|batch| self.through_map(batch));
        }
        numbers.iter().zip(&rest).for_each(|(&number, piece)| done[number] = piece.is_copied());
        done
    }

    /// Leaves it to mapping from now on if the platform cannot copy.
    fn copy(&mut self, pieces: &mut [Piece<'_>]) {
        if pieces.is_empty() {
            return;
        }
        if let Err(why) = self.platform.copy(self.peer, pieces) {
            log::warn!("pages of domain {} are mapped from now on: {why}", self.peer);
            self.reach = Reach::Map;
        }
    }

    /// Maps a batch at once; if that fails, each page alone, so that one bad grant spoils no other request.
    fn through_map(&mut self, pieces: &mut [Piece<'_>]) {
        let writes = pieces.iter_mut().any(|piece| matches!(piece.bytes(), Bytes::ToPeer(_)));
        let access = if writes { Access::ReadWrite } else { Access::ReadOnly };
        let refs: Vec<GrantRef> = pieces.iter().map(|piece| piece.gref()).collect();
        match self.platform.map(self.peer, &refs, access) {
            Ok(map) => pieces.iter_mut().enumerate().for_each(|(page, piece)| through(&map, page, piece)),
            Err(_) if pieces.len() > 1 => pieces.chunks_mut(1).for_each(|one| self.through_map(one)),
            Err(why) => log::debug!("{why}"),
        }
    }

    /// Copies through a mapping that is kept, if there is one or can be.
    fn through_kept(&mut self, piece: &mut Piece<'_>) -> bool {
        let place = self.keep(piece.gref());
        place.inspect(|&place| through(self.kept.at(place), 0, piece)).is_some()
    }

    /// The place of a page that is kept, or is from now on. The grant must permit writing, whatever the request; one
    /// that does not goes the other way.
    fn keep(&mut self, gref: GrantRef) -> Option<u16> {
        if let Some(place) = self.kept.find(gref) {
            return Some(place);
        }
        if !self.kept.has_place(gref) {
            return None;
        }
        let map = self.platform.map(self.peer, &[gref], Access::ReadWrite).ok()?;
        Some(self.kept.add(gref, map))
    }

    /// The pages of a run of segments, if all of them are kept.
    pub fn window<'a>(&mut self, segments: impl Iterator<Item = &'a Segment>) -> Option<Window<'_, P::Map>> {
        if self.kept.most() == 0 {
            return None;
        }
        self.spans.clear();
        for segment in segments {
            // More could not all be kept at the same time.
            if self.spans.len() >= self.kept.most() / 2 {
                return None;
            }
            let (at, len) = (usize::from(segment.first) * SECTOR, segment.sectors() as usize * SECTOR);
            let place = self.keep(segment.gref)?;
            self.spans.push(Span { place, at: at as u16, len: len as u16 });
        }
        Some(Window { kept: &self.kept, spans: &self.spans, done: 0 })
    }
}

/// A part of a page that is kept.
struct Span {
    place: u16,
    at: u16,
    len: u16,
}

/// The frontend's pages of one or more requests, all of them kept, to be copied from or to in one go.
pub(super) struct Window<'a, M> {
    kept: &'a Kept<M>,
    spans: &'a [Span],
    /// Bytes of the first of them that are done.
    done: usize,
}

impl<M: SharedMem> Window<'_, M> {
    /// Calls `copy` with the pages of the next `len` bytes, and where these bytes are in the page and in the run.
    fn next(&mut self, len: usize, mut copy: impl FnMut(&M, usize, core::ops::Range<usize>)) {
        let mut at = 0;
        while at < len {
            let (span, rest) = self.spans.split_first().expect("no more bytes than the requests have");
            let step = (usize::from(span.len) - self.done).min(len - at);
            copy(self.kept.at(span.place), usize::from(span.at) + self.done, at..at + step);
            (at, self.done) = (at + step, self.done + step);
            if self.done == usize::from(span.len) {
                (self.spans, self.done) = (rest, 0);
            }
        }
    }
}

impl<M: SharedMem> Pages for Window<'_, M> {
    fn left(&self) -> usize {
        self.spans.iter().map(|span| usize::from(span.len)).sum::<usize>() - self.done
    }

    fn take(&mut self, to: &mut [u8]) {
        self.next(to.len(), |map, at, range| map.read(at, &mut to[range]))
    }

    fn put(&mut self, from: &[u8]) {
        self.next(from.len(), |map, at, range| map.write(at, &from[range]))
    }

    fn areas(&self) -> Option<Vec<Area>> {
        let mut done = self.done;
        let area = |span: &Span| {
            let skip = core::mem::take(&mut done);
            let at = usize::from(span.at) + skip;
            let start = self.kept.at(span.place).address()?.map_addr(|page| page.saturating_add(at));
            Some(Area { start, len: usize::from(span.len) - skip })
        };
        self.spans.iter().map(area).collect()
    }
}

/// Copies between a mapped page and a piece.
fn through(map: &impl SharedMem, page: usize, piece: &mut Piece<'_>) {
    let at = page * PAGE_SIZE + piece.at();
    match piece.bytes() {
        Bytes::FromPeer(to) => map.read(at, to),
        Bytes::ToPeer(from) => map.write(at, from),
    }
    piece.set_status(0);
}
