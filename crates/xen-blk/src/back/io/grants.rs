//! Access to the frontend's pages: copied by Xen, mapped for a batch, or mapped as persistent
//! grants.

mod persistent;

use self::persistent::PersistentGrants;
use crate::back::config::DataPath;
use crate::back::stats::Stats;
use crate::back::storage::{Area, Pages};
use crate::protocol::wire::Segment;
use alloc::vec::Vec;
use xen_abi::blkif::SECTOR;
use xen_platform::{
    Access, CopyBuffer, CopySegment, DomId, GrantRef, PAGE_SIZE, Platform, SharedMem,
};

/// Largest number of pages that are mapped for a batch.
const BATCH: usize = 512;

/// Access to one frontend's pages, for one ring.
pub(in crate::back) struct Grants<P: Platform> {
    platform: P,
    peer: DomId,
    data_path: DataPath,
    persistent: PersistentGrants<P::Map>,
    /// Scratch space of [`Grants::window`].
    spans: Vec<Span>,
}

impl<P: Platform> Grants<P> {
    /// Creates the access to the pages of `peer`. If the frontend uses persistent grants, at most
    /// `persistent` of them stay mapped.
    pub fn new(platform: &P, peer: DomId, data_path: DataPath, persistent: usize) -> Self {
        Grants {
            platform: platform.clone(),
            peer,
            data_path,
            persistent: PersistentGrants::new(persistent),
            spans: Vec::new(),
        }
    }

    /// Copies all pieces, and returns for each, in their order, if it was copied.
    pub fn transfer(&mut self, pieces: Vec<CopySegment<'_>>, stats: &mut Stats) -> Vec<bool> {
        let mut done = alloc::vec![false; pieces.len()];
        let (mut numbers, mut rest) =
            (Vec::with_capacity(pieces.len()), Vec::with_capacity(pieces.len()));
        for (number, mut piece) in pieces.into_iter().enumerate() {
            if self.through_persistent(&mut piece) {
                done[number] = true;
            } else {
                numbers.push(number);
                rest.push(piece);
            }
        }
        stats.pages_persistent += (done.len() - rest.len()) as u64;
        stats.pages_moved += rest.len() as u64;
        if self.data_path == DataPath::Copy {
            self.copy(&mut rest);
        }
        if self.data_path == DataPath::Map {
            rest.chunks_mut(BATCH).for_each(|batch| self.through_map(batch));
        }
        numbers.iter().zip(&rest).for_each(|(&number, piece)| done[number] = piece.is_copied());
        done
    }

    /// Has Xen copy. If the platform cannot, pages are mapped from now on.
    fn copy(&mut self, pieces: &mut [CopySegment<'_>]) {
        if pieces.is_empty() {
            return;
        }
        if let Err(why) = self.platform.copy(self.peer, pieces) {
            log::warn!("pages of domain {} are mapped from now on: {why}", self.peer);
            self.data_path = DataPath::Map;
        }
    }

    /// Maps a batch at once; if that fails, each page alone, so that a bad grant fails only its own
    /// request.
    fn through_map(&mut self, pieces: &mut [CopySegment<'_>]) {
        let writes = pieces.iter_mut().any(|piece| matches!(piece.buffer(), CopyBuffer::ToPeer(_)));
        let access = if writes { Access::ReadWrite } else { Access::ReadOnly };
        let refs: Vec<GrantRef> = pieces.iter().map(|piece| piece.gref()).collect();
        match self.platform.map(self.peer, &refs, access) {
            Ok(map) => {
                pieces.iter_mut().enumerate().for_each(|(page, piece)| through(&map, page, piece))
            }
            Err(_) if pieces.len() > 1 => {
                pieces.chunks_mut(1).for_each(|one| self.through_map(one))
            }
            Err(why) => log::debug!("{why}"),
        }
    }

    /// Copies through a persistent mapping, if there is one or can be.
    fn through_persistent(&mut self, piece: &mut CopySegment<'_>) -> bool {
        let place = self.keep(piece.gref());
        place.inspect(|&place| through(self.persistent.at(place), 0, piece)).is_some()
    }

    /// Returns the place of a persistent grant, which is mapped now if it was not. The grant must
    /// permit writing, whatever the request; others are copied or mapped for the batch.
    fn keep(&mut self, gref: GrantRef) -> Option<u16> {
        if let Some(place) = self.persistent.find(gref) {
            return Some(place);
        }
        if !self.persistent.has_place(gref) {
            return None;
        }
        let map = self.platform.map(self.peer, &[gref], Access::ReadWrite).ok()?;
        Some(self.persistent.add(gref, map))
    }

    /// Returns the pages of a run of segments, if all of them are mapped persistently.
    pub fn window<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a Segment>,
    ) -> Option<Window<'_, P::Map>> {
        if self.persistent.max() == 0 {
            return None;
        }
        self.spans.clear();
        for segment in segments {
            // More could not all be mapped at the same time.
            if self.spans.len() >= self.persistent.max() / 2 {
                return None;
            }
            let (at, len) =
                (usize::from(segment.first) * SECTOR, segment.sectors() as usize * SECTOR);
            let place = self.keep(segment.gref)?;
            self.spans.push(Span { place, at: at as u16, len: len as u16 });
        }
        Some(Window { persistent: &self.persistent, spans: &self.spans, done: 0 })
    }
}

/// A part of a page that is mapped persistently.
struct Span {
    place: u16,
    at: u16,
    len: u16,
}

/// The frontend's pages of one or more requests, all of them mapped, to be copied from or to in one
/// go.
pub(in crate::back) struct Window<'a, M> {
    persistent: &'a PersistentGrants<M>,
    spans: &'a [Span],
    /// Number of bytes of the first span that are done.
    done: usize,
}

impl<M: SharedMem> Window<'_, M> {
    /// Calls `copy` with the pages of the next `len` bytes, and where these bytes are in the page
    /// and in the run.
    fn next(&mut self, len: usize, mut copy: impl FnMut(&M, usize, core::ops::Range<usize>)) {
        let mut at = 0;
        while at < len {
            let (span, rest) =
                self.spans.split_first().expect("no more bytes than the requests have");
            let step = (usize::from(span.len) - self.done).min(len - at);
            copy(self.persistent.at(span.place), usize::from(span.at) + self.done, at..at + step);
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
            let start =
                self.persistent.at(span.place).address()?.map_addr(|page| page.saturating_add(at));
            Some(Area { start, len: usize::from(span.len) - skip })
        };
        self.spans.iter().map(area).collect()
    }
}

/// Copies between a mapped page and a piece.
fn through(map: &impl SharedMem, page: usize, piece: &mut CopySegment<'_>) {
    let at = page * PAGE_SIZE + piece.at();
    match piece.buffer() {
        CopyBuffer::FromPeer(to) => map.read(at, to),
        CopyBuffer::ToPeer(from) => map.write(at, from),
    }
    piece.set_status(0);
}
