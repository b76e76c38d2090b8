//! Random numbers that a seed repeats.

/// The state that stands for zero, which would only bring forth zeros: the golden ratio in 64 bits.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The generator xorshift64*.
pub struct Random(u64);

impl Random {
    /// The numbers that belong to `seed`.
    pub fn new(seed: u64) -> Random {
        Random(if seed == 0 { GOLDEN } else { seed })
    }

    /// The next number.
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`, or 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The upper bits are the better ones.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Puts `items` into a random order.
    pub fn shuffle(&mut self, items: &mut [u32]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn first_numbers_are_those_of_xorshift64_star() {
        let mut random = Random::new(1);
        assert_eq!([random.next(), random.next()], [0x47e4_ce4b_896c_dd1d, 0xabcf_a6a8_e079_651d]);
        assert_ne!(Random::new(0).next(), 0);
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        Random::new(7).shuffle(&mut items);
        assert!(items.windows(2).filter(|pair| pair[0] < pair[1]).count() < 600);
        items.sort_unstable();
        assert!(items.into_iter().eq(0..1000));
    }

    #[test]
    fn numbers_below_an_end_reach_all() {
        let mut random = Random::new(3);
        let mut seen = [false; 7];
        (0..200).for_each(|_| seen[random.below(7) as usize] = true);
        assert!(seen.iter().all(|seen| *seen));
        assert_eq!((random.below(1), random.below(0)), (0, 0));
    }
}
