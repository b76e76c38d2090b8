//! Ranges of RAM, and the free ones among them: pure arithmetic on addresses.

use core::ops::Range;

/// Most ranges that a memory map may have here. Xen's have fewer than ten.
pub const MAX_RANGES: usize = 32;

/// Bytes in a page, as an address.
pub const PAGE: u64 = 4096;

/// Ranges of physical addresses: sorted, apart from each other, whole pages.
#[derive(Clone, Debug)]
pub struct Ranges {
    ranges: [Range<u64>; MAX_RANGES],
    len: usize,
}

impl Default for Ranges {
    fn default() -> Self {
        Ranges { ranges: [const { 0..0 }; MAX_RANGES], len: 0 }
    }
}

impl Ranges {
    /// The ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges[..self.len].iter().cloned()
    }

    /// The total number of bytes.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|r| r.end - r.start).sum()
    }

    /// The largest range, if there is any.
    pub fn largest(&self) -> Option<Range<u64>> {
        self.iter().max_by_key(|r| r.end - r.start)
    }

    /// Adds the whole pages inside `size` bytes from `start` on. Returns false, and leaves them
    /// out, if there is no room for one more range; a range that overlaps an earlier
    /// one is cut to what is new.
    pub fn add(&mut self, start: u64, size: u64) -> bool {
        let Some(first) = start.checked_next_multiple_of(PAGE) else { return true };
        let end = start.saturating_add(size) / PAGE * PAGE;
        let mut new = Ranges::default();
        if first < end {
            new.push(first..end);
        }
        for known in self.ranges[..self.len].iter() {
            new.remove(known.start, known.end);
        }
        let room = self.len + new.len <= MAX_RANGES;
        for range in new.iter().take(MAX_RANGES - self.len) {
            let place = self.ranges[..self.len].partition_point(|known| known.start < range.start);
            self.push(range);
            self.ranges[place..self.len].rotate_right(1);
        }
        room
    }

    /// Takes every page out that has a byte between `start` and `end`.
    pub fn remove(&mut self, start: u64, end: u64) {
        let hole = start / PAGE * PAGE..end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let before = core::mem::take(self);
        for range in before.iter() {
            self.push(range.start..range.end.min(hole.start));
            self.push(range.start.max(hole.end)..range.end);
        }
    }

    /// Takes the highest `bytes` (whole pages), or all if there are fewer, and returns them.
    pub fn cut_top(&mut self, bytes: u64) -> Ranges {
        let mut cut = Ranges::default();
        while let Some(last) = self.iter().last() {
            let missing = bytes - cut.bytes();
            let start = last.end - missing.min(last.end - last.start);
            if start == last.end {
                break;
            }
            cut.add(start, last.end - start);
            self.remove(start, last.end);
        }
        cut
    }

    /// Appends a range unless it is empty or there is no room left.
    fn push(&mut self, range: Range<u64>) {
        if range.start < range.end && self.len < MAX_RANGES {
            self.ranges[self.len] = range;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn ranges(of: &Ranges) -> Vec<Range<u64>> {
        of.iter().collect()
    }

    #[test]
    fn partial_pages_are_not_ram() {
        let mut ram = Ranges::default();
        assert!(ram.add(0x1001, 0x3000));
        assert_eq!(ram.largest(), Some(0x2000..0x4000));
        assert_eq!(ram.bytes(), 0x2000);
        assert!(ram.add(0x9000, 0xfff));
        assert_eq!(ram.bytes(), 0x2000);
    }

    #[test]
    fn a_hole_splits_a_range_and_rounds_outward() {
        let mut ram = Ranges::default();
        ram.add(0, 0x10000);
        ram.remove(0, 1);
        ram.remove(0x4800, 0x6001);
        assert_eq!(ranges(&ram), [0x1000..0x4000, 0x7000..0x10000]);
        assert_eq!(ram.largest(), Some(0x7000..0x10000));
    }

    #[test]
    fn the_top_is_cut_across_ranges() {
        let mut ram = Ranges::default();
        ram.add(0x1000, 0x4000);
        ram.add(0x9000, 0x2000);
        let before = ram.clone();
        assert_eq!(ranges(&ram.cut_top(0)), []);
        assert_eq!(ranges(&ram), ranges(&before));
        assert_eq!(ranges(&ram.cut_top(0x3000)), [0x4000..0x5000, 0x9000..0xb000]);
        assert!(ranges(&ram).into_iter().eq(std::iter::once(0x1000..0x4000)));
        assert_eq!(ram.cut_top(0x10000).bytes(), 0x3000);
        assert_eq!(ram.bytes(), 0);
    }

    #[test]
    fn an_entry_at_the_end_of_the_address_space_does_no_harm() {
        let mut ram = Ranges::default();
        assert!(ram.add(u64::MAX - 10, u64::MAX));
        assert!(ram.add(0x1000, u64::MAX));
        assert_eq!(ram.largest(), Some(0x1000..u64::MAX / PAGE * PAGE));
    }

    proptest! {
        /// Against a set of page numbers.
        #[test]
        fn ranges_are_the_set_of_pages(
            steps in prop::collection::vec((any::<bool>(), 0u64..0x20_0000, 0u64..0x8_0000), 0..12)
        ) {
            let mut ram = Ranges::default();
            let mut pages = BTreeSet::new();
            for (add, start, size) in steps {
                if add {
                    prop_assume!(ram.len + 12 < MAX_RANGES);
                    ram.add(start, size);
                    pages.extend(start.div_ceil(PAGE)..(start + size) / PAGE);
                } else {
                    ram.remove(start, start + size);
                    for page in start / PAGE..(start + size).div_ceil(PAGE) {
                        pages.remove(&page);
                    }
                }
            }
            let got: Vec<u64> = ram.iter().flat_map(|r| r.start / PAGE..r.end / PAGE).collect();
            prop_assert_eq!(got, pages.into_iter().collect::<Vec<_>>());
        }
    }
}
