//! The copy from and to shared memory beside the C library's memcpy, by one processor alone.

use crate::pages::copy_as_shared;
use crate::table::{GIB, named};
use std::hint::black_box;
use std::time::Instant;

const SIZES: [usize; 8] = [16, 64, 256, 512, 1 << 10, 1500, 4 << 10, 64 << 10];

/// Number of times that each is measured; the best counts.
const ROUNDS: usize = 9;

/// Bytes to copy in each round.
const AMOUNT: usize = 16 << 20;

/// Returns the table.
pub fn measure() -> String {
    let mut text = String::from("Copies, GiB/s             aligned to 8        not aligned\n");
    text += "                       memcpy     ours     memcpy     ours\n";
    for size in SIZES {
        let figures = [(true, 0), (false, 0), (true, 1), (false, 1)];
        let [c, ours, c_odd, ours_odd] =
            figures.map(|(is_c, odd)| size as f64 / seconds(is_c, size, odd) / GIB);
        text += &format!(
            "  {:>8}            {c:>8.2} {ours:>8.2}   {c_odd:>8.2} {ours_odd:>8.2}\n",
            named(size)
        );
    }
    text
}

/// Returns the seconds of one copy, whose target is `odd` bytes further than its source.
fn seconds(is_c: bool, size: usize, odd: usize) -> f64 {
    let (from, mut to) = (vec![0x5au8; size + 64], vec![0u8; size + 64]);
    let times = (AMOUNT / (size + 64)).max(100);
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        for n in 0..times {
            let (from, to) = (&from[n % 4 * 8..][..size], &mut to[n % 6 * 8 + odd..][..size]);
            match is_c {
                true => black_box(to).copy_from_slice(black_box(from)),
                false => copy_as_shared(black_box(to), black_box(from)),
            }
        }
        begun.elapsed().as_secs_f64()
    });
    rounds.fold(f64::MAX, f64::min) / times as f64
}
