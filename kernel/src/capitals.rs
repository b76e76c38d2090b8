//! Capital letters, many at a time: the whole work of the echo server on a byte, and so its cost.

/// Turns the ASCII letters a to z among `bytes` into capitals.
pub fn capitalize(bytes: &mut [u8]) {
    let (blocks, rest) = bytes.as_chunks_mut::<BLOCK>();
    blocks.iter_mut().for_each(capitalize_block);
    let (words, rest) = rest.as_chunks_mut::<8>();
    for word in words {
        *word = capitals(u64::from_ne_bytes(*word)).to_ne_bytes();
    }
    rest.make_ascii_uppercase();
}

/// Bytes in a turn of the loop.
const BLOCK: usize = 64;

/// Four registers of sixteen bytes. They know only signed comparisons, so the letters are moved to
/// the upper end of the signed numbers, where one comparison tells them from all else.
#[cfg(target_feature = "sse2")]
#[inline]
fn capitalize_block(block: &mut [u8; BLOCK]) {
    use core::arch::x86_64::{
        _mm_add_epi8, _mm_and_si128, _mm_cmpgt_epi8, _mm_loadu_si128, _mm_set1_epi8,
        _mm_storeu_si128, _mm_sub_epi8,
    };
    const TO_THE_END: i8 = i8::MAX - b'z' as i8;
    const BELOW_A: i8 = b'a' as i8 + TO_THE_END - 1;
    const TO_CAPITALS: i8 = (b'a' - b'A') as i8;
    let at = block.as_mut_ptr();
    let capitalize_at = |place: usize| {
        // SAFETY: every caller names 16 bytes inside the block; the two instructions demand no
        // alignment.
        let register = unsafe { at.add(place) }.cast();
        // SAFETY: as above.
        let bytes = unsafe { _mm_loadu_si128(register) };
        // SAFETY: these compute, by instructions that every x86-64 processor has.
        let capitals = unsafe {
            let letters = _mm_cmpgt_epi8(
                _mm_add_epi8(bytes, _mm_set1_epi8(TO_THE_END)),
                _mm_set1_epi8(BELOW_A),
            );
            _mm_sub_epi8(bytes, _mm_and_si128(letters, _mm_set1_epi8(TO_CAPITALS)))
        };
        // SAFETY: as above.
        unsafe { _mm_storeu_si128(register, capitals) };
    };
    capitalize_at(0);
    capitalize_at(16);
    capitalize_at(32);
    capitalize_at(48);
}

/// Eight bytes at a time, for targets whose code may not use the wide registers.
#[cfg(not(target_feature = "sse2"))]
fn capitalize_block(block: &mut [u8; BLOCK]) {
    for word in block.as_chunks_mut::<8>().0 {
        *word = capitals(u64::from_ne_bytes(*word)).to_ne_bytes();
    }
}

/// Every byte of a word set to this.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Eight bytes at once: the low seven bits of each are added to such numbers that the eighth tells
/// the range.
fn capitals(word: u64) -> u64 {
    let low = word & all(0x7f);
    let from_a = low + all(0x80 - b'a');
    let above_z = low + all(0x80 - b'z' - 1);
    let letters = from_a & !above_z & !word & all(0x80);
    word & !(letters >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_at_every_place() {
        // A block, a word and single bytes.
        const LEN: usize = BLOCK + 8 + 3;
        for byte in 0..=255u8 {
            for place in 0..LEN {
                let mut bytes = [b'a'; LEN];
                bytes[place] = byte;
                let expected = bytes.to_ascii_uppercase();
                capitalize(&mut bytes);
                assert_eq!(bytes[..], expected[..]);
            }
        }
    }

    proptest! {
        #[test]
        fn like_the_standard_library(bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK)) {
            let mut got = bytes.clone();
            capitalize(&mut got);
            prop_assert_eq!(got, bytes.to_ascii_uppercase());
        }
    }
}
