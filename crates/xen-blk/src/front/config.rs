//! Configuration of a frontend.

use crate::protocol::Units;
use crate::protocol::wire::Abi;
use core::time::Duration;
use xen_abi::blkif::{MAX_INDIRECT_PAGES_PER_REQUEST, SEGMENTS_PER_INDIRECT_PAGE};

/// Largest number of segments of an indirect request.
pub const INDIRECT_SEGMENTS_MAX: u32 =
    (MAX_INDIRECT_PAGES_PER_REQUEST * SEGMENTS_PER_INDIRECT_PAGE) as u32;
/// Largest number of pages of a ring, as in Linux.
pub const RING_PAGES_MAX: u32 = 16;
/// Largest number of rings.
pub const QUEUES_MAX: u32 = 16;

/// Features to request of a backend. Those that it does not offer are reduced or left out;
/// [`super::Info`] has the result.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Number of pages of each ring, 1 to [`RING_PAGES_MAX`]; rounded down to a power of two. A
    /// page holds 32 requests.
    pub ring_pages: u32,
    /// Number of rings with an event channel each, 1 to [`QUEUES_MAX`]. More than one helps only
    /// backends with several CPUs.
    pub queues: u32,
    /// Largest number of segments, of up to 4 KiB each, of a request; up to
    /// [`INDIRECT_SEGMENTS_MAX`]. 11 or less: no indirect requests.
    pub indirect_segments: u32,
    /// Lets the backend keep pages mapped (`feature-persistent`).
    pub persistent: bool,
    /// Layout of requests.
    pub abi: Abi,
    /// Units in which sectors are counted.
    pub units: Units,
    /// Sends barriers among other requests and relies on the backend to keep their two sides apart,
    /// as the header demands: for tests of backends (Linux lets later writes pass). Otherwise,
    /// requests after a barrier are sent once the barrier is completed.
    pub bare_barriers: bool,
    /// Largest number of bounce pages, of 4 KiB, that data is copied through; at least 32. They are
    /// shared when they are needed, and kept.
    pub bounce_pages: u32,
    /// Time after which a request without a response fails. The failure comes at most a quarter of
    /// that time later.
    pub request_timeout: Duration,
    /// Time that the backend has to connect, to come back after it was lost, and to close.
    pub connect_timeout: Duration,
}

impl Default for Config {
    /// Requests every feature, in the sizes that suit one CPU.
    fn default() -> Self {
        Config {
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

impl Config {
    /// Returns the configuration as `change` has changed it:
    /// `Config::default().with(|config| config.persistent = false)`.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
