//! The Xen platform of a Linux domain, over `/dev/xen/*` alone.
//!
//! [`Linux`] implements [`Platform`](xen_platform::Platform) for dom0 and for Linux guests: grants of one's own come
//! from `gntalloc`, a peer's pages from `gntdev`, event channels from `evtchn`, and xenstore from its socket or from
//! `xenbus`. Everything runs on one thread around poll(2): [`Linux::run`]. No libxen* is used, so that one static
//! program works under every Xen version.
#![deny(unsafe_code)]

mod channel;
mod dial;
mod doorbell;
mod error;
mod local;
mod memory;
mod platform;
mod presence;
mod reactor;
mod signal;
mod stdio;
mod store;
#[allow(unsafe_code)]
mod sys;

pub use channel::LinuxChannel;
pub use dial::{connect_tcp, connect_unix};
pub use doorbell::{Bell, Doorbell};
pub use error::Error;
pub use local::{LocalListener, Pty, Streams};
pub use memory::{LinuxGrant, LinuxMap, Pages};
pub use platform::Linux;
pub use signal::{Signal, Signals};
pub use stdio::{Input, IoError, Output};
pub use store::open_store;
