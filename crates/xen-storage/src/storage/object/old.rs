//! The first format of a disk: a manifest that has the hashes of all its chunks. It is only read.

use std::io;
use std::ops::Range;

/// The name of a chunk: the BLAKE3 hash of its bytes.
pub type Hash = [u8; 32];

const MAGIC: &[u8; 8] = b"RSdisk01";
const HEAD: usize = 32;
/// The most chunks of a disk: a manifest is read and written as a whole.
const MOST: u64 = 1 << 22;

/// Magic (8), length of the disk (8), bytes of a chunk (4), CRC-32 of all but itself (4), how often
/// it was replaced (8), then the hashes; little-endian. Of a chunk of zeros it is all zero.
#[derive(Clone, PartialEq, Debug)]
pub struct Manifest {
    pub bytes: u64,
    pub chunk: u32,
    pub hashes: Vec<Option<Hash>>,
}

impl Manifest {
    /// Returns true if these are the bytes of one.
    pub fn is_one(raw: &[u8]) -> bool {
        raw.starts_with(MAGIC)
    }

    /// Bytes of the disk that a chunk stands for.
    pub fn range(&self, number: usize) -> Range<u64> {
        let start = number as u64 * u64::from(self.chunk);
        start..(start + u64::from(self.chunk)).min(self.bytes)
    }

    /// Decodes it.
    pub fn decode(raw: &[u8]) -> io::Result<Self> {
        let head = raw.first_chunk::<HEAD>().filter(|head| head.starts_with(MAGIC));
        let head = head.ok_or_else(|| invalid("it is no manifest of a disk"))?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let long =
            |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let mut unsigned = raw.to_vec();
        unsigned[20..24].fill(0);
        if crc32fast::hash(&unsigned) != word(20) {
            return Err(invalid("the manifest is damaged: its checksum is wrong"));
        }
        let (bytes, chunk) = (long(8), word(16));
        let count = bytes.checked_div(chunk.into()).unwrap_or(u64::MAX);
        let (hashes, rest) = raw[HEAD..].as_chunks::<32>();
        let sane = chunk.is_power_of_two() && (4096..=64 << 20).contains(&chunk) && count <= MOST;
        let expected = if sane { bytes.div_ceil(chunk.into()) } else { 0 };
        if !sane || hashes.len() as u64 != expected || !rest.is_empty() {
            let count = hashes.len();
            return Err(invalid(format!(
                "the manifest has {count} chunks of {chunk} bytes, and a disk of {bytes} bytes not"
            )));
        }
        let hashes = hashes.iter().map(|hash| (*hash != [0; 32]).then_some(*hash)).collect();
        Ok(Manifest { bytes, chunk, hashes })
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes a manifest as the first version did.
    pub fn encode(manifest: &Manifest) -> Vec<u8> {
        let mut raw = MAGIC.to_vec();
        raw.extend_from_slice(&manifest.bytes.to_le_bytes());
        raw.extend_from_slice(&manifest.chunk.to_le_bytes());
        raw.extend_from_slice(&[0; 12]);
        manifest.hashes.iter().for_each(|hash| raw.extend_from_slice(&hash.unwrap_or_default()));
        let sum = crc32fast::hash(&raw);
        raw[20..24].copy_from_slice(&sum.to_le_bytes());
        raw
    }

    proptest! {
        #[test]
        fn manifest_damaged_anywhere_is_refused(sectors in 1u64..100, at: usize, bit in 0u8..8) {
            let bytes = sectors * 512;
            let mut hashes = vec![None; bytes.div_ceil(4096) as usize];
            hashes[0] = Some([7; 32]);
            let manifest = Manifest { bytes, chunk: 4096, hashes };
            let mut raw = encode(&manifest);
            prop_assert_eq!(Manifest::decode(&raw).unwrap(), manifest);
            let at = at % raw.len();
            raw[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&raw).is_err());
            prop_assert!(Manifest::decode(&raw[..at]).is_err());
        }
    }
}
