//! What is known of a disk.

use super::bus::Bus;
use super::offer::{Offer, RingPlan};
use super::{Op, Units, Wishes};
use crate::wire::Abi;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use xen_platform::DomId;

/// A disk and its connection, as they are at a moment. Sectors are of 512 bytes unless it is said otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The disk's number; [`super::name`] gives its name.
    pub vdev: u32,
    /// The backend's domain.
    pub backend: DomId,
    /// The backend's folder in xenstore.
    pub backend_path: String,
    /// The disk's size, in sectors of 512 bytes whatever its own are.
    pub sectors: u64,
    /// Bytes in one of its sectors: what it can read or write at least.
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
    /// How the backend takes discards, if it does.
    pub discard: Option<DiscardInfo>,
    /// The most segments in a request; 0 if indirect requests are not used, and 11 is the most.
    pub indirect_segments: u32,
    /// Pages of each ring.
    pub ring_pages: u32,
    /// How many rings there are.
    pub queues: u32,
    /// The backend keeps the pages mapped.
    pub persistent: bool,
    /// How requests are laid out.
    pub abi: Abi,
    /// In which units sectors are counted.
    pub units: Units,
    /// The most bytes that one request moves; longer reads and writes become several.
    pub max_transfer: usize,
    /// What was found wrong with the backend and worked around, in the order in which it was found.
    pub notes: Vec<Note>,
}

impl Info {
    /// A disk that is not connected yet.
    pub(crate) fn new(vdev: u32, bus: &Bus, wishes: &Wishes) -> Info {
        Info {
            vdev,
            backend: bus.backend,
            backend_path: bus.back.clone(),
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
            abi: wishes.abi,
            units: wishes.units,
            max_transfer: 0,
            notes: Vec::new(),
        }
    }

    /// What a connection brings.
    pub(crate) fn connected(&mut self, plan: RingPlan, offer: &Offer, max_transfer: usize) {
        self.refresh(offer);
        self.sector_size = offer.sector_size;
        (self.flush, self.barrier, self.discard) = (offer.flush, offer.barrier, offer.discard);
        (self.indirect_segments, self.persistent) = (offer.indirect_segments, offer.persistent);
        (self.ring_pages, self.queues, self.max_transfer) = (plan.pages, plan.queues, max_transfer);
    }

    /// What can change while a disk is connected.
    pub(crate) fn refresh(&mut self, offer: &Offer) {
        (self.sectors, self.read_only) = (offer.sectors, offer.read_only);
        (self.removable, self.cdrom) = (offer.removable, offer.cdrom);
        self.physical_sector_size = offer.physical_sector_size;
    }

    /// Notes what was not noted before.
    pub(crate) fn add_notes(&mut self, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            if !self.notes.contains(&note) {
                log::warn!("{}: the backend {}: {note}", super::name(self.vdev), self.backend_path);
                self.notes.push(note);
            }
        }
    }
}

/// How a backend takes discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardInfo {
    /// Bytes that are discarded as one.
    pub granularity: u32,
    /// Where the first such piece begins, in bytes.
    pub alignment: u32,
    /// It can discard so that nothing can be read again by any means.
    pub secure: bool,
}

/// Something wrong with a backend that was worked around.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// A key is not a number in its range; it was taken as if it were missing.
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// It offers an operation, and refused it as one that it does not know; it is not used any more.
    Refused(Op),
    /// It offers indirect requests, and refused one as an operation that it does not know; they are not used any more.
    RefusedIndirect,
    /// It was started anew; the requests it had not answered were sent again.
    Restarted,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Key { key, value } => write!(f, "its key {key} is {value:?}, and was passed over"),
            Note::Refused(op) => write!(f, "it offers {op}, but does not know it"),
            Note::RefusedIndirect => f.write_str("it offers indirect requests, but does not know them"),
            Note::Restarted => f.write_str("it was started anew"),
        }
    }
}

/// What a disk has done so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Requests put on the rings, those sent again to a restarted backend included.
    pub requests: u64,
    /// Answers taken from them.
    pub responses: u64,
    /// Of these, how many said that it failed.
    pub failed: u64,
    /// Events sent to the backend.
    pub events_sent: u64,
    /// Events that came from it.
    pub events_received: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Requests without an answer now.
    pub in_flight: u32,
    /// The most there were at a time.
    pub max_in_flight: u32,
    /// How often a read or write had to wait for room on a ring or for pages.
    pub waits: u64,
    /// Requests that were not answered in time.
    pub timed_out: u64,
    /// Pages shared for copying data through.
    pub bounce_pages: u32,
}
