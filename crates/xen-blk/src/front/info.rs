//! Properties and counters of a disk.

use crate::front::note::Note;
use crate::front::xenbus::negotiate::{Offer, RingPlan};
use crate::protocol::wire::Abi;
use crate::protocol::{DiscardInfo, Units, vdev};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use xen_platform::DomId;

/// Properties of a disk and its connection at a moment. Sectors are of 512 bytes unless noted
/// otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The disk's number; [`crate::protocol::vdev::name`] gives its name.
    pub vdev: u32,
    /// The backend's domain.
    pub backend: DomId,
    /// The backend's folder in xenstore.
    pub backend_path: String,
    /// The disk's size, in sectors of 512 bytes whatever its own are.
    pub sectors: u64,
    /// Bytes in one of its sectors: the smallest read or write.
    pub sector_size: u32,
    /// Bytes in one sector of the medium below; smaller writes are slow.
    pub physical_sector_size: u32,
    /// It cannot be written.
    pub read_only: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// It is a CD-ROM drive.
    pub cdrom: bool,
    /// The backend takes flushes.
    pub flush: bool,
    /// The backend takes barriers.
    pub barrier: bool,
    /// Parameters of discards, if the backend takes them.
    pub discard: Option<DiscardInfo>,
    /// Largest number of segments of a request; 0 without indirect requests, when it is 11.
    pub indirect_segments: u32,
    /// Number of pages of each ring.
    pub ring_pages: u32,
    /// Number of rings.
    pub queues: u32,
    /// The backend keeps the pages mapped.
    pub persistent: bool,
    /// Layout of requests.
    pub abi: Abi,
    /// Units in which sectors are counted.
    pub units: Units,
    /// Largest number of bytes that one request moves; longer reads and writes become several.
    pub max_transfer: usize,
    /// Faults of the backend that were worked around, in the order of their discovery.
    pub notes: Vec<Note>,
}

impl Info {
    /// Describes a disk that is not connected yet.
    pub(crate) fn new(
        vdev: u32,
        backend: DomId,
        backend_path: String,
        abi: Abi,
        units: Units,
    ) -> Info {
        Info {
            vdev,
            backend,
            backend_path,
            sectors: 0,
            sector_size: 512,
            physical_sector_size: 512,
            read_only: false,
            removable: false,
            cdrom: false,
            flush: false,
            barrier: false,
            discard: None,
            indirect_segments: 0,
            ring_pages: 0,
            queues: 0,
            persistent: false,
            abi,
            units,
            max_transfer: 0,
            notes: Vec::new(),
        }
    }

    /// Returns its numbers with their names; what is true or false is 1 or 0.
    pub fn numbers(&self) -> [(&'static str, u64); 17] {
        let discard = self.discard;
        [
            ("sectors", self.sectors),
            ("sector_size", self.sector_size.into()),
            ("physical_sector_size", self.physical_sector_size.into()),
            ("read_only", self.read_only.into()),
            ("removable", self.removable.into()),
            ("cdrom", self.cdrom.into()),
            ("flush", self.flush.into()),
            ("barrier", self.barrier.into()),
            ("discard", discard.is_some().into()),
            ("discard_granularity", discard.map_or(0, |discard| discard.granularity.into())),
            ("discard_alignment", discard.map_or(0, |discard| discard.alignment.into())),
            ("discard_secure", discard.is_some_and(|discard| discard.secure).into()),
            ("indirect_segments", self.indirect_segments.into()),
            ("ring_pages", self.ring_pages.into()),
            ("queues", self.queues.into()),
            ("persistent", self.persistent.into()),
            ("max_transfer", self.max_transfer as u64),
        ]
    }

    /// Takes over the properties of a new connection.
    pub(crate) fn connected(&mut self, plan: RingPlan, offer: &Offer, max_transfer: usize) {
        self.refresh(offer);
        self.sector_size = offer.sector_size;
        (self.flush, self.barrier, self.discard) = (offer.flush, offer.barrier, offer.discard);
        (self.indirect_segments, self.persistent) = (offer.indirect_segments, offer.persistent);
        (self.ring_pages, self.queues, self.max_transfer) = (plan.pages, plan.queues, max_transfer);
    }

    /// Takes over the properties that can change while a disk is connected.
    pub(crate) fn refresh(&mut self, offer: &Offer) {
        (self.sectors, self.read_only) = (offer.sectors, offer.read_only);
        (self.removable, self.cdrom) = (offer.removable, offer.cdrom);
        self.physical_sector_size = offer.physical_sector_size;
    }

    /// Adds the notes that are new.
    pub(crate) fn add_notes(&mut self, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            if !self.notes.contains(&note) {
                log::warn!("{}: the backend {}: {note}", vdev::name(self.vdev), self.backend_path);
                self.notes.push(note);
            }
        }
    }
}

/// Shows the disk in a line.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, sectors of {} bytes", self.sectors / 2048, self.sector_size)?;
        for (has, word) in [
            (self.read_only, ", read-only"),
            (self.removable, ", removable"),
            (self.cdrom, ", CD-ROM"),
            (self.flush, ", flush"),
            (self.barrier, ", barrier"),
            (self.discard.is_some(), ", discard"),
            (self.persistent, ", persistent"),
        ] {
            if has {
                f.write_str(word)?;
            }
        }
        let (pages, queues, kib) = (self.ring_pages, self.queues, self.max_transfer / 1024);
        write!(f, "; {queues} rings of {pages} pages, {kib} KiB a request")
    }
}

/// Counters of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Requests put on the rings, those sent again to a restarted backend included.
    pub requests: u64,
    /// Responses taken from the rings.
    pub responses: u64,
    /// Number of responses with an error.
    pub failed: u64,
    /// Events sent to the backend.
    pub events_sent: u64,
    /// Events that came from it.
    pub events_received: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Requests in flight now.
    pub in_flight: u32,
    /// Largest number of requests in flight so far.
    pub max_in_flight: u32,
    /// Number of times that a request had to wait for room on a ring or for pages.
    pub waits: u64,
    /// Requests without a response within the timeout.
    pub timed_out: u64,
    /// Pages shared for copying data through.
    pub bounce_pages: u32,
}
