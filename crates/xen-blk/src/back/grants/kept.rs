//! Mappings of single pages that are kept, found by their grants.

use alloc::vec::Vec;
use xen_platform::GrantRef;

/// References up to this are kept: all of a grant table of 256 frames, of which Xen gives a domain 64 unless it is told
/// otherwise. The index below takes two bytes for each, up to the highest that the frontend uses.
const HIGHEST: u32 = 1 << 17;

/// No place.
const NONE: u16 = u16::MAX;

/// Mappings that are kept, each of one page. When there are too many, those go that were not used for longest.
pub(super) struct Kept<M> {
    most: usize,
    /// By reference, the place in `pages`.
    index: Vec<u16>,
    pages: Vec<Option<Page<M>>>,
    /// Places in `pages` that hold nothing.
    free: Vec<u16>,
    /// Counts uses.
    clock: u64,
}

struct Page<M> {
    gref: GrantRef,
    map: M,
    used: u64,
}

impl<M> Kept<M> {
    /// Keeps `most` pages, or as many as places can be told apart.
    pub fn new(most: usize) -> Self {
        let most = most.min(NONE.into());
        Kept { most, index: Vec::new(), pages: Vec::new(), free: Vec::new(), clock: 0 }
    }

    /// How many are kept.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether a page of that reference can be kept.
    pub fn has_place(&self, gref: GrantRef) -> bool {
        self.most > 0 && gref.0 < HIGHEST
    }

    /// The place of a page, which is used now. It is the same until `most / 2` other pages were added or looked for.
    pub fn find(&mut self, gref: GrantRef) -> Option<u16> {
        let place = *self.index.get(gref.0 as usize)?;
        let page = self.pages.get_mut(usize::from(place))?.as_mut()?;
        self.clock += 1;
        page.used = self.clock;
        Some(place)
    }

    /// The page at a place that was just found.
    pub fn at(&self, place: u16) -> &M {
        &self.pages[usize::from(place)].as_ref().expect("the place was just found").map
    }

    /// Keeps a page that [has a place](Kept::has_place) and is not kept yet; returns where.
    pub fn add(&mut self, gref: GrantRef, map: M) -> u16 {
        if self.pages.len() - self.free.len() >= self.most {
            self.evict();
        }
        self.clock += 1;
        let page = Some(Page { gref, map, used: self.clock });
        let place = match self.free.pop() {
            Some(place) => {
                self.pages[usize::from(place)] = page;
                place
            }
            None => {
                self.pages.push(page);
                (self.pages.len() - 1) as u16
            }
        };
        let at = gref.0 as usize;
        if at >= self.index.len() {
            self.index.resize(at + 1, NONE);
        }
        self.index[at] = place;
        place
    }

    /// Lets an eighth go, so that a frontend which uses more pages than are kept does not make each use a search.
    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.pages.iter().flatten().map(|page| page.used).collect();
        let (_, limit, _) = uses.select_nth_unstable(self.most / 8);
        let limit = *limit;
        for (place, page) in (0..).zip(&mut self.pages) {
            if let Some(old) = page.take_if(|page| page.used <= limit) {
                self.index[old.gref.0 as usize] = NONE;
                self.free.push(place);
            }
        }
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
                let place = kept.add(GrantRef(gref), gref);
                assert_eq!((kept.find(GrantRef(gref)), *kept.at(place)), (Some(place), gref));
                if let Some(first) = kept.find(GrantRef(0)) {
                    assert_eq!(*kept.at(first), 0);
                }
                assert!(kept.pages.iter().flatten().count() <= most);
                assert!(most < 3 || kept.find(GrantRef(0)).is_some(), "used all the time, of {most}");
            }
        }
    }

    #[test]
    fn a_reference_that_is_too_high_has_no_place() {
        let kept = Kept::<()>::new(8);
        assert!(kept.has_place(GrantRef(HIGHEST - 1)) && !kept.has_place(GrantRef(HIGHEST)));
        assert!(!Kept::<()>::new(0).has_place(GrantRef(8)));
        assert_eq!(Kept::<()>::new(8).find(GrantRef(u32::MAX)), None);
    }
}
