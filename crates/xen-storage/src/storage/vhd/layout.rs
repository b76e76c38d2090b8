//! The footer and the header of a VHD image, whose numbers are big-endian.

use super::super::file::whole_sectors;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const SECTOR: u64 = 512;
pub const FOOTER_LEN: usize = 512;
pub const HEADER_LEN: usize = 1024;
/// The table's entry of a block that is not there.
pub const NO_BLOCK: u32 = u32::MAX;

/// Bytes of the blocks of images that are made here.
const BLOCK: u32 = 2 << 20;
/// The most bytes of a dynamic disk that others can read.
const MAX_BYTES: u64 = 2040 << 30;

/// Hyper-V's name, which QEMU's images of an exact length bear as well: of an image by anybody that
/// it does not know, QEMU believes the geometry, and that is often a little less than the length.
const CREATOR: &[u8; 4] = b"win ";

/// Time that footers count from: the year 2000, in seconds since 1970.
const EPOCH: Duration = Duration::from_secs(946_684_800);

/// Returns a new random UUID (RFC 9562, version 4).
fn uuid() -> io::Result<[u8; 16]> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(id)
}

/// The most entries of a table, which is kept in memory: enough for a disk of the greatest length
/// in blocks of 128 KiB.
const MAX_BLOCKS: u32 = 1 << 24;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Fixed = 2,
    Dynamic = 3,
}

/// The footer. Its other bytes stay as they were.
#[derive(Clone, PartialEq, Debug)]
pub struct Footer {
    pub kind: Kind,
    /// The length of the disk.
    pub bytes: u64,
    /// Offset of the header.
    pub data: u64,
    raw: [u8; FOOTER_LEN],
}

impl Footer {
    /// Returns the footer of a new dynamic image of `bytes`.
    pub fn dynamic(bytes: u64) -> io::Result<Self> {
        whole_sectors(bytes, SECTOR as u32)?;
        if bytes > MAX_BYTES {
            return Err(invalid(format!("{bytes} bytes are too many: {MAX_BYTES} are the most")));
        }
        let mut raw = [0; FOOTER_LEN];
        raw[..8].copy_from_slice(b"conectix");
        raw[8..12].copy_from_slice(&2u32.to_be_bytes());
        raw[12..16].copy_from_slice(&0x1_0000u32.to_be_bytes());
        raw[16..24].copy_from_slice(&(FOOTER_LEN as u64).to_be_bytes());
        let since = SystemTime::now().duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default();
        raw[24..28].copy_from_slice(&(since.as_secs() as u32).to_be_bytes());
        raw[28..32].copy_from_slice(CREATOR);
        raw[68..84].copy_from_slice(&uuid()?);
        raw[40..48].copy_from_slice(&bytes.to_be_bytes());
        raw[48..56].copy_from_slice(&bytes.to_be_bytes());
        raw[56..60].copy_from_slice(&geometry(bytes / SECTOR));
        raw[60..64].copy_from_slice(&(Kind::Dynamic as u32).to_be_bytes());
        let sum = checksum(&raw, 64);
        raw[64..68].copy_from_slice(&sum.to_be_bytes());
        Self::decode(&raw)
    }

    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        self.raw
    }

    pub fn decode(raw: &[u8; FOOTER_LEN]) -> io::Result<Self> {
        if &raw[..8] != b"conectix" {
            return Err(invalid("it is no VHD image: there is no footer at its end"));
        }
        if word(raw, 64) != checksum(raw, 64) {
            return Err(invalid("the footer of the VHD image is damaged: its checksum is wrong"));
        }
        let kind = match word(raw, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => {
                return Err(invalid(
                    "a differencing VHD image cannot be served: merge it into its parent",
                ));
            }
            other => return Err(invalid(format!("there is no VHD image of the type {other}"))),
        };
        let bytes = whole_sectors(long(raw, 48), SECTOR as u32)?;
        Ok(Footer { kind, bytes, data: long(raw, 16), raw: *raw })
    }
}

/// The header of a dynamic image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Offset of the table.
    pub table: u64,
    /// Number of blocks.
    pub blocks: u32,
    /// Bytes of each.
    pub block: u32,
}

impl Header {
    pub fn new(bytes: u64) -> Self {
        let blocks = bytes.div_ceil(BLOCK.into()) as u32;
        Header { table: (FOOTER_LEN + HEADER_LEN) as u64, blocks, block: BLOCK }
    }

    /// The table's length in the file: whole sectors.
    pub fn table_len(&self) -> usize {
        (self.blocks as usize * 4).next_multiple_of(SECTOR as usize)
    }

    /// The length of a block's bitmap in the file: whole sectors.
    pub fn bitmap_len(&self) -> u64 {
        (u64::from(self.block) / SECTOR / 8).next_multiple_of(SECTOR)
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut raw = [0; HEADER_LEN];
        raw[..8].copy_from_slice(b"cxsparse");
        raw[8..16].fill(0xff);
        raw[16..24].copy_from_slice(&self.table.to_be_bytes());
        raw[24..28].copy_from_slice(&0x1_0000u32.to_be_bytes());
        raw[28..32].copy_from_slice(&self.blocks.to_be_bytes());
        raw[32..36].copy_from_slice(&self.block.to_be_bytes());
        let sum = checksum(&raw, 36);
        raw[36..40].copy_from_slice(&sum.to_be_bytes());
        raw
    }

    /// Reads the header of an image of a disk of `bytes`.
    pub fn decode(raw: &[u8; HEADER_LEN], bytes: u64) -> io::Result<Self> {
        if &raw[..8] != b"cxsparse" || word(raw, 36) != checksum(raw, 36) {
            return Err(invalid("the header of the VHD image is damaged"));
        }
        let header = Header { table: long(raw, 16), blocks: word(raw, 28), block: word(raw, 32) };
        if !header.block.is_power_of_two() || !(4096..=64 << 20).contains(&header.block) {
            return Err(invalid(format!("the VHD image has blocks of {} bytes", header.block)));
        }
        // An image can have a longer table than its disk needs.
        let needed = bytes.div_ceil(header.block.into());
        if u64::from(header.blocks) < needed || header.blocks > MAX_BLOCKS {
            return Err(invalid(format!(
                "the VHD image has {} blocks, and its disk {needed}",
                header.blocks
            )));
        }
        Ok(header)
    }
}

/// All bytes but those of the checksum itself, added up and inverted.
fn checksum(raw: &[u8], at: usize) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    !(sum(raw) - sum(&raw[at..at + 4]))
}

/// Cylinders, heads and sectors, as the specification's appendix has them.
fn geometry(sectors: u64) -> [u8; 4] {
    let total = sectors.min(65535 * 16 * 255) as u32;
    let (mut per_track, mut heads) = (17, (total / 17).div_ceil(1024).max(4));
    if heads > 16 || total / per_track >= heads * 1024 {
        (per_track, heads) = (31, 16);
    }
    if total / per_track >= heads * 1024 {
        per_track = if total >= 65535 * 16 * 63 { 255 } else { 63 };
    }
    let [high, low] = ((total / per_track / heads) as u16).to_be_bytes();
    [high, low, heads as u8, per_track as u8]
}

fn word(raw: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(raw[at..at + 4].try_into().expect("four bytes"))
}

fn long(raw: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(raw[at..at + 8].try_into().expect("eight bytes"))
}

pub fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_encoded_decodes_and_damage_is_seen() {
        let footer = Footer::dynamic(5 << 30).unwrap();
        assert_eq!(Footer::decode(&footer.encode()).unwrap(), footer);
        let header = Header::new(5 << 30);
        assert_eq!(Header::decode(&header.encode(), 5 << 30).unwrap(), header);
        assert!(Header::decode(&header.encode(), 6 << 30).is_err(), "there are too few blocks");
        for at in [0, 50, 63, 64, 100, 511] {
            let mut raw = footer.encode();
            raw[at] ^= 1;
            assert!(Footer::decode(&raw).is_err(), "byte {at}");
        }
        assert!(Footer::dynamic(3 << 40).is_err() && Footer::dynamic(100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(seed: u64, len in 0u64..1 << 40) {
            let mut raw = [0; HEADER_LEN];
            raw[..8].copy_from_slice(b"cxsparse");
            raw[16..24].copy_from_slice(&seed.to_be_bytes());
            raw[28..36].copy_from_slice(&seed.rotate_left(17).to_be_bytes());
            let sum = checksum(&raw, 36);
            raw[36..40].copy_from_slice(&sum.to_be_bytes());
            if let Ok(header) = Header::decode(&raw, len) {
                prop_assert!(header.table_len() < 1 << 30);
            }
        }
    }
}
