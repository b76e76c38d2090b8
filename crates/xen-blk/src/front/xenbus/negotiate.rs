//! The backend's keys, parsed and checked.

use crate::front::config::Config;
use crate::front::config::{INDIRECT_SEGMENTS_MAX, QUEUES_MAX, RING_PAGES_MAX};
use crate::front::error::PeerError;
use crate::front::note::Note;
use crate::protocol::{DiscardInfo, Unit, Units};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use xen_abi::blkif::{
    MAX_INDIRECT_PAGES_PER_REQUEST, MAX_SEGMENTS_PER_REQUEST, VDISK_CDROM, VDISK_READONLY,
    VDISK_REMOVABLE,
};
use xen_platform::PAGE_SIZE;

/// Keys that a frontend needs before it creates its rings.
pub(crate) const RING_KEYS: &[&str] =
    &["max-ring-page-order", "max-ring-pages", "multi-queue-max-queues"];

/// Keys that the backend has written once it is connected.
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

/// Keys of the backend with their values, without those that are missing.
pub(crate) struct BackendKeys {
    values: Vec<(&'static str, String)>,
    /// Faults that were worked around.
    pub notes: Vec<Note>,
}

impl BackendKeys {
    pub fn new(values: Vec<(&'static str, String)>) -> Self {
        BackendKeys { values, notes: Vec::new() }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the number at `key`. One that is malformed or outside `range` counts as missing,
    /// with a note.
    fn number(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.get(key)?;
        let number = parse_number(value).filter(|number| range.contains(number));
        if number.is_none() {
            let value = shorten(value);
            self.notes.push(Note::Key { key, value });
        }
        number
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.number(key, 0..=1) == Some(1)
    }

    /// Returns the number at `key`, without which the disk cannot be used.
    fn required(
        &self,
        key: &'static str,
        expected: &'static str,
        good: impl Fn(u64) -> bool,
    ) -> Result<u64, PeerError> {
        let value = self.get(key).ok_or(PeerError::NoKey { key })?;
        let wrong = || PeerError::Key { key, value: shorten(value), expected };
        parse_number(value).filter(|&number| good(number)).ok_or_else(wrong)
    }
}

/// Parses a decimal number.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    // `parse` alone would take a plus sign as well.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns the beginning of a value, for a report.
pub(crate) fn shorten(value: &str) -> String {
    (0..=value.len().min(40)).rev().find_map(|end| value.get(..end)).unwrap_or_default().into()
}

/// The rings to create.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingPlan {
    /// Number of pages of each: a power of two.
    pub pages: u32,
    pub queues: u32,
}

impl RingPlan {
    /// Plans the requested rings, as far as the backend takes them.
    pub fn new(keys: &mut BackendKeys, config: &Config) -> RingPlan {
        let offered = match keys.number("max-ring-page-order", 0..=31) {
            Some(order) => 1 << order.min(4),
            None => {
                keys.number("max-ring-pages", 1..=u64::from(u32::MAX)).unwrap_or(1).min(16) as u32
            }
        };
        let pages = config.ring_pages.clamp(1, RING_PAGES_MAX).min(offered);
        let queues = keys.number("multi-queue-max-queues", 1..=u64::from(u32::MAX)).unwrap_or(1);
        let queues = u64::from(config.queues.clamp(1, QUEUES_MAX)).min(queues) as u32;
        RingPlan { pages: 1 << pages.ilog2(), queues }
    }
}

/// The disk's size and the backend's features.
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
    /// Largest number of segments in an indirect request; 0 without indirect requests.
    pub indirect_segments: u32,
    pub persistent: bool,
}

impl Offer {
    /// Parses the keys, and leaves out features that are not requested.
    pub fn new(keys: &mut BackendKeys, config: &Config) -> Result<Offer, PeerError> {
        let sector_size = sector_size(keys)?;
        let physical = keys.number("physical-sector-size", u64::from(sector_size)..=1 << 30);
        let info = keys.number("info", 0..=u64::from(u32::MAX));
        // Without `info` the toolstack's own key has to do.
        let info =
            info.unwrap_or(if keys.get("mode") == Some("r") { VDISK_READONLY.into() } else { 0 })
                as u32;
        let indirect =
            keys.number("feature-max-indirect-segments", 0..=u64::from(u32::MAX)).unwrap_or(0);
        let indirect =
            indirect.min(config.indirect_segments.min(INDIRECT_SEGMENTS_MAX).into()) as u32;
        Ok(Offer {
            sectors: sectors(keys, sector_size, config.units)?,
            sector_size,
            physical_sector_size: physical.unwrap_or(sector_size.into()) as u32,
            read_only: info & VDISK_READONLY != 0,
            removable: info & VDISK_REMOVABLE != 0,
            cdrom: info & VDISK_CDROM != 0,
            flush: keys.flag("feature-flush-cache"),
            barrier: keys.flag("feature-barrier"),
            discard: discard(keys, sector_size),
            indirect_segments: if indirect as usize > MAX_SEGMENTS_PER_REQUEST {
                indirect
            } else {
                0
            },
            persistent: config.persistent && keys.flag("feature-persistent"),
        })
    }
}

/// Returns the sector size: at most a page, since a segment names sectors within a page.
fn sector_size(keys: &BackendKeys) -> Result<u32, PeerError> {
    let expected = "512, 1024, 2048 or 4096";
    match keys.get("sector-size") {
        None => Ok(512),
        Some(_) => Ok(keys.required("sector-size", expected, |n| {
            n.is_power_of_two() && (512..=4096).contains(&n)
        })? as u32),
    }
}

fn sectors(keys: &BackendKeys, sector_size: u32, units: Units) -> Result<u64, PeerError> {
    let unit = u64::from(units.sectors.bytes(sector_size));
    // Bytes must not overflow, so that nothing that is computed from them does.
    let sectors = keys.required("sectors", "the size of a disk of less than 2^63 bytes", |n| {
        n < (1 << 63) / unit
    })?;
    let sectors = sectors * (unit / 512);
    Ok(sectors - sectors % u64::from(sector_size / 512))
}

fn discard(keys: &mut BackendKeys, sector_size: u32) -> Option<DiscardInfo> {
    let most = u64::from(u32::MAX);
    keys.flag("feature-discard").then(|| DiscardInfo {
        granularity: keys.number("discard-granularity", 1..=most).unwrap_or(sector_size.into())
            as u32,
        alignment: keys.number("discard-alignment", 0..=most).unwrap_or(0) as u32,
        secure: keys.flag("discard-secure"),
    })
}

/// The size of a request, and the units that it counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub sector_size: u32,
    /// Largest number of segments of a read or write.
    pub segments: u32,
    pub indirect: bool,
    /// Number of sectors of 512 bytes in one unit of a request's sector number.
    pub number_unit: u64,
    /// Number of bytes in one unit of a segment's first and last sector.
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

    /// Returns the largest number of segments of a request that uses at most `pages` bounce pages,
    /// those with the list of segments included.
    pub fn bounced_segments(&self, pages: usize) -> u32 {
        let lists = if self.indirect { MAX_INDIRECT_PAGES_PER_REQUEST } else { 0 };
        self.segments.min((pages - lists) as u32)
    }

    /// Returns the largest number of bytes that one request moves through `pages` bounce pages.
    pub fn max_transfer(&self, pages: usize) -> usize {
        self.bounced_segments(pages) as usize * PAGE_SIZE
    }
}
