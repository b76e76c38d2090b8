#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod client;
mod error;
pub mod handshake;
pub mod server;
mod socket;
mod uri;
pub mod wire;

pub use error::{Error, ProtocolError};
pub use socket::{Address, Socket};
pub use uri::{Uri, UriError};
