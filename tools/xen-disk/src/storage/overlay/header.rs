//! The first block of an overlay: what it is, and whose changes it holds.

use super::{CLUSTER, invalid};
use std::io;
use std::ops::Range;

/// Where it is.
pub const AT: u64 = 0;
/// How long it is. Well below a sector, so that it is written wholly or not at all.
pub const LEN: usize = 64;

const MAGIC: &[u8; 8] = b"RSoverl1";
/// Where the bits begin.
pub const BITS_AT: u64 = 4096;

/// Whether the changes are all here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// They are.
    Serving = 0,
    /// They are on their way into the disk below, whose identity therefore does not count.
    Committing = 1,
}

/// Magic (8), phase (4), cluster size (4), length of the disk (8), its identity (16), checksum (4), zeros; little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub phase: Phase,
    /// The length of the disk, in bytes.
    pub bytes: u64,
    pub identity: [u8; 16],
}

impl Header {
    pub fn new(bytes: u64, identity: &[u8]) -> Self {
        Header { phase: Phase::Serving, bytes, identity: digest(identity) }
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&(self.phase as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(CLUSTER as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.identity);
        let sum = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; LEN]) -> io::Result<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if &bytes[..8] != MAGIC {
            return Err(invalid("it is no overlay: it does not begin as one"));
        }
        if word(40) != crc32fast::hash(&bytes[..40]) {
            return Err(invalid("the header of the overlay is damaged: its checksum is wrong"));
        }
        if u64::from(word(12)) != CLUSTER {
            return Err(invalid(format!("the overlay has clusters of {} bytes; {CLUSTER} are supported", word(12))));
        }
        let phase = match word(8) {
            0 => Phase::Serving,
            1 => Phase::Committing,
            other => return Err(invalid(format!("the overlay is in the unknown phase {other}"))),
        };
        let length = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
        Ok(Header { phase, bytes: length, identity: bytes[24..40].try_into().expect("sixteen bytes") })
    }

    /// Refuses any disk but the one that the changes were made to, as it was then.
    pub fn check_base(&self, base: &Header) -> io::Result<()> {
        if self.bytes != base.bytes {
            let text = format!("the overlay is one of a disk of {} bytes, and this has {}", self.bytes, base.bytes);
            return Err(invalid(text));
        }
        if self.phase == Phase::Serving && self.identity != base.identity {
            return Err(invalid("the overlay is one of another disk, or the disk below was written since"));
        }
        Ok(())
    }

    pub fn clusters(&self) -> u64 {
        self.bytes.div_ceil(CLUSTER)
    }

    /// The bytes of the disk that a cluster stands for.
    pub fn cluster(&self, number: u64) -> Range<u64> {
        number * CLUSTER..((number + 1) * CLUSTER).min(self.bytes)
    }

    /// Where the clusters begin.
    pub fn data(&self) -> u64 {
        (BITS_AT + self.clusters().div_ceil(8)).next_multiple_of(CLUSTER)
    }

    /// Where the file ends.
    pub fn end(&self) -> u64 {
        self.data() + self.bytes
    }
}

/// Sixteen bytes that stand for any number of them (FNV-1a). Not against forgers: against mistakes.
fn digest(identity: &[u8]) -> [u8; 16] {
    const START: u128 = 0x6c62272e07bb014262b821756295c58d;
    const PRIME: u128 = 0x1000000000000000000013b;
    identity.iter().fold(START, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_and_damage_is_seen() {
        let header = Header { phase: Phase::Committing, ..Header::new(1 << 40, b"disk") };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        for at in 0..44 {
            let mut damaged = bytes;
            damaged[at] ^= 4;
            assert!(Header::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_parts_do_not_overlap() {
        for bytes in [512, CLUSTER, CLUSTER + 512, 1 << 40] {
            let header = Header::new(bytes, b"");
            assert!(header.data() >= BITS_AT + header.clusters().div_ceil(8));
            assert_eq!(header.cluster(header.clusters() - 1).end, bytes);
        }
    }
}
