//! What a backend offers and how it works.

use crate::front::Units;
use crate::wire::Abi;
use core::time::Duration;

/// How the backend reaches the frontend's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Xen copies: one call for all pages of a batch, and nothing to undo. Where the platform cannot, they are mapped.
    Copy,
    /// They are mapped for each batch and unmapped before it is answered.
    Map,
}

/// What a backend offers and how it works. What the frontend cannot do is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The largest ring: 2^this pages, at most 4.
    pub ring_order_max: u32,
    /// The most rings. All are served by one task.
    pub queues_max: u32,
    /// The most segments of an indirect request, up to 4096; 0 offers none.
    pub indirect_segments: u32,
    /// How many pages a frontend with persistent grants keeps mapped on each ring, at most; 0 offers none.
    pub persistent: usize,
    /// How other pages are reached.
    pub reach: Reach,
    /// Whether discards are offered, if the storage can and the toolstack permits it.
    pub discard: bool,
    /// How the requests of a frontend are laid out that does not say so. Linux's backend takes 32 bits for granted; what
    /// never says is 64-bit guests of one kind only (Unikraft).
    pub assumed_abi: Abi,
    /// In which units the frontend counts, if the disk's sectors are not of 512 bytes. There is no key for it.
    pub units: Units,
    /// The most bytes in flight on a ring; one request is always taken.
    pub memory: usize,
    /// The most bytes of adjacent requests that are put together; 0 puts none together.
    pub merge: usize,
    /// How long the storage has to finish what it was asked before a disk is given up.
    pub drain_timeout: Duration,
    /// How long the frontend has to let go of the disk when it is asked to.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ring_order_max: 4,
            queues_max: 1,
            indirect_segments: 256,
            persistent: 1056,
            reach: Reach::Copy,
            discard: true,
            assumed_abi: Abi::X86_32,
            units: Units::HEADER,
            memory: 32 << 20,
            merge: 1 << 20,
            drain_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Panics if a value is out of its range: a mistake of who wrote it.
    pub(super) fn check(&self) {
        assert!(self.ring_order_max <= 4, "rings of 2^{} pages", self.ring_order_max);
        assert!(self.queues_max >= 1, "no ring");
        assert!(self.indirect_segments <= 4096, "{} segments", self.indirect_segments);
    }
}
