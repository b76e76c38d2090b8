//! vchan: a pair of byte streams between two domains, through shared pages and an event channel that they find by two
//! keys in xenstore (io/libxenvchan.h).
//!
//! The server shares the pages and publishes the keys ([`Offer::publish`]), and each offer serves one client; the client
//! finds them ([`connect`]). Both then hold a [`Connection`] and [split](Connection::split) it. The peer is not trusted:
//! whatever it writes is read once and checked, and breaking the protocol ends that one connection with a [`PeerError`].
//! Nothing waits for a peer that is gone: see [`Error::Died`]. For a peer that is there and does nothing, every waiting
//! function can be put under [`xen_platform::deadline`]: giving one up loses no byte.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod connection;
mod error;
mod info;
mod keys;
mod layout;
mod link;
mod listener;
mod lookout;
mod memory;
mod order;
mod rings;
mod server;

pub use client::{ClientConfig, connect};
pub use connection::{Connection, Reader, Writer};
pub use error::{ConfigError, Error, PeerError, Stale};
pub use info::{Info, Live, Role};
pub use layout::{LIBXENVCHAN_PATH_MAX, Layout, check_for_libxenvchan, own_domid};
pub use listener::Listener;
pub use order::{Order, OrderClash, Orders};
pub use rings::Side;
pub use server::{Offer, ServerConfig};
