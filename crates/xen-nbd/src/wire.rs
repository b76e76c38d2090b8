//! Messages as they are on the wire. Nothing here reads or waits: bytes in, values out.

mod option;
mod status;

pub use option::{
    InfoReply, MAX_NAME, MAX_OPTION, OptionReply, OptionRequest, encode_block_size, encode_export,
    encode_go, encode_info, encode_meta, encode_option, encode_reply, opt, parse_go, parse_info,
    parse_meta, parse_meta_reply, parse_option, parse_reply_header, rep,
};
pub use status::{Extent, MAX_EXTENTS, encode_status, parse_status};

use crate::ProtocolError;
use bitflags::bitflags;

/// The first eight bytes of every server: `NBDMAGIC`.
pub const MAGIC: u64 = 0x4e42_444d_4147_4943;
/// The next eight bytes of a newstyle server, and the first of each option: `IHAVEOPT`.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The same place in the greeting of a server of before 2011.
pub const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
/// The first bytes of a reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Length of a request in bytes, without its data.
pub const REQUEST_LEN: usize = 28;
/// Length of a simple reply in bytes, without its data.
pub const SIMPLE_LEN: usize = 16;
/// Length of the header of a chunk in bytes.
pub const CHUNK_LEN: usize = 20;
/// Longest data of one read or write in bytes, if the server names no other limit.
pub const MAX_PAYLOAD: u32 = 32 << 20;

/// Flags of the server's greeting and of the client's answer.
pub mod handshake_flags {
    /// The server takes options that it does not know, and answers.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 bytes of padding after the oldest way to end the handshake.
    pub const NO_ZEROES: u16 = 2;
}

bitflags! {
    /// Properties of an export.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ExportFlags: u16 {
        /// The others mean something; always set.
        const HAS_FLAGS = 1 << 0;
        /// It cannot be written.
        const READ_ONLY = 1 << 1;
        /// Takes [`Command::Flush`].
        const FLUSH = 1 << 2;
        /// Takes [`CommandFlags::FUA`].
        const FUA = 1 << 3;
        /// A disk that turns.
        const ROTATIONAL = 1 << 4;
        /// Takes [`Command::Trim`].
        const TRIM = 1 << 5;
        /// Takes [`Command::WriteZeroes`].
        const WRITE_ZEROES = 1 << 6;
        /// Takes [`CommandFlags::DF`].
        const DF = 1 << 7;
        /// A flush on one connection covers all connections.
        const MULTI_CONN = 1 << 8;
        /// Takes [`Command::Cache`].
        const CACHE = 1 << 10;
        /// Takes [`CommandFlags::FAST_ZERO`].
        const FAST_ZERO = 1 << 11;
        const _ = !0;
    }

    /// Flags of a request.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct CommandFlags: u16 {
        /// Its data are durable before it is answered.
        const FUA = 1 << 0;
        /// Zeros keep their room.
        const NO_HOLE = 1 << 1;
        /// The data of a read come in one chunk.
        const DF = 1 << 2;
        /// One extent is enough.
        const REQ_ONE = 1 << 3;
        /// Zeros are written only if that is faster than data.
        const FAST_ZERO = 1 << 4;
        const _ = !0;
    }
}

/// Kind of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Command {
    /// Reads.
    Read = 0,
    /// Writes the data that follow.
    Write = 1,
    /// Ends the connection; has no reply.
    Disconnect = 2,
    /// Makes all writes that were answered durable.
    Flush = 3,
    /// Forgets what is there.
    Trim = 4,
    /// Reads ahead.
    Cache = 5,
    /// Writes zeros.
    WriteZeroes = 6,
    /// Asks what is allocated.
    BlockStatus = 7,
}

impl Command {
    /// Returns the kind of that number.
    pub fn from_number(number: u16) -> Option<Command> {
        use Command::*;
        [Read, Write, Disconnect, Flush, Trim, Cache, WriteZeroes, BlockStatus]
            .into_iter()
            .find(|command| *command as u16 == number)
    }

    /// Returns the flags that a request of this kind may have.
    pub fn flags(self) -> CommandFlags {
        use CommandFlags as F;
        match self {
            Command::Read => F::DF,
            Command::Write => F::FUA,
            Command::Trim => F::FUA,
            Command::WriteZeroes => F::FUA.union(F::NO_HOLE).union(F::FAST_ZERO),
            Command::BlockStatus => F::REQ_ONE,
            Command::Disconnect | Command::Flush | Command::Cache => F::empty(),
        }
    }
}

/// A request, without its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Flags.
    pub flags: CommandFlags,
    /// Number of its kind: [`Command`], or one that is not known.
    pub command: u16,
    /// Returned with the reply.
    pub cookie: u64,
    /// Offset in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u32,
}

/// Returns the bytes from `at` on, as many as the array has.
pub(crate) fn bytes<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    from[at..at + N].try_into().expect("the slice has N bytes")
}

impl Request {
    /// Returns it as it is sent.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut to = [0; REQUEST_LEN];
        to[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        to[4..6].copy_from_slice(&self.flags.bits().to_be_bytes());
        to[6..8].copy_from_slice(&self.command.to_be_bytes());
        to[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        to[16..24].copy_from_slice(&self.at.to_be_bytes());
        to[24..].copy_from_slice(&self.len.to_be_bytes());
        to
    }

    /// Takes it apart.
    pub fn decode(from: &[u8; REQUEST_LEN]) -> Result<Self, ProtocolError> {
        let magic = u32::from_be_bytes(bytes(from, 0));
        if magic != REQUEST_MAGIC {
            return Err(ProtocolError::new(format!("a request begins with {magic:#010x}")));
        }
        Ok(Request {
            flags: CommandFlags::from_bits_retain(u16::from_be_bytes(bytes(from, 4))),
            command: u16::from_be_bytes(bytes(from, 6)),
            cookie: u64::from_be_bytes(bytes(from, 8)),
            at: u64::from_be_bytes(bytes(from, 16)),
            len: u32::from_be_bytes(bytes(from, 24)),
        })
    }
}

/// Kinds of chunks.
pub mod chunk {
    /// Nothing; ends a reply.
    pub const NONE: u16 = 0;
    /// Data of a read, with their offset.
    pub const DATA: u16 = 1;
    /// Zeros of a read, as offset and length.
    pub const HOLE: u16 = 2;
    /// Extents.
    pub const STATUS: u16 = 5;
    /// An error.
    pub const ERROR: u16 = 0x8001;
    /// An error at an offset.
    pub const ERROR_AT: u16 = 0x8002;
    /// Set in the kind of every error.
    pub const IS_ERROR: u16 = 0x8000;
    /// Flag of the last chunk of a reply.
    pub const DONE: u16 = 1;
}

/// The first part of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyHeader {
    /// A whole reply; the data of a read follow.
    Simple {
        /// An error number, or 0.
        error: u32,
        /// That of the request.
        cookie: u64,
    },
    /// A chunk of a structured reply.
    Chunk {
        /// [`chunk::DONE`] or 0.
        flags: u16,
        /// Its kind: one of [`chunk`].
        kind: u16,
        /// That of the request.
        cookie: u64,
        /// Length of what follows, in bytes.
        len: u32,
    },
}

impl ReplyHeader {
    /// Returns the length of the header that begins with these bytes.
    pub fn len_of(first: [u8; 4]) -> Result<usize, ProtocolError> {
        match u32::from_be_bytes(first) {
            SIMPLE_MAGIC => Ok(SIMPLE_LEN),
            CHUNK_MAGIC => Ok(CHUNK_LEN),
            magic => Err(ProtocolError::new(format!("a reply begins with {magic:#010x}"))),
        }
    }

    /// Takes a header apart that has the length that [`ReplyHeader::len_of`] says.
    ///
    /// # Panics
    /// If `from` is shorter.
    pub fn decode(from: &[u8]) -> Result<Self, ProtocolError> {
        match Self::len_of(bytes(from, 0))? {
            SIMPLE_LEN => Ok(ReplyHeader::Simple {
                error: u32::from_be_bytes(bytes(from, 4)),
                cookie: u64::from_be_bytes(bytes(from, 8)),
            }),
            _ => Ok(ReplyHeader::Chunk {
                flags: u16::from_be_bytes(bytes(from, 4)),
                kind: u16::from_be_bytes(bytes(from, 6)),
                cookie: u64::from_be_bytes(bytes(from, 8)),
                len: u32::from_be_bytes(bytes(from, 16)),
            }),
        }
    }

    /// Appends it to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        match *self {
            ReplyHeader::Simple { error, cookie } => {
                to.extend(SIMPLE_MAGIC.to_be_bytes());
                to.extend(error.to_be_bytes());
                to.extend(cookie.to_be_bytes());
            }
            ReplyHeader::Chunk { flags, kind, cookie, len } => {
                to.extend(CHUNK_MAGIC.to_be_bytes());
                to.extend(flags.to_be_bytes());
                to.extend(kind.to_be_bytes());
                to.extend(cookie.to_be_bytes());
                to.extend(len.to_be_bytes());
            }
        }
    }
}

/// Longest message of an error chunk in bytes.
pub const MAX_MESSAGE: usize = 4096;

/// Takes the payload of an error chunk apart: its number and its message.
pub fn parse_error(kind: u16, payload: &[u8]) -> Result<(u32, String), ProtocolError> {
    let wrong = || ProtocolError::new(format!("an error chunk of {} bytes", payload.len()));
    let head = payload.get(..6).ok_or_else(wrong)?;
    let number = u32::from_be_bytes(bytes(head, 0));
    let len = usize::from(u16::from_be_bytes(bytes(head, 4)));
    let text = payload[6..].get(..len).ok_or_else(wrong)?;
    let rest = payload.len() - 6 - len;
    let fits = match kind {
        chunk::ERROR => rest == 0,
        chunk::ERROR_AT => rest == 8,
        // One that is not known may have more.
        _ => true,
    };
    if !fits || number == 0 {
        return Err(wrong());
    }
    Ok((number, String::from_utf8_lossy(text).into_owned()))
}

/// Appends an error chunk to `to`, the last of its reply; `at` is the offset of a failed read.
pub fn encode_error(cookie: u64, number: u32, text: &str, at: Option<u64>, to: &mut Vec<u8>) {
    let mut end = text.len().min(MAX_MESSAGE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let kind = if at.is_some() { chunk::ERROR_AT } else { chunk::ERROR };
    let len = (6 + end + if at.is_some() { 8 } else { 0 }) as u32;
    ReplyHeader::Chunk { flags: chunk::DONE, kind, cookie, len }.encode(to);
    to.extend(number.to_be_bytes());
    to.extend((end as u16).to_be_bytes());
    to.extend(text.as_bytes()[..end].iter());
    to.extend(at.into_iter().flat_map(u64::to_be_bytes));
}
