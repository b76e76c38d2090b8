//! Free ranges of anything that is counted: page frames, grant references.

use alloc::vec::Vec;
use core::ops::Range;

/// Numbers that are free, as ranges: sorted, and never adjacent to each other.
#[derive(Default, Debug)]
pub struct FreeList(Vec<Range<u64>>);

impl FreeList {
    /// Nothing free.
    pub const fn new() -> Self {
        FreeList(Vec::new())
    }

    /// Returns the count of free numbers.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// Takes `count` numbers in a row, the lowest there are. Returns the first.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let at = self.0.iter().position(|r| r.end - r.start >= count)?;
        let start = self.0[at].start;
        self.0[at].start += count;
        if self.0[at].is_empty() {
            self.0.remove(at);
        }
        Some(start)
    }

    /// Takes `count` numbers in a row, the highest there are. Returns the first.
    pub fn take_high(&mut self, count: u64) -> Option<u64> {
        let at = self.0.iter().rposition(|r| r.end - r.start >= count)?;
        self.0[at].end -= count;
        let start = self.0[at].end;
        if self.0[at].is_empty() {
            self.0.remove(at);
        }
        Some(start)
    }

    /// Takes all numbers in a row that begin with `start`, if that is free and the number below it
    /// is not. Returns how many they are.
    pub fn take_from(&mut self, start: u64) -> u64 {
        match self.0.iter().position(|r| r.start == start) {
            Some(at) => {
                let range = self.0.remove(at);
                range.end - range.start
            }
            None => 0,
        }
    }

    /// Gives `count` numbers from `start` on back. Giving back what is free is a bug, and panics.
    pub fn give(&mut self, start: u64, count: u64) {
        let end = start + count;
        let at = self.0.partition_point(|r| r.end < start);
        let Some(next) = self.0.get_mut(at).filter(|r| r.start <= end) else {
            return self.0.insert(at, start..end);
        };
        assert!(end == next.start || start == next.end, "{start} is given back twice");
        *next = next.start.min(start)..next.end.max(end);
        let end = next.end;
        if let Some(after) = self.0.get(at + 1).filter(|r| r.start <= end) {
            assert!(after.start == end, "{start} is given back twice");
            self.0[at].end = after.end;
            self.0.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn neighbours_join() {
        let mut free = FreeList::new();
        free.give(8, 2);
        free.give(12, 4);
        free.give(10, 2);
        assert_eq!(free.0.len(), 1);
        assert_eq!(free.0[0], 8..16);
        assert_eq!(free.take(8), Some(8));
        assert_eq!(free.take(1), None);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_a_bug() {
        let mut free = FreeList::new();
        free.give(8, 4);
        free.give(9, 1);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(
            sizes in prop::collection::vec(1u64..9, 1..60),
            seed in any::<u64>()
        ) {
            let mut free = FreeList::new();
            free.give(0, 64);
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (step, size) in sizes.into_iter().enumerate() {
                if held.len() > 3 && (seed >> (step % 64)) & 1 == 1 {
                    let (start, size) = held.swap_remove((seed as usize + step) % held.len());
                    free.give(start, size);
                } else if let Some(start) = free.take(size) {
                    held.push((start, size));
                }
                let used: BTreeSet<u64> = held.iter().flat_map(|&(s, n)| s..s + n).collect();
                prop_assert_eq!(used.len() as u64, held.iter().map(|h| h.1).sum::<u64>());
                prop_assert_eq!(free.total() + used.len() as u64, 64);
            }
        }
    }
}
