//! What a frontend asks for.

use crate::wire::Abi;
use core::time::Duration;
use xen_abi::blkif::{MAX_INDIRECT_PAGES_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE};

/// The most segments that an indirect request can have.
pub const INDIRECT_SEGMENTS_MAX: u32 = (MAX_INDIRECT_PAGES_PER_REQUEST * SEGMENTS_PER_INDIRECT_PAGE) as u32;
/// The most pages that a ring can have: what Linux takes.
pub const RING_PAGES_MAX: u32 = 16;
/// The most queues that are made.
pub const QUEUES_MAX: u32 = 16;

/// What to ask of a backend. What it does not offer is reduced or left away; [`super::Info`] says what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wishes {
    /// Pages of each ring, 1 to [`RING_PAGES_MAX`]; rounded down to a power of two. A page holds 32 requests.
    pub ring_pages: u32,
    /// Rings with an event channel each, 1 to [`QUEUES_MAX`]. More than one is of use only to backends with many CPUs.
    pub queues: u32,
    /// The most segments, of up to 4 KiB each, in a request; up to [`INDIRECT_SEGMENTS_MAX`]. 11 and below: no indirect
    /// requests.
    pub indirect_segments: u32,
    /// Lets the backend keep pages mapped (`feature-persistent`).
    pub persistent: bool,
    /// How requests are laid out.
    pub abi: Abi,
    /// In which units sectors are counted.
    pub units: Units,
    /// Sends barriers among other requests, and leaves it to the backend to keep apart what is on their two sides, as the
    /// header says it does: for trying backends out. Linux lets later writes pass. Otherwise, what comes after a barrier
    /// is sent once that is answered.
    pub bare_barriers: bool,
    /// The most pages, of 4 KiB, kept for copying data through; at least 32. They are shared as they are needed, and kept.
    pub bounce_pages: u32,
    /// How long a request may wait, until it fails with a report of what is stuck. The report comes at most a quarter
    /// later.
    pub request_timeout: Duration,
    /// How long the backend may take to connect, to come back after it was lost, and to close.
    pub connect_timeout: Duration,
}

impl Default for Wishes {
    /// The best of everything, for one CPU.
    fn default() -> Self {
        Wishes {
            ring_pages: RING_PAGES_MAX,
            queues: 1,
            indirect_segments: 256,
            persistent: true,
            abi: Abi::X86_64,
            units: Units::HEADER,
            bare_barriers: false,
            bounce_pages: 1024,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(60),
        }
    }
}

/// What one is when sectors are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 512 bytes.
    Sector512,
    /// What the backend's key `sector-size` says.
    SectorSize,
}

impl Unit {
    /// Bytes in one, on a disk with such sectors.
    pub fn bytes(self, sector_size: u32) -> u32 {
        match self {
            Unit::Sector512 => 512,
            Unit::SectorSize => sector_size,
        }
    }
}

/// In which units a backend counts. It matters only on disks whose sectors are not of 512 bytes: until 2024 the header
/// could be read in more than one way, and was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Units {
    /// Of the key `sectors`.
    pub sectors: Unit,
    /// Of a request's first sector, and of a discard's length.
    pub sector_number: Unit,
    /// Of the first and last sector within a segment's page.
    pub segment: Unit,
}

impl Units {
    /// As the header says today, and Linux has always done.
    pub const HEADER: Units =
        Units { sectors: Unit::Sector512, sector_number: Unit::Sector512, segment: Unit::Sector512 };
    /// QEMU, Windows and Unikraft.
    pub const QEMU: Units =
        Units { sectors: Unit::SectorSize, sector_number: Unit::SectorSize, segment: Unit::SectorSize };
    /// FreeBSD.
    pub const FREEBSD: Units =
        Units { sectors: Unit::SectorSize, sector_number: Unit::SectorSize, segment: Unit::Sector512 };
    /// Mini-OS.
    pub const MINIOS: Units =
        Units { sectors: Unit::SectorSize, sector_number: Unit::Sector512, segment: Unit::Sector512 };
    /// tapdisk.
    pub const TAPDISK: Units =
        Units { sectors: Unit::Sector512, sector_number: Unit::SectorSize, segment: Unit::Sector512 };

    /// The sets that have a name.
    pub const NAMED: [(&'static str, Units); 5] = [
        ("header", Units::HEADER),
        ("qemu", Units::QEMU),
        ("freebsd", Units::FREEBSD),
        ("minios", Units::MINIOS),
        ("tapdisk", Units::TAPDISK),
    ];

    /// The set of that name.
    pub fn from_name(name: &str) -> Option<Units> {
        Units::NAMED.iter().find(|(named, _)| *named == name).map(|&(_, units)| units)
    }

    /// The set's name, if it has one.
    pub fn name(&self) -> Option<&'static str> {
        Units::NAMED.iter().find(|(_, units)| units == self).map(|&(name, _)| name)
    }
}
