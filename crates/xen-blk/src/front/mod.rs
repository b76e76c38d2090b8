//! The frontend: a disk that a backend serves, as a handle with asynchronous reads and writes.
//!
//! [`list`] and [`Finder`] tell which disks there are, [`attach`] connects to one. It gives a [`Disk`], whose clones can
//! be used by any number of tasks at once, and a [`Driver`], the future that moves requests and answers and must be
//! spawned beside them. The backend is not trusted: a wrong answer ends this disk with a [`PeerError`], and nothing else.

mod error;
mod info;
mod names;
mod wishes;

pub use error::{Error, Op, PeerError, Stuck, Why};
pub use info::{DiscardInfo, Info, Note, Stats};
pub use names::{name, vdev};
pub use wishes::{INDIRECT_SEGMENTS_MAX, QUEUES_MAX, RING_PAGES_MAX, Unit, Units, Wishes};
