//! Random choices that a seed makes repeatable.

use crate::World;

/// A splitmix64 generator: small, and good enough to shuffle with.
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

impl World {
    /// Decides whether a task that could move has to wait for another round. Never in a world
    /// without seed.
    pub(crate) fn postpones(&self) -> bool {
        self.0.random.borrow_mut().as_mut().is_some_and(|random| random.below(4) == 0)
    }

    /// Shuffles `items`, in a world with a seed, and says how many of them to take: at least
    /// `at_least`.
    pub(crate) fn pick<T>(&self, items: &mut [T], at_least: usize) -> usize {
        let mut random = self.0.random.borrow_mut();
        let Some(random) = random.as_mut() else { return items.len() };
        for last in (1..items.len()).rev() {
            items.swap(last, random.below(last + 1));
        }
        let at_least = at_least.min(items.len());
        at_least + random.below(items.len() - at_least + 1)
    }
}
