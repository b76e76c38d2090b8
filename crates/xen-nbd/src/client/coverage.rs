//! The parts of a read that have come.

use std::collections::BTreeMap;

/// Ranges that do not touch each other, by their starts.
#[derive(Default, Debug)]
pub struct Coverage(BTreeMap<u64, u64>);

impl Coverage {
    /// Adds `len` bytes at `at`. Returns false if some of them were there already, or if there are
    /// none.
    pub fn add(&mut self, at: u64, len: u64) -> bool {
        let Some(end) = at.checked_add(len).filter(|_| len > 0) else { return false };
        let before = self.0.range(..end).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, before_end)| before_end > at) {
            return false;
        }
        let start = match before {
            Some((start, before_end)) if before_end == at => start,
            _ => at,
        };
        let end = self.0.remove(&end).unwrap_or(end);
        self.0.insert(start, end);
        true
    }

    /// Returns true if all of `len` bytes at `at` are there.
    pub fn is_whole(&self, at: u64, len: u64) -> bool {
        len == 0 || self.0.get(&at).is_some_and(|end| *end == at + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn coverage_agrees_with_a_map_of_bytes(parts in proptest::collection::vec((0..40u64, 0..20u64), 0..20)) {
            let mut coverage = Coverage::default();
            let mut bytes = [false; 64];
            for (at, len) in parts {
                let range = at as usize..(at + len) as usize;
                let fresh = len > 0 && !bytes[range.clone()].iter().any(|there| *there);
                prop_assert_eq!(coverage.add(at, len), fresh);
                if fresh {
                    bytes[range].fill(true);
                }
            }
            let whole = |at: u64, len: u64| bytes[at as usize..][..len as usize].iter().all(|b| *b);
            for at in 0..60u64 {
                // A range that ends where something else begins is not known to be a range.
                let ends = |len: u64| !bytes[(at + len) as usize];
                let begins = at == 0 || !bytes[at as usize - 1];
                for len in 1..4 {
                    if begins && ends(len) {
                        prop_assert_eq!(coverage.is_whole(at, len), whole(at, len));
                    }
                }
            }
        }
    }

    #[test]
    fn coverage_refuses_a_range_past_the_last_number() {
        assert!(!Coverage::default().add(u64::MAX, 2));
    }
}
