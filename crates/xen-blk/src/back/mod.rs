//! The backend: serves a disk, kept in any [`Storage`], to a frontend that is not trusted.
//!
//! [`toolstack::create`](crate::toolstack::create) makes a disk's folders in xenstore; [`serve()`] then offers it, connects
//! with its frontend, and carries its requests out until it ends. The [`Handle`] stops it, and tells what it does.
//!
//! * A request is copied out of the ring once and checked as a whole before anything of it is done. One that makes no
//!   sense is answered with an error, and that is all that comes of it. Ring indices that cannot be true, and keys
//!   without sense, end the connection: the reason is in the key `error` of the backend's folder, and the frontend can
//!   connect again after it has closed.
//! * Requests are carried out side by side and answered in the order of the ring, so that a backend which is started anew
//!   beside a connected frontend finds in the ring which ones are still open, and goes on with them.
//! * A storage never sees a page that the frontend can change: data pass through private memory, or are copied by the
//!   backend between the frontend's pages and the storage's own memory ([`Pages`]).
//! * Nothing waits for ever: not for a frontend that does not let go ([`Config::stop_timeout`]), nor for a storage that
//!   does not finish ([`Config::drain_timeout`]).

mod answers;
mod buffer;
mod config;
mod data;
mod error;
mod flight;
mod grants;
mod handle;
mod journal;
mod keys;
mod link;
mod now;
mod queue;
mod ram;
mod request;
mod serve;
mod stats;
pub mod storage;
mod work;

pub use config::{Config, Reach};
pub use error::{End, Error, PeerError};
pub use handle::Handle;
pub use ram::Ram;
pub use serve::serve;
pub use stats::{Count, Histogram, Latencies, Stats};
pub use storage::{Area, Pages, Storage};
