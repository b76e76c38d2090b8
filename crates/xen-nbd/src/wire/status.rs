//! Extents of `base:allocation`.

use super::{ReplyHeader, bytes, chunk};
use crate::ProtocolError;

/// Most extents in one reply; the protocol advises servers to send no more.
pub const MAX_EXTENTS: usize = 1 << 20;

/// A run of bytes that are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Length in bytes.
    pub len: u32,
    /// It has no room of its own.
    pub hole: bool,
    /// It reads as zeros.
    pub zero: bool,
}

/// Takes the payload of a status chunk apart: the number of the context, and its extents.
pub fn parse_status(payload: &[u8]) -> Result<(u32, Vec<Extent>), ProtocolError> {
    let wrong = || ProtocolError::new(format!("a status chunk of {} bytes", payload.len()));
    if payload.len() < 12 || payload.len() % 8 != 4 || payload.len() / 8 > MAX_EXTENTS {
        return Err(wrong());
    }
    let context = u32::from_be_bytes(bytes(payload, 0));
    let extents = payload[4..].chunks_exact(8).map(|pair| {
        let (len, flags) = (u32::from_be_bytes(bytes(pair, 0)), u32::from_be_bytes(bytes(pair, 4)));
        if len == 0 {
            return Err(ProtocolError::new("an extent of no bytes"));
        }
        Ok(Extent { len, hole: flags & 1 != 0, zero: flags & 2 != 0 })
    });
    Ok((context, extents.collect::<Result<_, _>>()?))
}

/// Appends a status chunk to `to`, the only one of its reply.
pub fn encode_status(cookie: u64, context: u32, extents: &[Extent], to: &mut Vec<u8>) {
    let len = (4 + 8 * extents.len()) as u32;
    ReplyHeader::Chunk { flags: chunk::DONE, kind: chunk::STATUS, cookie, len }.encode(to);
    to.extend(context.to_be_bytes());
    for extent in extents {
        to.extend(extent.len.to_be_bytes());
        to.extend((u32::from(extent.hole) | u32::from(extent.zero) << 1).to_be_bytes());
    }
}
