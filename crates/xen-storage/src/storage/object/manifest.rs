//! The parts of a disk.

use super::super::file::whole_sectors;
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
    pub generation: u64,
    pub hashes: Vec<Option<Hash>>,
}

impl Manifest {
    /// That of a disk of zeros.
    pub fn new(bytes: u64, chunk: u32) -> io::Result<Self> {
        whole_sectors(bytes, 512)?;
        if !chunk.is_power_of_two() || !(4096..=64 << 20).contains(&chunk) {
            return Err(invalid(format!(
                "chunks of {chunk} bytes: a power of two from 4 KiB to 64 MiB is possible"
            )));
        }
        let count = bytes.div_ceil(chunk.into());
        if count > MOST {
            return Err(invalid(format!(
                "{bytes} bytes are too many: {MOST} chunks of {chunk} are the most"
            )));
        }
        Ok(Manifest { bytes, chunk, generation: 0, hashes: vec![None; count as usize] })
    }

    /// That of a disk of another length; what is new is zero. The last chunk that both have may
    /// have another length then, and so another hash.
    pub fn resized(&self, bytes: u64) -> io::Result<Self> {
        let mut manifest =
            Manifest { generation: self.generation, ..Manifest::new(bytes, self.chunk)? };
        manifest.hashes.iter_mut().zip(&self.hashes).for_each(|(new, old)| *new = *old);
        Ok(manifest)
    }

    /// The bytes of the disk that a chunk stands for.
    pub fn range(&self, number: usize) -> Range<u64> {
        let start = number as u64 * u64::from(self.chunk);
        start..(start + u64::from(self.chunk)).min(self.bytes)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(HEAD + 32 * self.hashes.len());
        raw.extend_from_slice(MAGIC);
        raw.extend_from_slice(&self.bytes.to_le_bytes());
        raw.extend_from_slice(&self.chunk.to_le_bytes());
        raw.extend_from_slice(&[0; 4]);
        raw.extend_from_slice(&self.generation.to_le_bytes());
        self.hashes.iter().for_each(|hash| raw.extend_from_slice(&hash.unwrap_or_default()));
        let sum = crc32fast::hash(&raw);
        raw[20..24].copy_from_slice(&sum.to_le_bytes());
        raw
    }

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
        let mut manifest = Manifest { generation: long(24), ..Manifest::new(bytes, chunk)? };
        let (hashes, rest) = raw[HEAD..].as_chunks::<32>();
        if hashes.len() != manifest.hashes.len() || !rest.is_empty() {
            return Err(invalid(format!(
                "the manifest has {} chunks, and a disk of {bytes} bytes not",
                hashes.len()
            )));
        }
        manifest.hashes = hashes.iter().map(|hash| (*hash != [0; 32]).then_some(*hash)).collect();
        Ok(manifest)
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_and_damage_is_seen(sectors in 1u64..100, generation: u64, at: usize, bit in 0u8..8) {
            let mut manifest = Manifest { generation, ..Manifest::new(sectors * 512, 4096).unwrap() };
            manifest.hashes[0] = Some([7; 32]);
            let mut raw = manifest.encode();
            prop_assert_eq!(Manifest::decode(&raw).unwrap(), manifest);
            let at = at % raw.len();
            raw[at] ^= 1 << bit;
            prop_assert!(Manifest::decode(&raw).is_err());
            prop_assert!(Manifest::decode(&raw[..at]).is_err());
        }
    }
}
