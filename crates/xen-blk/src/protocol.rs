//! The protocol that both ends speak, without any I/O: the layout of requests and responses, the
//! handshake's table, units of sectors, discard parameters, and numbers and names of disks.

mod discard;
pub mod handshake;
mod units;
pub mod vdev;
pub mod wire;

pub use discard::DiscardInfo;
pub use units::{Unit, Units};
