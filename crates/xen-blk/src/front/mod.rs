//! The frontend: a disk that a backend serves, as a handle with asynchronous reads and writes.
//!
//! [`list`] and [`Finder`] tell which disks there are, [`attach`] connects to one. It gives a [`Disk`], whose clones can
//! be used by any number of tasks at once, and the driver, a future that moves requests and answers and must be
//! spawned beside them. The backend is not trusted: a wrong answer ends this disk with a [`PeerError`], and nothing else.

mod answers;
mod blocks;
mod buffer;
mod bus;
mod device;
mod disk;
mod driver;
mod error;
mod finder;
mod info;
mod keys;
mod names;
mod offer;
mod pool;
pub mod raw;
mod rings;
mod slab;
mod split;
mod submit;
mod transfer;
mod waiting;
mod wishes;

pub use blocks::Blocks;
pub use buffer::Buffer;
pub use disk::{Disk, End, attach};
pub use error::{Error, Op, PeerError, Stuck, Why};
pub use finder::{Change, Finder, list};
pub use info::{DiscardInfo, Info, Note, Stats};
pub use names::{name, vdev};
pub use transfer::Transfer;
pub use wishes::{INDIRECT_SEGMENTS_MAX, QUEUES_MAX, RING_PAGES_MAX, Unit, Units, Wishes};
