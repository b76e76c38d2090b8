//! What the backend's keys say, checked.

use super::{DiscardInfo, Note, PeerError, Unit, Units, Wishes};
use super::{INDIRECT_SEGMENTS_MAX, QUEUES_MAX, RING_PAGES_MAX};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use xen_abi::blkif::{
    MAX_INDIRECT_PAGES_PER_REQUEST, MAX_SEGMENTS_PER_REQUEST, VDISK_CDROM, VDISK_READONLY, VDISK_REMOVABLE,
};
use xen_platform::PAGE_SIZE;

/// The keys that a frontend needs before it makes its rings.
pub(crate) const RING_KEYS: &[&str] = &["max-ring-page-order", "max-ring-pages", "multi-queue-max-queues"];

/// The keys that the backend has written once it is connected.
pub(crate) const DISK_KEYS: &[&str] = &[
    "feature-persistent",
    "feature-max-indirect-segments",
    "feature-flush-cache",
    "feature-barrier",
    "feature-discard",
    "discard-granularity",
    "discard-alignment",
    "discard-secure",
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "mode",
];

/// Keys and their values. Missing keys are missing here, too.
pub(crate) struct Found {
    values: Vec<(&'static str, String)>,
    /// Keys that were passed over.
    pub notes: Vec<Note>,
}

impl Found {
    pub fn new(values: Vec<(&'static str, String)>) -> Self {
        Found { values, notes: Vec::new() }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(found, _)| *found == key).map(|(_, value)| value.as_str())
    }

    /// The number at `key`. What is no number, or not in `range`, is passed over with a note.
    fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let number = number(value).filter(|number| range.contains(number));
        if number.is_none() {
            let value = short(value);
            self.notes.push(Note::Key { key, value });
        }
        number
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.number(key, 0..=1) == Some(1)
    }

    /// The number at `key`, without which the disk cannot be used.
    fn needed(&self, key: &'static str, expected: &'static str, good: impl Fn(u64) -> bool) -> Result<u64, PeerError> {
        let value = self.get(key).ok_or(PeerError::NoKey { key })?;
        let wrong = || PeerError::Key { key, value: short(value), expected };
        number(value).filter(|&number| good(number)).ok_or_else(wrong)
    }
}

/// The number that the text is, in decimal.
pub(crate) fn number(text: &str) -> Option<u64> {
    // `parse` alone would take a plus sign as well.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The beginning of a value, for a report.
pub(crate) fn short(value: &str) -> String {
    let end = (0..=value.len().min(40)).rev().find(|&end| value.is_char_boundary(end));
    value[..end.unwrap_or(0)].into()
}

/// The rings to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingPlan {
    /// Pages of each: a power of two.
    pub pages: u32,
    pub queues: u32,
}

impl RingPlan {
    /// What is wished for, as far as the backend takes it.
    pub fn new(found: &mut Found, wishes: &Wishes) -> RingPlan {
        let offered = match found.number("max-ring-page-order", 0..=31) {
            Some(order) => 1 << order.min(4),
            None => found.number("max-ring-pages", 1..=u64::from(u32::MAX)).unwrap_or(1).min(16) as u32,
        };
        let pages = wishes.ring_pages.clamp(1, RING_PAGES_MAX).min(offered);
        let queues = found.number("multi-queue-max-queues", 1..=u64::from(u32::MAX)).unwrap_or(1);
        let queues = u64::from(wishes.queues.clamp(1, QUEUES_MAX)).min(queues) as u32;
        RingPlan { pages: 1 << pages.ilog2(), queues }
    }
}

/// The disk and what its backend can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// In sectors of 512 bytes.
    pub sectors: u64,
    pub sector_size: u32,
    pub physical_sector_size: u32,
    pub read_only: bool,
    pub removable: bool,
    pub cdrom: bool,
    pub flush: bool,
    pub barrier: bool,
    pub discard: Option<DiscardInfo>,
    /// The most segments in an indirect request; 0 if there are none.
    pub indirect_segments: u32,
    pub persistent: bool,
}

impl Offer {
    /// Reads the disk's size and the features out of the keys, reduced to what is wished for.
    pub fn new(found: &mut Found, wishes: &Wishes) -> Result<Offer, PeerError> {
        let sector_size = sector_size(found)?;
        let physical = found.number("physical-sector-size", u64::from(sector_size)..=1 << 30);
        let info = found.number("info", 0..=u64::from(u32::MAX));
        // Without `info` the toolstack's own key has to do.
        let info = info.unwrap_or(if found.get("mode") == Some("r") { VDISK_READONLY.into() } else { 0 }) as u32;
        let indirect = found.number("feature-max-indirect-segments", 0..=u64::from(u32::MAX)).unwrap_or(0);
        let indirect = indirect.min(wishes.indirect_segments.min(INDIRECT_SEGMENTS_MAX).into()) as u32;
        Ok(Offer {
            sectors: sectors(found, sector_size, wishes.units)?,
            sector_size,
            physical_sector_size: physical.unwrap_or(sector_size.into()) as u32,
            read_only: info & VDISK_READONLY != 0,
            removable: info & VDISK_REMOVABLE != 0,
            cdrom: info & VDISK_CDROM != 0,
            flush: found.flag("feature-flush-cache"),
            barrier: found.flag("feature-barrier"),
            discard: discard(found, sector_size),
            indirect_segments: if indirect as usize > MAX_SEGMENTS_PER_REQUEST { indirect } else { 0 },
            persistent: wishes.persistent && found.flag("feature-persistent"),
        })
    }
}

/// A segment names sectors within a page, so none can be larger.
fn sector_size(found: &Found) -> Result<u32, PeerError> {
    let expected = "512, 1024, 2048 or 4096";
    match found.get("sector-size") {
        None => Ok(512),
        Some(_) => {
            Ok(found.needed("sector-size", expected, |n| n.is_power_of_two() && (512..=4096).contains(&n))? as u32)
        }
    }
}

fn sectors(found: &Found, sector_size: u32, units: Units) -> Result<u64, PeerError> {
    let unit = u64::from(units.sectors.bytes(sector_size));
    // Bytes must not overflow, so that nothing that is computed from them does.
    let sectors = found.needed("sectors", "the size of a disk of less than 2^63 bytes", |n| n < (1 << 63) / unit)?;
    let sectors = sectors * (unit / 512);
    Ok(sectors - sectors % u64::from(sector_size / 512))
}

fn discard(found: &mut Found, sector_size: u32) -> Option<DiscardInfo> {
    let most = u64::from(u32::MAX);
    found.flag("feature-discard").then(|| DiscardInfo {
        granularity: found.number("discard-granularity", 1..=most).unwrap_or(sector_size.into()) as u32,
        alignment: found.number("discard-alignment", 0..=most).unwrap_or(0) as u32,
        secure: found.flag("discard-secure"),
    })
}

/// How much one request can move, and in which units it says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub sector_size: u32,
    /// The most segments of a read or write.
    pub segments: u32,
    pub indirect: bool,
    /// Sectors of 512 bytes in one unit of a request's sector number.
    pub number_unit: u64,
    /// Bytes in one unit of a segment's first and last sector.
    pub segment_unit: u32,
}

impl Limits {
    pub fn new(sector_size: u32, indirect_segments: u32, units: Units) -> Limits {
        let bytes = |unit: Unit| unit.bytes(sector_size);
        Limits {
            sector_size,
            segments: indirect_segments.max(MAX_SEGMENTS_PER_REQUEST as u32),
            indirect: indirect_segments > 0,
            number_unit: u64::from(bytes(units.sector_number) / 512),
            segment_unit: bytes(units.segment),
        }
    }

    /// The most segments of a request whose data goes through `pages` pages at most, those with the list included.
    pub fn bounced_segments(&self, pages: usize) -> u32 {
        let lists = if self.indirect { MAX_INDIRECT_PAGES_PER_REQUEST } else { 0 };
        self.segments.min((pages - lists) as u32)
    }

    /// The most bytes that one request moves through so many pages.
    pub fn max_transfer(&self, pages: usize) -> usize {
        self.bounced_segments(pages) as usize * PAGE_SIZE
    }
}
