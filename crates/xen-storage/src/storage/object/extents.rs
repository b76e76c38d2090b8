//! Runs of blocks, and what each of them is.

use std::collections::BTreeMap;
use std::ops::Range;

/// A value of a run of blocks, which can be cut.
pub trait Run: Clone {
    /// Returns the value of the run without its first `blocks`.
    fn skip(&self, blocks: u64) -> Self;
}

/// Values of runs of blocks that do not overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct Extents<V>(BTreeMap<u64, (u64, V)>);

impl<V> Default for Extents<V> {
    fn default() -> Self {
        Extents(BTreeMap::new())
    }
}

impl<V: Run> Extents<V> {
    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives the blocks of `range` this value, whatever they had before.
    pub fn insert(&mut self, range: Range<u64>, value: V) {
        if range.is_empty() {
            return;
        }
        self.remove(range.clone());
        self.0.insert(range.start, (range.end, value));
    }

    /// Takes the values of the blocks of `range` away.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // The run that begins before, and may go on within or beyond.
        if let Some((&start, (end, _))) = self.0.range(..range.start).next_back()
            && *end > range.start
        {
            let (end, value) = self.0.remove(&start).expect("it was found");
            if end > range.end {
                self.0.insert(range.end, (end, value.skip(range.end - start)));
            }
            self.0.insert(start, (range.start, value));
        }
        while let Some((&start, _)) = self.0.range(range.clone()).next() {
            let (end, value) = self.0.remove(&start).expect("it was found");
            if end > range.end {
                self.0.insert(range.end, (end, value.skip(range.end - start)));
            }
        }
    }

    /// Puts all runs of `over` over these.
    pub fn cover(&mut self, over: &Extents<V>) {
        over.iter().for_each(|(range, value)| self.insert(range, value.clone()));
    }

    /// Returns all runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Range<u64>, &V)> {
        self.0.iter().map(|(start, (end, value))| (*start..*end, value))
    }

    /// Returns the runs within `range`, cut where they go beyond it.
    pub fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, V)> {
        let first = self.0.range(..=range.start).next_back().map_or(range.start, |(at, _)| *at);
        self.0.range(first..range.end.max(first)).filter_map(move |(start, (end, value))| {
            let cut = (*start).max(range.start)..(*end).min(range.end);
            (!cut.is_empty()).then(|| (cut.clone(), value.skip(cut.start - start)))
        })
    }
}

/// Returns the parts of `range` that none of `parts` has; these are in order.
pub fn gaps(range: Range<u64>, parts: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    for part in parts {
        if part.start > at {
            gaps.push(at..part.start);
        }
        at = at.max(part.end);
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The value of each block is the place where its run began, and how far it was cut.
    #[derive(Clone, Debug, PartialEq)]
    struct Value(u64, u64);

    impl Run for Value {
        fn skip(&self, blocks: u64) -> Self {
            Value(self.0, self.1 + blocks)
        }
    }

    proptest! {
        #[test]
        fn extents_are_what_an_array_of_blocks_is(
            ops in proptest::collection::vec((0u64..60, 0u64..20, any::<bool>()), 0..40),
            look in (0u64..80, 0u64..40),
        ) {
            let mut array = vec![None; 100];
            let mut extents = Extents::default();
            for (number, (at, len, insert)) in (0..).zip(ops) {
                let range = at..at + len;
                for block in range.clone() {
                    array[block as usize] = insert.then_some(Value(number, block - at));
                }
                if insert {
                    extents.insert(range, Value(number, 0));
                } else {
                    extents.remove(range);
                }
            }
            let look = look.0..look.0 + look.1;
            let mut found = vec![None; 120];
            for (range, value) in extents.within(look.clone()) {
                for block in range.clone() {
                    found[block as usize] = Some(value.skip(block - range.start));
                }
            }
            for block in 0..100 {
                let expected = array[block as usize].clone().filter(|_| look.contains(&block));
                prop_assert_eq!(&found[block as usize], &expected);
            }
            let parts = extents.within(look.clone()).map(|(range, _)| range);
            let free: u64 = gaps(look.clone(), parts).iter().map(|gap| gap.end - gap.start).sum();
            let expected = look.filter(|block| array.get(*block as usize).is_none_or(Option::is_none));
            prop_assert_eq!(free, expected.count() as u64);
        }
    }
}
