//! The first block of an overlay: what it is, and whose changes it holds.

use super::{CLUSTER, invalid};
use std::io;
use std::ops::Range;

/// Offset of the header, in bytes.
pub const AT: u64 = 0;
/// Length of the header in bytes. Well below a sector, so that it is written wholly or not at all.
pub const LEN: usize = 128;

const MAGIC: &[u8; 8] = b"RSoverl3";
/// The magic of overlays without pending bits.
const OLD_MAGIC: &[u8; 8] = b"RSoverl2";
/// Place of the checksum, which is over all before it.
const SUM_AT: usize = 96;
/// The same in an old one.
const OLD_SUM_AT: usize = 64;
/// Offset of the bits, in bytes.
pub const BITS_AT: u64 = 4096;
/// Most clusters of a disk: one bit for each is kept in memory.
const MAX_CLUSTERS: u64 = 1 << 31;
/// Factor by which a disk can grow, and number of clusters that it can grow to in any case: the
/// room for their bits costs nothing while it is a hole.
const ROOM: (u64, u64) = (16, 1 << 20);

/// Place of the changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// All of them are in the overlay.
    Serving = 0,
    /// They are on their way into the disk below, whose fingerprint therefore does not count.
    Committing = 1,
}

/// Magic (8), phase (4), cluster size (4), length of the disk (8), of the disk below (8), length of
/// its part that is seen (8), offset of the clusters (8), digest of the fingerprint of the disk
/// below (16), offset of the pending bits (8), the machine's run that these count in (16), zeros
/// (8), checksum (4), zeros; little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub phase: Phase,
    /// The length of the disk, in bytes.
    pub bytes: u64,
    /// The length of the disk below when the changes were made to it.
    pub base_bytes: u64,
    /// Bytes of the disk below that are seen; behind them lie zeros: the disk was shorter once.
    pub seen: u64,
    /// Offset of the clusters in the file.
    pub data: u64,
    pub identity: [u8; 16],
    /// Offset of the pending bits, as many as there is room for; 0 in an old overlay without any.
    pub pending: u64,
    /// Run of the machine that the pending bits count in.
    pub boot: [u8; 16],
}

impl Header {
    /// The header of a disk without changes.
    pub fn new(bytes: u64, fingerprint: &[u8]) -> io::Result<Self> {
        let clusters = bytes.div_ceil(CLUSTER);
        if clusters > MAX_CLUSTERS {
            return Err(invalid(format!("a disk of {bytes} bytes is too long for an overlay")));
        }
        let room = (clusters * ROOM.0).max(ROOM.1).min(MAX_CLUSTERS);
        let pending = (BITS_AT + room.div_ceil(8)).next_multiple_of(BITS_AT);
        let data = (pending + room.div_ceil(8)).next_multiple_of(CLUSTER);
        Ok(Header {
            phase: Phase::Serving,
            bytes,
            base_bytes: bytes,
            seen: bytes,
            data,
            identity: digest(fingerprint),
            pending,
            boot: [0; 16],
        })
    }

    /// The header of the same file without changes. Everything stays at its place.
    pub fn emptied(&self, bytes: u64, fingerprint: &[u8]) -> io::Result<Self> {
        let Header { data, pending, boot, .. } = *self;
        Ok(Header { data, pending, boot, ..Header::new(bytes, fingerprint)? })
    }

    /// Clusters that there is room for.
    fn room(&self) -> u64 {
        let end = if self.pending > 0 { self.pending } else { self.data };
        (end.saturating_sub(BITS_AT) * 8).min(MAX_CLUSTERS)
    }

    /// The same with another length, if there is room for it.
    pub fn resized(&self, bytes: u64) -> io::Result<Self> {
        let room = self.room();
        if bytes.div_ceil(CLUSTER) > room {
            let text =
                format!("the overlay has room for {} bytes: commit it first", room * CLUSTER);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Header { bytes, seen: self.seen.min(bytes), ..*self })
    }

    pub fn encode(&self) -> [u8; LEN] {
        let old = self.pending == 0;
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(if old { OLD_MAGIC } else { MAGIC });
        bytes[8..12].copy_from_slice(&(self.phase as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(CLUSTER as u32).to_le_bytes());
        for (at, number) in
            [(16, self.bytes), (24, self.base_bytes), (32, self.seen), (40, self.data)]
        {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[48..64].copy_from_slice(&self.identity);
        if !old {
            bytes[64..72].copy_from_slice(&self.pending.to_le_bytes());
            bytes[72..88].copy_from_slice(&self.boot);
        }
        let sum_at = if old { OLD_SUM_AT } else { SUM_AT };
        let sum = crc32fast::hash(&bytes[..sum_at]);
        bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; LEN]) -> io::Result<Self> {
        let word =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let long =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let id = |at: usize| bytes[at..at + 16].try_into().expect("sixteen bytes");
        let old = &bytes[..8] == OLD_MAGIC;
        if !old && &bytes[..8] != MAGIC {
            return Err(invalid("it is no overlay: it does not begin as one"));
        }
        let sum_at = if old { OLD_SUM_AT } else { SUM_AT };
        if word(sum_at) != crc32fast::hash(&bytes[..sum_at]) {
            return Err(invalid("the header of the overlay is damaged: its checksum is wrong"));
        }
        if u64::from(word(12)) != CLUSTER {
            return Err(invalid(format!(
                "the overlay has clusters of {} bytes; {CLUSTER} are supported",
                word(12)
            )));
        }
        let phase = match word(8) {
            0 => Phase::Serving,
            1 => Phase::Committing,
            other => return Err(invalid(format!("the overlay is in the unknown phase {other}"))),
        };
        let header = Header {
            phase,
            bytes: long(16),
            base_bytes: long(24),
            seen: long(32),
            data: long(40),
            identity: id(48),
            pending: if old { 0 } else { long(64) },
            boot: if old { [0; 16] } else { id(72) },
        };
        (header.fits() && old == (header.pending == 0))
            .then_some(header)
            .ok_or_else(|| invalid("the header of the overlay makes no sense"))
    }

    /// Returns true if the numbers go together.
    fn fits(&self) -> bool {
        let whole =
            self.bytes > 0 && [self.bytes, self.seen].iter().all(|bytes| bytes.is_multiple_of(512));
        let bits_len = self.clusters().div_ceil(8);
        let bits_end = BITS_AT + bits_len.min(MAX_CLUSTERS);
        let pending_end = match self.pending {
            0 => bits_end,
            at => at.saturating_add(bits_len),
        };
        let bits = self.clusters() <= MAX_CLUSTERS
            && self.data >= pending_end
            && (self.pending == 0 || self.pending >= bits_end);
        let data = self.data.is_multiple_of(CLUSTER)
            && self.data <= BITS_AT + 2 * (MAX_CLUSTERS / 8) + 2 * CLUSTER;
        whole && bits && data && self.seen <= self.bytes.min(self.base_bytes)
    }

    /// Refuses any disk but the one that the changes were made to, as it was then.
    pub fn check_base(&self, base: &Header) -> io::Result<()> {
        if self.phase == Phase::Committing {
            // It is on its way to be another.
            return Ok(());
        }
        if self.base_bytes != base.bytes {
            let text = format!(
                "the overlay is one of a disk of {} bytes, and this has {}",
                self.base_bytes, base.bytes
            );
            return Err(invalid(text));
        }
        if self.identity != base.identity {
            return Err(invalid(
                "the overlay is one of another disk, or the disk below was written since: \
                 if its changes are right for this one all the same, xen-disk rebase says so",
            ));
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

    /// Offset of the end of the file.
    pub fn end(&self) -> u64 {
        self.data + self.bytes
    }
}

/// Hashes any number of bytes to sixteen (FNV-1a). Not against forgers: against mistakes.
pub fn digest(fingerprint: &[u8]) -> [u8; 16] {
    const START: u128 = 0x6c62272e07bb014262b821756295c58d;
    const PRIME: u128 = 0x1000000000000000000013b;
    fingerprint
        .iter()
        .fold(START, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_and_damage_is_seen() {
        let header = Header {
            phase: Phase::Committing,
            seen: 512,
            ..Header::new(1 << 40, b"disk").unwrap()
        };
        let old = Header { pending: 0, ..header };
        for (header, sum_at) in [(Header { boot: [7; 16], ..header }, SUM_AT), (old, OLD_SUM_AT)] {
            let bytes = header.encode();
            assert_eq!(Header::decode(&bytes).unwrap(), header);
            for at in 0..sum_at + 4 {
                let mut damaged = bytes;
                damaged[at] ^= 4;
                assert!(Header::decode(&damaged).is_err(), "byte {at}");
            }
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
            Header { pending: BITS_AT, ..fine },
            Header { pending: fine.data, ..fine },
            Header { pending: u64::MAX, ..fine },
            Header { data: fine.data + 512, ..fine },
            Header { data: u64::MAX - CLUSTER + 1, ..fine },
        ] {
            assert!(Header::decode(&wrong.encode()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_parts_do_not_overlap() {
        for bytes in [512, CLUSTER, CLUSTER + 512, 1 << 40, MAX_CLUSTERS * CLUSTER] {
            let header = Header::new(bytes, b"").unwrap();
            assert!(header.pending >= BITS_AT + header.clusters().div_ceil(8));
            assert!(header.data >= header.pending + header.clusters().div_ceil(8));
            assert_eq!(header.cluster(header.clusters() - 1).end, bytes);
            assert!(header.resized(bytes.min(1 << 43) * 16).is_ok());
        }
        assert!(Header::new(MAX_CLUSTERS * CLUSTER + 512, b"").is_err());
        assert!(Header::new(512, b"").unwrap().resized(1 << 42).is_err());
    }
}
