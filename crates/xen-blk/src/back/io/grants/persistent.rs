//! Persistent grants: mappings of single pages, found by their grant references.

use alloc::vec::Vec;
use xen_platform::GrantRef;

/// First reference that is not mapped persistently: the end of a grant table of 256 frames, of
/// which Xen gives a domain 64 by default. The index below takes two bytes for each reference, up
/// to the highest that the frontend uses.
const HIGHEST: u32 = 1 << 17;

/// Marks a reference without a place.
const NONE: u16 = u16::MAX;

/// Mappings of persistent grants, each of one page. When there are too many, the least recently
/// used are unmapped.
pub(in crate::back) struct PersistentGrants<M> {
    max: usize,
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

impl<M> PersistentGrants<M> {
    /// Creates a set of at most `max` mappings, or as many as there are places.
    pub fn new(max: usize) -> Self {
        let max = max.min(NONE.into());
        PersistentGrants { max, index: Vec::new(), pages: Vec::new(), free: Vec::new(), clock: 0 }
    }

    /// Returns the largest number of mappings.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Tells if a grant can be mapped persistently.
    pub fn has_place(&self, gref: GrantRef) -> bool {
        self.max > 0 && gref.0 < HIGHEST
    }

    /// Returns the place of a mapping, and marks it as used. The place is valid until `max / 2`
    /// other mappings were added or looked for.
    pub fn find(&mut self, gref: GrantRef) -> Option<u16> {
        let place = *self.index.get(gref.0 as usize)?;
        let page = self.pages.get_mut(usize::from(place))?.as_mut()?;
        self.clock += 1;
        page.used = self.clock;
        Some(place)
    }

    /// Returns the mapping at a place that was just found.
    pub fn at(&self, place: u16) -> &M {
        &self.pages[usize::from(place)].as_ref().expect("the place was just found").map
    }

    /// Adds a mapping of a grant that [has a place](PersistentGrants::has_place) and is not mapped
    /// yet; returns its place.
    pub fn add(&mut self, gref: GrantRef, map: M) -> u16 {
        if self.pages.len() - self.free.len() >= self.max {
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

    /// Unmaps an eighth at once, so that a frontend with more pages than places does not make each
    /// use a search.
    fn evict(&mut self) {
        let mut uses: Vec<u64> = self.pages.iter().flatten().map(|page| page.used).collect();
        let (_, limit, _) = uses.select_nth_unstable(self.max / 8);
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
    fn least_recently_used_grants_are_unmapped() {
        for max in [1, 2, 7, 8, 64] {
            let mut grants = PersistentGrants::new(max);
            for gref in 0..200 {
                let place = grants.add(GrantRef(gref), gref);
                assert_eq!((grants.find(GrantRef(gref)), *grants.at(place)), (Some(place), gref));
                if let Some(first) = grants.find(GrantRef(0)) {
                    assert_eq!(*grants.at(first), 0);
                }
                assert!(grants.pages.iter().flatten().count() <= max);
                assert!(
                    max < 3 || grants.find(GrantRef(0)).is_some(),
                    "used all the time, of {max}"
                );
            }
        }
    }

    #[test]
    fn high_reference_has_no_place() {
        let grants = PersistentGrants::<()>::new(8);
        assert!(grants.has_place(GrantRef(HIGHEST - 1)) && !grants.has_place(GrantRef(HIGHEST)));
        assert!(!PersistentGrants::<()>::new(0).has_place(GrantRef(8)));
        assert_eq!(PersistentGrants::<()>::new(8).find(GrantRef(u32::MAX)), None);
    }
}
