//! CRC-32C: Castagnoli's polynomial, reflected, begun with all ones and inverted at the end, as in
//! iSCSI and ext4.

use crate::stamp::SECTOR;
use alloc::boxed::Box;
use alloc::vec;

/// The polynomial, with the highest power in the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// The tables: `[k][byte]` is what `byte` does to the sum once `k` more bytes have passed.
pub struct Crc32c(Box<[[u32; 256]]>);

impl Crc32c {
    /// Fills the tables.
    pub fn new() -> Crc32c {
        let mut tables = vec![[0; 256]; 8].into_boxed_slice();
        for byte in 0..256 {
            let mut sum = byte as u32;
            for table in 0..8 {
                for _ in 0..8 {
                    sum = times_x(sum);
                }
                tables[table][byte] = sum;
            }
        }
        Crc32c(tables)
    }

    /// The sum of words in memory's order.
    pub fn of(&self, words: &[u64]) -> u32 {
        !words.iter().fold(!0, |sum, word| self.add(sum, *word))
    }

    /// The sum of a sector.
    pub fn of_sector(&self, sector: &[u8; SECTOR]) -> u32 {
        !sector
            .as_chunks::<8>()
            .0
            .iter()
            .fold(!0, |sum, word| self.add(sum, u64::from_le_bytes(*word)))
    }

    /// The sum after eight more bytes; it begins with `!0` and is inverted at its end.
    pub fn add(&self, sum: u32, word: u64) -> u32 {
        let bytes = (word ^ u64::from(sum)).to_le_bytes();
        bytes
            .iter()
            .zip(self.0.iter().rev())
            .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)])
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

/// Joins the sum of some data and that of a fixed number of bytes behind it: the sum of both is
/// that of the first, times this, plus that of the second.
#[derive(Clone, Copy)]
pub struct Join(u32);

impl Join {
    /// For data of `bytes` behind other data.
    pub fn of(mut bytes: u64) -> Join {
        // x^8, squared again and again: one byte, two bytes, four...
        let (mut factor, mut power) = (ONE, ONE >> 8);
        while bytes > 0 {
            if bytes & 1 == 1 {
                factor = times(factor, power);
            }
            power = times(power, power);
            bytes >>= 1;
        }
        Join(factor)
    }

    /// The sum of both; that of nothing is 0.
    pub fn sums(self, first: u32, second: u32) -> u32 {
        times(first, self.0) ^ second
    }
}

/// The product with x.
fn times_x(a: u32) -> u32 {
    (a >> 1) ^ if a & 1 == 1 { POLYNOMIAL } else { 0 }
}

/// The product of two polynomials.
fn times(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = times_x(b);
    }
    product
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// The sum, a bit at a time.
    pub fn slow_crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
    }

    #[test]
    fn the_sum_is_crc_32c() {
        assert_eq!(slow_crc(b"123456789"), 0xe306_9283, "the published check value");
        let sector: [u8; SECTOR] = core::array::from_fn(|at| (at * 7 / 3) as u8);
        assert_eq!(Crc32c::new().of_sector(&sector), slow_crc(&sector));
    }

    proptest! {
        #[test]
        fn joined_sums_are_those_of_the_whole(first: Vec<u8>, second: Vec<u8>) {
            let whole = [&first[..], &second].concat();
            let joined = Join::of(second.len() as u64).sums(slow_crc(&first), slow_crc(&second));
            prop_assert_eq!(joined, slow_crc(&whole));
        }

        #[test]
        fn joining_goes_by_the_length_even_of_large_data(a in 0u64..1 << 40, b in 0u64..1 << 40, sum: u32) {
            let (a_then_b, both) = (Join::of(b).sums(Join::of(a).sums(sum, 0), 0), Join::of(a + b).sums(sum, 0));
            prop_assert_eq!(a_then_b, both);
        }
    }
}
