#![doc = include_str!("../README.md")]
//! The Xen platform of a Linux domain, over `/dev/xen/*` alone.
//!
//! [`Linux`] implements [`Platform`](xen_platform::Platform) for dom0 and for Linux guests: grants
//! of one's own come from `gntalloc`, a peer's pages from `gntdev`, event channels from `evtchn`,
//! and xenstore from its socket or from `xenbus`. Everything runs on one thread around poll(2):
//! [`Linux::run`]. No libxen* is used, so that one static program works under every Xen version.
#![deny(unsafe_code)]

mod beneath;
mod channel;
mod dial;
mod error;
mod event_fd;
mod liveness;
mod local;
mod memory;
mod platform;
mod program_pty;
mod reactor;
mod signal;
mod socket_file;
mod stdio;
mod store;
#[allow(unsafe_code)]
mod sys;
mod terminal;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "vchan")]
pub mod vchan;

pub use beneath::Beneath;
pub use channel::LinuxChannel;
pub use dial::{connect_tcp, connect_unix};
pub use error::Error;
pub use event_fd::{Doorbell, EventFd};
pub use local::{LocalListener, Pty, Streams};
pub use memory::{LinuxGrant, LinuxMap, Pages};
pub use platform::Linux;
pub use program_pty::{ProgramInput, ProgramOutput, ProgramPty, WeakPty};
pub use signal::{Signal, Signals};
pub use socket_file::{SocketAccess, remove_stale_socket};
pub use stdio::{Input, IoError, Output};
pub use store::{open_store, open_store_with};
pub use terminal::{RawMode, Terminal, WindowChanges};
