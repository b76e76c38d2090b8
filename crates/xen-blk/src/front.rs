//! The frontend: a disk that a backend serves, as a handle with asynchronous reads and writes.
//!
//! [`list`] and [`Finder`] discover disks, and [`attach`] connects to one. It returns a [`Disk`],
//! whose clones can be used by any number of tasks at once, and the driver, a future that moves
//! requests and responses and must be spawned beside them. The backend is not trusted: a breach of
//! the protocol ends this disk with a [`PeerError`], and nothing else.

mod blocks;
mod buffer;
mod config;
mod connect;
mod device;
mod disk;
mod driver;
mod error;
mod info;
mod io;
mod life;
mod note;
pub mod raw;
mod wakers;
mod xenbus;

pub use blocks::Blocks;
pub use buffer::Buffer;
pub use config::{Config, INDIRECT_SEGMENTS_MAX, QUEUES_MAX, RING_PAGES_MAX};
pub use disk::{Disk, attach};
pub use error::{Error, GoneReason, Op, PeerError, Stuck};
pub use info::{Info, Stats};
pub use io::transfer::Transfer;
pub use life::End;
pub use note::Note;
pub use xenbus::finder::{Change, Finder, backend_keys, list};
