#![doc = include_str!("../README.md")]
//! A xenstore client over any byte stream: requests, transactions, permissions, watches.
//!
//! [`connect`] makes a [`Store`] and the driver that moves its messages; the stream is the shared
//! ring in a guest, the socket or `/dev/xen/xenbus` in dom0, a pipe in tests. Any number of
//! requests can be under way at once. Dropping a request's future gives up the answer, not the
//! request: it may still be carried out. What xenstored sends is checked in full; the first thing
//! that breaks the protocol ends the connection, and every request and watch learns why.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod connection;
pub mod domains;
mod driver;
mod error;
pub mod path;
mod permissions;
mod reply;
mod shared;
mod state;
mod store;
mod transaction;
mod watch;

pub use connection::Connection;
pub use driver::connect;
pub use error::{Error, ErrorKind, Flaw, Malformed, Refusal, TransportError};
pub use permissions::{Access, Permissions};
pub use reply::Op;
pub use store::Store;
pub use watch::Watch;
