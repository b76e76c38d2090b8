//! Capital letters, from one ring to another: the whole work of the echo server on a byte, and so
//! its cost.

use xen_vchan::Piece;

/// Moves a piece, its ASCII letters a to z as capitals.
pub fn move_in_capitals(piece: Piece<'_>) {
    let whole_blocks = move_blocks(&piece);
    piece.move_through(whole_blocks, &mut [0; BLOCK], capitalize);
}

/// Bytes in a turn of the loop.
const BLOCK: usize = 64;

/// Moves as many whole blocks as there are, in four registers of sixteen bytes; returns the number
/// of bytes. Registers know only signed comparisons, so the letters are moved to the upper end of
/// the signed numbers, where one comparison tells them from all else.
///
/// In assembly, of which the compiler can assume nothing, since the peer can change what is read:
/// each byte is read once and written once.
#[cfg(target_feature = "sse2")]
fn move_blocks(piece: &Piece<'_>) -> usize {
    use core::arch::asm;
    use core::arch::x86_64::_mm_set1_epi8;
    const TO_THE_END: i8 = i8::MAX - b'z' as i8;
    const BELOW_A: i8 = b'a' as i8 + TO_THE_END - 1;
    const TO_CAPITALS: i8 = (b'a' - b'A') as i8;
    let len = piece.len() - piece.len() % BLOCK;
    let Some((from, to)) = piece.addresses().filter(|_| len > 0) else { return 0 };
    // SAFETY: this computes, by instructions that every x86-64 processor has.
    let (to_the_end, below_a, to_capitals) =
        unsafe { (_mm_set1_epi8(TO_THE_END), _mm_set1_epi8(BELOW_A), _mm_set1_epi8(TO_CAPITALS)) };
    // SAFETY: both sides are pages of a vchan, mapped for as long as the piece is borrowed, and
    // nothing of Rust's; the moves cover exactly `len` bytes of each, and demand no alignment.
    unsafe {
        asm!(
            "2:",
            "movups {a}, [{from} + {i}]",
            "movups {b}, [{from} + {i} + 16]",
            "movups {c}, [{from} + {i} + 32]",
            "movups {d}, [{from} + {i} + 48]",
            "movaps {e}, {a}",
            "movaps {f}, {b}",
            "movaps {g}, {c}",
            "movaps {h}, {d}",
            "paddb {e}, {to_the_end}",
            "paddb {f}, {to_the_end}",
            "paddb {g}, {to_the_end}",
            "paddb {h}, {to_the_end}",
            "pcmpgtb {e}, {below_a}",
            "pcmpgtb {f}, {below_a}",
            "pcmpgtb {g}, {below_a}",
            "pcmpgtb {h}, {below_a}",
            "pand {e}, {to_capitals}",
            "pand {f}, {to_capitals}",
            "pand {g}, {to_capitals}",
            "pand {h}, {to_capitals}",
            "psubb {a}, {e}",
            "psubb {b}, {f}",
            "psubb {c}, {g}",
            "psubb {d}, {h}",
            "movups [{to} + {i}], {a}",
            "movups [{to} + {i} + 16], {b}",
            "movups [{to} + {i} + 32], {c}",
            "movups [{to} + {i} + 48], {d}",
            "add {i}, 64",
            "jnz 2b",
            i = inout(reg) len.wrapping_neg() => _,
            from = in(reg) from.as_ptr().wrapping_add(len),
            to = in(reg) to.as_ptr().wrapping_add(len),
            to_the_end = in(xmm_reg) to_the_end,
            below_a = in(xmm_reg) below_a,
            to_capitals = in(xmm_reg) to_capitals,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            e = out(xmm_reg) _,
            f = out(xmm_reg) _,
            g = out(xmm_reg) _,
            h = out(xmm_reg) _,
            options(nostack),
        )
    }
    len
}

/// Moves nothing: the code for such targets may not use the wide registers.
#[cfg(not(target_feature = "sse2"))]
fn move_blocks(_: &Piece<'_>) -> usize {
    0
}

/// Turns the ASCII letters a to z among `bytes` into capitals, eight at a time.
fn capitalize(bytes: &mut [u8]) {
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = capitals(u64::from_ne_bytes(*word)).to_ne_bytes();
    }
    rest.make_ascii_uppercase();
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
    use core::ptr::NonNull;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;
    use xen_platform::RawShared;
    use xen_platform::{IndexMemory, SharedMem};
    use xen_ring::bytes::{Consumer, Layout, Producer};

    /// Two rings of this size after their indices, in memory that has an address.
    const SIZE: u32 = 512;
    const ASKED: Layout = Layout { prod: 0, cons: 4, data: 16, size: SIZE };
    const ANSWERED: Layout = Layout { prod: 8, cons: 12, data: 16 + SIZE as usize, size: SIZE };

    /// Moves `bytes` from ring to ring, whose indices start where they are told to.
    fn moved(bytes: &[u8], starts: (u32, u32)) -> Vec<u8> {
        let area = Box::leak(Box::new([0u32; 4 + SIZE as usize / 2]));
        // SAFETY: leaked memory, aligned to 4, used by nothing else.
        let page = unsafe { RawShared::new(NonNull::from(area).cast(), 16 + 2 * SIZE as usize) };
        for (layout, start) in [(ASKED, starts.0), (ANSWERED, starts.1)] {
            page.store(layout.prod, start);
            page.store(layout.cons, start);
        }
        Producer::new(ASKED, starts.0).write(&page, &page, bytes).unwrap();
        let mut consumer = Consumer::new(ASKED, starts.0);
        let mut producer = Producer::new(ANSWERED, starts.1);
        let data: (&dyn SharedMem, &dyn SharedMem) = (&page, &page);
        let n = consumer.transfer(&mut producer, &page, data, usize::MAX, &mut move_in_capitals);
        assert_eq!(n, Ok(bytes.len()));
        let mut got = std::vec![0; bytes.len()];
        Consumer::new(ANSWERED, starts.1).read(&page, &page, &mut got).unwrap();
        got
    }

    #[test]
    fn every_byte_at_every_place() {
        // A block, a word and single bytes.
        const LEN: usize = BLOCK + 8 + 3;
        for byte in 0..=255u8 {
            for place in 0..LEN {
                let mut bytes = [b'a'; LEN];
                bytes[place] = byte;
                assert_eq!(moved(&bytes, (0, 0)), bytes.to_ascii_uppercase());
            }
        }
    }

    proptest! {
        #[test]
        fn like_the_standard_library(
            bytes in prop::collection::vec(any::<u8>(), 0..SIZE as usize),
            starts: (u32, u32),
        ) {
            prop_assert_eq!(moved(&bytes, starts), bytes.to_ascii_uppercase());
        }
    }
}
