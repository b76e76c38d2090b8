//! Configuration of a backend.

use crate::protocol::Units;
use crate::protocol::wire::Abi;
use core::time::Duration;

/// Access to those pages of a frontend that are no persistent grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataPath {
    /// Xen copies (`GNTTABOP_copy`): one call for all pages of a batch, and nothing to undo. Where
    /// the platform cannot, pages are mapped.
    Copy,
    /// Pages are mapped for each batch and unmapped before its responses.
    Map,
}

/// Configuration of a backend. Features that the frontend lacks are not used.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The largest ring: 2^this pages, at most 4.
    pub ring_order_max: u32,
    /// Largest number of rings. One task serves all.
    pub queues_max: u32,
    /// Largest number of segments of an indirect request, up to 4096; 0 offers none.
    pub indirect_segments: u32,
    /// Largest number of persistent grants that stay mapped for each ring; 0 offers none.
    pub persistent: usize,
    /// Access to other pages.
    pub data_path: DataPath,
    /// Offers discards, if the storage has them and the toolstack permits them.
    pub discard: bool,
    /// Layout of requests of a frontend without the key `protocol`. Linux's backend assumes 32
    /// bits; the only frontends that leave it out today are 64-bit ones (Unikraft).
    pub assumed_abi: Abi,
    /// Units in which the frontend counts, if the disk's sectors are not of 512 bytes. There is no
    /// key for them.
    pub units: Units,
    /// Largest number of bytes in flight on a ring; one request is always taken.
    pub memory: usize,
    /// Largest number of bytes of adjacent requests that are merged; 0 merges none.
    pub merge: usize,
    /// Time that the storage has to end its operations when a connection or the disk ends. Later
    /// connections wait for as long as it takes; the disk ends with [`super::Error::Unfinished`].
    pub drain_timeout: Duration,
    /// Time that the frontend has to let go of the disk when it is asked to.
    pub stop_timeout: Duration,
    /// Least time for which the first offer of a disk stands before a frontend is connected. A
    /// toolstack that waits for the state `InitWait` must find it: libxl, when it attaches a disk
    /// of a driver domain, would otherwise wait in vain.
    pub offer_time: Duration,
    /// Leaves the folders of a disk whose frontend is gone to a toolstack, which waits for the
    /// state `Closed` in the backend's. Otherwise the backend removes them itself.
    pub leave_folders: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ring_order_max: 4,
            queues_max: 1,
            indirect_segments: 256,
            persistent: 1056,
            data_path: DataPath::Copy,
            discard: true,
            assumed_abi: Abi::X86_32,
            units: Units::HEADER,
            memory: 32 << 20,
            merge: 1 << 20,
            drain_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(60),
            offer_time: Duration::ZERO,
            leave_folders: false,
        }
    }
}

impl Config {
    /// Returns the configuration as `change` has changed it:
    /// `Config::default().with(|config| config.persistent = 0)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Panics if a value is out of its range: a mistake in the program.
    pub(super) fn check(&self) {
        assert!(self.ring_order_max <= 4, "rings of 2^{} pages", self.ring_order_max);
        assert!(self.queues_max >= 1, "no ring");
        assert!(self.indirect_segments <= 4096, "{} segments", self.indirect_segments);
    }
}
