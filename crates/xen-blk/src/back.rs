//! The backend: serves a disk, kept in any [`Storage`], to a frontend that is not trusted.
//!
//! [`toolstack::create`](crate::toolstack::create) makes a disk's folders in xenstore; [`serve()`]
//! then offers it, connects with its frontend, and carries its requests out until it ends. The
//! [`Handle`] stops it, and has its state and counters.
//!
//! * A request is copied out of the ring once and checked as a whole before anything of it is done.
//!   A malformed one gets an error as its response and has no other effect. Impossible ring indices
//!   and malformed keys end the connection: the reason is in the key `error` of the backend's
//!   folder, and the frontend can connect again after it has closed.
//! * Requests are carried out side by side and completed in the order of the ring, so a backend
//!   that is started anew beside a connected frontend finds the open ones in the ring and goes on
//!   with them.
//! * A storage never sees a page that the frontend can change: data pass through private memory, or
//!   are copied by the backend between the frontend's pages and the storage's own memory
//!   ([`Pages`]).
//! * A new connection is served only after the storage has ended the writes of the one before, and
//!   after a flush that failed, later writes and flushes fail until the disk is served anew.
//! * Nothing waits for ever: not for a frontend that does not let go ([`Config::stop_timeout`]),
//!   nor at the end for a storage that does not finish ([`Config::drain_timeout`]).

mod config;
mod error;
mod handle;
mod io;
mod stats;
pub mod storage;
mod xenbus;

pub use config::{Config, DataPath};
pub use error::{End, Error, PeerError};
pub use handle::Handle;
pub use stats::{Count, Histogram, Latencies, Stats};
pub use storage::ram::Ram;
pub use storage::{Area, Pages, Storage};
pub use xenbus::finder::Finder;
pub use xenbus::serve::serve;
