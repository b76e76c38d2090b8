//! The handshake of both sides, over any stream of bytes. The stream's timeouts bound each step,
//! and the number of steps is bounded here.

mod client;
mod server;

pub use client::negotiate;
pub(crate) use server::ALLOCATION_NUMBER;
pub use server::{Offer, Session, answer};

use crate::wire::{self, ExportFlags};
use crate::{Error, ProtocolError};
use std::io::{self, Read};

/// The kind of extents that tells holes and zeros.
const ALLOCATION: &str = "base:allocation";

/// Properties of an export, and of the connection to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// Length in bytes.
    pub bytes: u64,
    /// Its flags.
    pub flags: ExportFlags,
    /// Unit of offsets and lengths in bytes.
    pub min_block: u32,
    /// Best unit in bytes.
    pub preferred_block: u32,
    /// Longest data of a request in bytes.
    pub max_payload: u32,
    /// Replies come in chunks.
    pub structured: bool,
    /// Number of `base:allocation`, if the server tells holes.
    pub allocation: Option<u32>,
}

impl Export {
    /// An export whose server says no more than this.
    fn new(bytes: u64, flags: u16) -> Result<Self, ProtocolError> {
        let flags = ExportFlags::from_bits_retain(flags);
        if !flags.contains(ExportFlags::HAS_FLAGS) {
            return Err(ProtocolError::new(format!(
                "an export with the flags {:#x}",
                flags.bits()
            )));
        }
        // The kernel's offsets are signed.
        if i64::try_from(bytes).is_err() {
            return Err(ProtocolError::new(format!("an export of {bytes} bytes")));
        }
        Ok(Export {
            bytes,
            flags,
            min_block: 1,
            preferred_block: 4096,
            max_payload: wire::MAX_PAYLOAD,
            structured: false,
            allocation: None,
        })
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Error> {
    let mut to = [0; N];
    from.read_exact(&mut to).map_err(ended)?;
    Ok(to)
}

fn read_data(from: &mut impl Read, len: u32) -> Result<Vec<u8>, Error> {
    let mut to = vec![0; len as usize];
    from.read_exact(&mut to).map_err(ended)?;
    Ok(to)
}

fn ended(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the peer ended the connection in the handshake").into()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "the peer is silent in the handshake").into()
        }
        _ => error.into(),
    }
}
