//! Reaching the frontend's pages: copied, mapped for a moment, or mapped and kept.

use super::Stats;
use super::config::Reach;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use xen_platform::{Access, Bytes, DomId, GrantRef, PAGE_SIZE, Piece, Platform, SharedMem};

/// The most pages that are mapped at a time for a moment.
const BATCH: usize = 512;

/// The way to one frontend's pages, for one ring.
pub(super) struct Grants<P: Platform> {
    platform: P,
    peer: DomId,
    reach: Reach,
    kept: Kept<P::Map>,
}

impl<P: Platform> Grants<P> {
    /// With `persistent` above zero, the frontend uses pages again and again, and that many at most are kept mapped.
    pub fn new(platform: &P, peer: DomId, reach: Reach, persistent: usize) -> Self {
        Grants { platform: platform.clone(), peer, reach, kept: Kept::new(persistent) }
    }

    /// Copies all pieces; says of each, in their order, whether that could be done.
    pub fn transfer(&mut self, pieces: Vec<Piece<'_>>, stats: &mut Stats) -> Vec<bool> {
        let mut done = alloc::vec![false; pieces.len()];
        let (mut numbers, mut rest) = (Vec::with_capacity(pieces.len()), Vec::with_capacity(pieces.len()));
        for (number, mut piece) in pieces.into_iter().enumerate() {
            if self.kept.most > 0 && self.through_kept(&mut piece) {
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

    /// Copies through a mapping that is kept, if there is one or can be. The grant must permit writing, whatever the
    /// request; one that does not goes the other way.
    fn through_kept(&mut self, piece: &mut Piece<'_>) -> bool {
        let gref = piece.gref();
        if !self.kept.contains(gref) {
            match self.platform.map(self.peer, &[gref], Access::ReadWrite) {
                Ok(map) => self.kept.add(gref, map),
                Err(_) => return false,
            }
        }
        through(self.kept.get(gref), 0, piece);
        true
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

/// Mappings that are kept, each of one page. When there are too many, those go that were not used for longest.
struct Kept<M> {
    most: usize,
    maps: BTreeMap<GrantRef, (M, u64)>,
    /// Counts uses.
    clock: u64,
}

impl<M> Kept<M> {
    fn new(most: usize) -> Self {
        Kept { most, maps: BTreeMap::new(), clock: 0 }
    }

    fn contains(&self, gref: GrantRef) -> bool {
        self.maps.contains_key(&gref)
    }

    fn get(&mut self, gref: GrantRef) -> &M {
        self.clock += 1;
        let (map, used) = self.maps.get_mut(&gref).expect("the caller has looked");
        *used = self.clock;
        map
    }

    fn add(&mut self, gref: GrantRef, map: M) {
        if self.maps.len() >= self.most {
            self.evict();
        }
        self.maps.insert(gref, (map, self.clock));
    }

    /// Lets an eighth go, so that a frontend which uses more pages than are kept does not make each use a search.
    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.maps.values().map(|(_, used)| *used).collect();
        let (_, limit, _) = uses.select_nth_unstable(self.most / 8);
        let limit = *limit;
        self.maps.retain(|_, (_, used)| *used > limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_not_used_for_longest_go_first_and_there_are_never_too_many() {
        for most in [1, 2, 7, 8, 64] {
            let mut kept = Kept::new(most);
            for gref in 0..200 {
                kept.add(GrantRef(gref), ());
                kept.get(GrantRef(gref));
                if kept.contains(GrantRef(0)) {
                    kept.get(GrantRef(0));
                }
                assert!(kept.maps.len() <= most);
                assert!(kept.contains(GrantRef(gref)));
                assert!(most < 3 || kept.contains(GrantRef(0)), "used all the time, of {most}");
            }
        }
    }
}
