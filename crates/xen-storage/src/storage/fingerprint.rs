//! A value that differs once the contents of a disk have changed.

use std::io;

/// Bytes at the beginning that all count: partition tables, and the superblocks of file systems
/// that begin at the first MiB.
const HEAD: u64 = 2 << 20;
/// Bytes at the end that all count: the other partition table, and metadata of volumes.
const TAIL: u64 = 1 << 20;
/// Samples between them, at equal distances.
const SAMPLES: u64 = 512;
/// Length of each in bytes.
const SAMPLE: u64 = 4096;

/// Returns the length and a hash of the samples that `read` returns.
pub(super) fn of_contents(
    bytes: u64,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let (mut first, mut second) = (crc32fast::Hasher::new(), Fnv::new());
    let mut buffer = vec![0; SAMPLE as usize];
    for at in places(bytes) {
        let sample = &mut buffer[..SAMPLE.min(bytes - at) as usize];
        read(at, sample)?;
        first.update(sample);
        second.update(sample);
    }
    let mut value = bytes.to_le_bytes().to_vec();
    value.extend(first.finalize().to_le_bytes());
    value.extend(second.0.to_le_bytes());
    Ok(value)
}

/// The places of the samples, in rising order.
fn places(bytes: u64) -> impl Iterator<Item = u64> {
    let (head, tail) = (HEAD.min(bytes), bytes.saturating_sub(TAIL).max(HEAD) / SAMPLE * SAMPLE);
    let step = (tail.saturating_sub(head) / SAMPLES / SAMPLE).max(1) * SAMPLE;
    let middle = (head..tail.min(bytes)).step_by(step as usize);
    let end = (tail.min(bytes)..bytes).step_by(SAMPLE as usize);
    (0..head).step_by(SAMPLE as usize).chain(middle).chain(end)
}

/// FNV-1a of 64 bits, eight bytes at a time. Against mistakes, not against forgers.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.as_chunks::<8>().0 {
            self.0 ^= u64::from_le_bytes(*piece);
            self.0 = self.0.wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_within_the_disk_and_rise() {
        for bytes in [512, 4096, HEAD - 512, HEAD, HEAD + 512, 5 << 20, (1 << 40) + 512] {
            let places: Vec<u64> = places(bytes).collect();
            assert!(places.is_sorted() && places.iter().all(|at| *at < bytes), "{bytes}");
            assert!(places[0] == 0 && bytes - places.last().unwrap() <= SAMPLE, "{bytes}");
            assert!(places.len() < 2000, "{bytes}");
        }
    }

    #[test]
    fn contents_that_change_change_the_value() {
        let of = |bytes: &[u8]| {
            of_contents(bytes.len() as u64, |at, to| {
                to.copy_from_slice(&bytes[at as usize..][..to.len()]);
                Ok(())
            })
            .unwrap()
        };
        let mut bytes = vec![0; 3 << 20];
        let before = of(&bytes);
        for at in [0, 1024, 1 << 20, (3 << 20) - 1] {
            bytes[at] ^= 1;
            assert_ne!(of(&bytes), before, "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(of(&bytes), before);
        assert_ne!(of(&bytes[512..]), before);
    }
}
