//! Capital letters, eight at a time: this is all that the echo server does to a byte, so it is what a byte costs.

/// Every byte of a word set to this.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Turns the ASCII letters a to z among `bytes` into capitals.
pub fn capitalize(bytes: &mut [u8]) {
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = capitals(u64::from_ne_bytes(*word)).to_ne_bytes();
    }
    rest.make_ascii_uppercase();
}

/// Eight bytes at once: the low seven bits of each are added to such numbers that the eighth tells the range.
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
    use std::vec::Vec;

    #[test]
    fn every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut bytes = [b'a'; 8];
                bytes[place] = byte;
                let expected = bytes.to_ascii_uppercase();
                capitalize(&mut bytes);
                assert_eq!(bytes[..], expected[..]);
            }
        }
    }

    proptest! {
        #[test]
        fn like_the_standard_library(bytes: Vec<u8>) {
            let mut got = bytes.clone();
            capitalize(&mut got);
            prop_assert_eq!(got, bytes.to_ascii_uppercase());
        }
    }
}
