//! The first block of an overlay: what it is, and whose changes it holds.

use super::{CLUSTER, invalid};
use std::io;
use std::ops::Range;

/// Where it is.
pub const AT: u64 = 0;
/// How long it is. Well below a sector, so that it is written wholly or not at all.
pub const LEN: usize = 128;

const MAGIC: &[u8; 8] = b"RSoverl2";
/// Where the checksum is, which is over all before it.
const SUM_AT: usize = 64;
/// Where the bits begin.
pub const BITS_AT: u64 = 4096;
/// The most clusters of a disk: one bit for each is kept in memory.
const MOST: u64 = 1 << 31;
/// A disk can grow to so many times its length, and to so many clusters in any case: there is room for their bits, which
/// costs nothing while it is a hole.
const ROOM: (u64, u64) = (16, 1 << 20);

/// Whether the changes are all here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// They are.
    Serving = 0,
    /// They are on their way into the disk below, whose identity therefore does not count.
    Committing = 1,
}

/// Magic (8), phase (4), cluster size (4), length of the disk (8), of the disk below (8), how much of that is seen (8),
/// where the clusters begin (8), identity of the disk below (16), checksum (4), zeros; little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub phase: Phase,
    /// The length of the disk, in bytes.
    pub bytes: u64,
    /// The length of the disk below when the changes were made to it.
    pub base_bytes: u64,
    /// What lies behind so many bytes of the disk below counts as zero: the disk was shorter once.
    pub seen: u64,
    /// Where the clusters begin in the file.
    pub data: u64,
    pub identity: [u8; 16],
}

impl Header {
    /// That of a disk without changes.
    pub fn new(bytes: u64, identity: &[u8]) -> io::Result<Self> {
        let clusters = bytes.div_ceil(CLUSTER);
        if clusters > MOST {
            return Err(invalid(format!("a disk of {bytes} bytes is too long for an overlay")));
        }
        let room = (clusters * ROOM.0).max(ROOM.1).min(MOST);
        let data = (BITS_AT + room.div_ceil(8)).next_multiple_of(CLUSTER);
        let (phase, identity) = (Phase::Serving, digest(identity));
        Ok(Header { phase, bytes, base_bytes: bytes, seen: bytes, data, identity })
    }

    /// The same with another length, if there is room for it.
    pub fn resized(&self, bytes: u64) -> io::Result<Self> {
        let room = (self.data - BITS_AT) * 8;
        if bytes.div_ceil(CLUSTER) > room.min(MOST) {
            let text = format!("the overlay has room for {} bytes: commit it first", room.min(MOST) * CLUSTER);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Header { bytes, seen: self.seen.min(bytes), ..*self })
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&(self.phase as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(CLUSTER as u32).to_le_bytes());
        for (at, number) in [(16, self.bytes), (24, self.base_bytes), (32, self.seen), (40, self.data)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[48..SUM_AT].copy_from_slice(&self.identity);
        let sum = crc32fast::hash(&bytes[..SUM_AT]);
        bytes[SUM_AT..SUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; LEN]) -> io::Result<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if &bytes[..8] != MAGIC {
            return Err(invalid("it is no overlay: it does not begin as one"));
        }
        if word(SUM_AT) != crc32fast::hash(&bytes[..SUM_AT]) {
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
        let identity = bytes[48..SUM_AT].try_into().expect("sixteen bytes");
        let header = Header { phase, bytes: long(16), base_bytes: long(24), seen: long(32), data: long(40), identity };
        header.fits().then_some(header).ok_or_else(|| invalid("the header of the overlay makes no sense"))
    }

    /// Whether the numbers go together.
    fn fits(&self) -> bool {
        let whole = self.bytes > 0 && [self.bytes, self.seen].iter().all(|bytes| bytes.is_multiple_of(512));
        let bits = self.clusters() <= MOST && self.data >= BITS_AT + self.clusters().div_ceil(8);
        let data = self.data.is_multiple_of(CLUSTER) && self.data <= BITS_AT + MOST / 8 + CLUSTER;
        whole && bits && data && self.seen <= self.bytes.min(self.base_bytes)
    }

    /// Refuses any disk but the one that the changes were made to, as it was then.
    pub fn check_base(&self, base: &Header) -> io::Result<()> {
        if self.phase == Phase::Committing {
            // It is on its way to be another.
            return Ok(());
        }
        if self.base_bytes != base.bytes {
            let text =
                format!("the overlay is one of a disk of {} bytes, and this has {}", self.base_bytes, base.bytes);
            return Err(invalid(text));
        }
        if self.identity != base.identity {
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

    /// Where the file ends.
    pub fn end(&self) -> u64 {
        self.data + self.bytes
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
        let header = Header { phase: Phase::Committing, seen: 512, ..Header::new(1 << 40, b"disk").unwrap() };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes).unwrap(), header);
        for at in 0..SUM_AT + 4 {
            let mut damaged = bytes;
            damaged[at] ^= 4;
            assert!(Header::decode(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn numbers_that_do_not_go_together_are_refused() {
        let fine = Header::new(10 * CLUSTER, b"").unwrap();
        for wrong in [
            Header { bytes: 0, seen: 0, ..fine },
            Header { bytes: u64::MAX - 511, ..fine },
            Header { bytes: fine.bytes + 1, ..fine },
            Header { seen: fine.bytes + 512, base_bytes: u64::MAX, ..fine },
            Header { base_bytes: 512, ..fine },
            Header { data: 0, ..fine },
            Header { data: fine.data + 512, ..fine },
            Header { data: u64::MAX - CLUSTER + 1, ..fine },
        ] {
            assert!(Header::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_parts_do_not_overlap() {
        for bytes in [512, CLUSTER, CLUSTER + 512, 1 << 40, MOST * CLUSTER] {
            let header = Header::new(bytes, b"").unwrap();
            assert!(header.data >= BITS_AT + header.clusters().div_ceil(8));
            assert_eq!(header.cluster(header.clusters() - 1).end, bytes);
            assert!(header.resized(bytes.min(1 << 43) * 16).is_ok());
        }
        assert!(Header::new(MOST * CLUSTER + 512, b"").is_err());
        assert!(Header::new(512, b"").unwrap().resized(1 << 42).is_err());
    }
}
