//! Sectors that say what and where they are, so that one that was lost, misplaced or torn, or is an
//! old one, is found and named.
//!
//! A sector of 512 bytes, every number little-endian; `testbed/peers/blk-stamp.c` writes and checks
//! the same:
//!
//! ```text
//!   0  u64      the bytes "RINGSIDE"
//!   8  u64      its own number on the disk, in units of 512 bytes
//!  16  u64      generation: which version of the data
//!  24  u64      seed: which set of data
//! 32  u64 x59  xorshift64* from seed ^ number * 0x9e3779b97f4a7c15 ^ generation *
//! 0xd1b54a32d192ed03 504  u32      CRC-32C of the bytes 0 to 503 508  u32      0
//! ```

use crate::crc::Crc32c;
use crate::random::{GOLDEN, Random};
use core::fmt;

/// Bytes in a sector.
pub const SECTOR: usize = 512;
const WORDS: usize = SECTOR / 8;
const MAGIC: u64 = u64::from_le_bytes(*b"RINGSIDE");
const OF_GENERATION: u64 = 0xd1b5_4a32_d192_ed03;

type Words = [u64; WORDS];

/// Flaw of a sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// It is all zeros: lost, or never written.
    Zeros,
    /// It begins with something else than a stamp does.
    NoStamp(u64),
    /// Its checksum is wrong: parts of it are of different writes, or it was damaged.
    Torn {
        /// Number of the sector, by its own account.
        number: u64,
        /// Its generation, by its own account.
        generation: u64,
    },
    /// It is whole, and belongs to another place.
    Misplaced(u64),
    /// It is of another seed.
    Seed(u64),
    /// It is of another generation: stale, if that is an earlier one.
    Generation(u64),
    /// Another body under a good checksum.
    Body,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Flaw::Zeros => f.write_str("is all zeros"),
            Flaw::NoStamp(word) => write!(f, "has no stamp, begins with {word:016x}"),
            Flaw::Torn { number, generation } => {
                write!(f, "is torn or damaged (says sector {number}, generation {generation})")
            }
            Flaw::Misplaced(number) => write!(f, "is misplaced: belongs to sector {number}"),
            Flaw::Seed(seed) => write!(f, "is of seed {seed}"),
            Flaw::Generation(generation) => write!(f, "is of generation {generation}"),
            Flaw::Body => f.write_str("has another body under a good checksum"),
        }
    }
}

/// Makes and checks stamped sectors of one seed.
pub struct Stamps {
    seed: u64,
    crc: Crc32c,
}

impl Stamps {
    /// For the data of `seed`.
    pub fn new(seed: u64) -> Stamps {
        Stamps { seed, crc: Crc32c::new() }
    }

    fn words(&self, number: u64, generation: u64) -> Words {
        let state =
            self.seed ^ number.wrapping_mul(GOLDEN) ^ generation.wrapping_mul(OF_GENERATION);
        let mut random = Random::new(state);
        let mut words = [0; WORDS];
        words[..4].copy_from_slice(&[MAGIC, number, generation, self.seed]);
        for word in &mut words[4..WORDS - 1] {
            *word = random.next();
        }
        words[WORDS - 1] = self.crc.of(&words[..WORDS - 1]).into();
        words
    }

    /// Fills `to`, whole sectors, with the data of `generation` for the sectors from `number` on.
    pub fn fill(&self, number: u64, generation: u64, to: &mut [u8]) {
        for (number, sector) in (number..).zip(to.as_chunks_mut::<SECTOR>().0) {
            let words = self.words(number, generation);
            for (bytes, word) in sector.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                *bytes = word.to_le_bytes();
            }
        }
    }

    /// Checks the sector that was read from the place `number`.
    pub fn check(&self, number: u64, generation: u64, sector: &[u8; SECTOR]) -> Result<(), Flaw> {
        let mut got: Words = [0; WORDS];
        for (word, bytes) in got.iter_mut().zip(sector.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        match got == self.words(number, generation) {
            true => Ok(()),
            false => Err(self.blame(number, generation, &got)),
        }
    }

    fn blame(&self, number: u64, generation: u64, got: &Words) -> Flaw {
        match *got {
            _ if got.iter().all(|word| *word == 0) => Flaw::Zeros,
            [first, ..] if first != MAGIC => Flaw::NoStamp(first),
            [_, number, generation, ..]
                if got[WORDS - 1] != u64::from(self.crc.of(&got[..WORDS - 1])) =>
            {
                Flaw::Torn { number, generation }
            }
            [_, other, ..] if other != number => Flaw::Misplaced(other),
            [_, _, _, other, ..] if other != self.seed => Flaw::Seed(other),
            [_, _, other, ..] if other != generation => Flaw::Generation(other),
            _ => Flaw::Body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc::tests::slow_crc;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn sector(stamps: &Stamps, number: u64, generation: u64) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        stamps.fill(number, generation, &mut sector);
        sector
    }

    #[test]
    fn checksum_covers_the_bytes_before_it() {
        let sector = sector(&Stamps::new(5), 3, 1);
        assert_eq!(sector[504..508], slow_crc(&sector[..504]).to_le_bytes());
        assert_eq!(sector[508..], [0; 4]);
    }

    #[test]
    fn sector_layout_is_as_documented() {
        let sector = sector(&Stamps::new(0x0102_0304), 7, 9);
        assert_eq!(&sector[..8], b"RINGSIDE");
        assert_eq!((sector[8], sector[16], &sector[24..28]), (7, 9, &[4, 3, 2, 1][..]));
        let mut random =
            Random::new(0x0102_0304 ^ 7u64.wrapping_mul(GOLDEN) ^ 9u64.wrapping_mul(OF_GENERATION));
        assert_eq!(sector[32..40], random.next().to_le_bytes());
    }

    #[test]
    fn flaw_is_named() {
        let stamps = Stamps::new(1);
        let good = sector(&stamps, 10, 2);
        assert_eq!(stamps.check(10, 2, &good), Ok(()));
        assert_eq!(stamps.check(11, 2, &good), Err(Flaw::Misplaced(10)));
        assert_eq!(stamps.check(10, 3, &good), Err(Flaw::Generation(2)));
        assert_eq!(stamps.check(10, 2, &sector(&Stamps::new(4), 10, 2)), Err(Flaw::Seed(4)));
        assert_eq!(stamps.check(10, 2, &[0; SECTOR]), Err(Flaw::Zeros));
        assert_eq!(stamps.check(10, 2, &[0x11; SECTOR]), Err(Flaw::NoStamp(0x1111_1111_1111_1111)));
        let mut torn = good;
        torn[256..].copy_from_slice(&sector(&stamps, 10, 1)[256..]);
        assert_eq!(stamps.check(10, 2, &torn), Err(Flaw::Torn { number: 10, generation: 2 }));
        let mut body = good;
        body[100] ^= 1;
        let sum = slow_crc(&body[..504]).to_le_bytes();
        body[504..508].copy_from_slice(&sum);
        assert_eq!(stamps.check(10, 2, &body), Err(Flaw::Body));
        assert_eq!(Flaw::Misplaced(10).to_string(), "is misplaced: belongs to sector 10");
    }

    proptest! {
        #[test]
        fn flipped_bit_is_found(seed: u64, number: u64, generation: u64, bit in 0..SECTOR * 8) {
            let stamps = Stamps::new(seed);
            let mut bytes = sector(&stamps, number, generation);
            prop_assert_eq!(stamps.check(number, generation, &bytes), Ok(()));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(stamps.check(number, generation, &bytes).is_err());
        }
    }
}
