//! Options of the handshake, and their replies.

use super::{OPTION_MAGIC, OPTION_REPLY_MAGIC, bytes};
use crate::ProtocolError;

/// Longest data of an option or of its reply in bytes. Names and messages have at most 4096.
pub const MAX_OPTION: u32 = 64 << 10;
/// Longest name in bytes.
pub const MAX_NAME: usize = 4096;

/// Numbers of options.
pub mod opt {
    /// Ends the handshake the old way.
    pub const EXPORT_NAME: u32 = 1;
    /// Ends the connection.
    pub const ABORT: u32 = 2;
    /// Lists the exports.
    pub const LIST: u32 = 3;
    /// Goes on with TLS.
    pub const STARTTLS: u32 = 5;
    /// Asks about an export.
    pub const INFO: u32 = 6;
    /// Asks, and ends the handshake.
    pub const GO: u32 = 7;
    /// Permits structured replies.
    pub const STRUCTURED_REPLY: u32 = 8;
    /// Lists the kinds of extents.
    pub const LIST_META_CONTEXT: u32 = 9;
    /// Chooses kinds of extents.
    pub const SET_META_CONTEXT: u32 = 10;
}

/// Numbers of replies.
pub mod rep {
    /// All is well; the last reply.
    pub const ACK: u32 = 1;
    /// An export.
    pub const SERVER: u32 = 2;
    /// A property of an export.
    pub const INFO: u32 = 3;
    /// A kind of extents.
    pub const META_CONTEXT: u32 = 4;
    /// Set in the number of every error.
    pub const IS_ERROR: u32 = 1 << 31;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = IS_ERROR + 1;
    /// The option is forbidden here.
    pub const ERR_POLICY: u32 = IS_ERROR + 2;
    /// The option's data are wrong.
    pub const ERR_INVALID: u32 = IS_ERROR + 3;
    /// Not without TLS.
    pub const ERR_TLS_REQD: u32 = IS_ERROR + 5;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = IS_ERROR + 6;
    /// The server is about to end.
    pub const ERR_SHUTDOWN: u32 = IS_ERROR + 7;
    /// The client must ask for the sizes of blocks.
    pub const ERR_BLOCK_SIZE_REQD: u32 = IS_ERROR + 8;
    /// The option's data are too long.
    pub const ERR_TOO_BIG: u32 = IS_ERROR + 9;

    /// Describes an error of the server.
    pub fn describe(reply: u32) -> &'static str {
        match reply {
            ERR_UNSUP => "the option is not known",
            ERR_POLICY => "its policy forbids it",
            ERR_INVALID => "the option's data are wrong",
            ERR_TLS_REQD => "it wants TLS",
            ERR_UNKNOWN => "there is no such export",
            ERR_SHUTDOWN => "it is about to end",
            ERR_BLOCK_SIZE_REQD => "it wants to be asked for its sizes of blocks",
            ERR_TOO_BIG => "the option's data are too long",
            _ => "an error that is not known",
        }
    }
}

/// An option, without its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionRequest {
    /// One of [`opt`].
    pub option: u32,
    /// Length of its data in bytes.
    pub len: u32,
}

/// A reply to an option, without its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionReply {
    /// The option that it answers.
    pub option: u32,
    /// One of [`rep`].
    pub reply: u32,
    /// Length of its data in bytes.
    pub len: u32,
}

/// Reads numbers and texts from the front of some bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(bytes(self.take(2)?, 0)))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(bytes(self.take(4)?, 0)))
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.u32()?).ok().filter(|len| *len <= MAX_NAME)?;
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }
}

/// Takes the header of an option apart.
pub fn parse_option(from: &[u8; 16]) -> Result<OptionRequest, ProtocolError> {
    let magic = u64::from_be_bytes(bytes(from, 0));
    if magic != OPTION_MAGIC {
        return Err(ProtocolError::new(format!("an option begins with {magic:#018x}")));
    }
    Ok(OptionRequest {
        option: u32::from_be_bytes(bytes(from, 8)),
        len: u32::from_be_bytes(bytes(from, 12)),
    })
}

/// Returns an option as it is sent.
pub fn encode_option(option: u32, data: &[u8]) -> Vec<u8> {
    let mut to = OPTION_MAGIC.to_be_bytes().to_vec();
    to.extend(option.to_be_bytes());
    to.extend((data.len() as u32).to_be_bytes());
    to.extend(data);
    to
}

/// Takes the header of a reply to an option apart.
pub fn parse_reply_header(from: &[u8; 20]) -> Result<OptionReply, ProtocolError> {
    let magic = u64::from_be_bytes(bytes(from, 0));
    if magic != OPTION_REPLY_MAGIC {
        return Err(ProtocolError::new(format!("a reply to an option begins with {magic:#018x}")));
    }
    let reply = OptionReply {
        option: u32::from_be_bytes(bytes(from, 8)),
        reply: u32::from_be_bytes(bytes(from, 12)),
        len: u32::from_be_bytes(bytes(from, 16)),
    };
    if reply.len > MAX_OPTION {
        return Err(ProtocolError::new(format!("a reply to an option has {} bytes", reply.len)));
    }
    Ok(reply)
}

/// Returns a reply to an option as it is sent.
pub fn encode_reply(option: u32, reply: u32, data: &[u8]) -> Vec<u8> {
    let mut to = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    to.extend(option.to_be_bytes());
    to.extend(reply.to_be_bytes());
    to.extend((data.len() as u32).to_be_bytes());
    to.extend(data);
    to
}

/// Kinds of properties of an export.
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Takes the data of [`opt::INFO`] or [`opt::GO`] apart: the name of the export, and whether the
/// sizes of blocks are asked for. `None` if they are wrong.
pub fn parse_go(data: &[u8]) -> Option<(String, bool)> {
    let mut fields = Fields(data);
    let name = fields.text()?;
    let count = fields.u16()?;
    let mut asked = false;
    for _ in 0..count {
        asked |= fields.u16()? == INFO_BLOCK_SIZE;
    }
    fields.0.is_empty().then_some((name, asked))
}

/// Returns the data of [`opt::GO`] that ask for the sizes of blocks.
pub fn encode_go(name: &str) -> Vec<u8> {
    let mut to = (name.len() as u32).to_be_bytes().to_vec();
    to.extend(name.as_bytes());
    to.extend(1u16.to_be_bytes());
    to.extend(INFO_BLOCK_SIZE.to_be_bytes());
    to
}

/// A property of an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InfoReply {
    /// Its length in bytes and its flags.
    Export {
        /// Length.
        bytes: u64,
        /// Flags, as they are.
        flags: u16,
    },
    /// Sizes of blocks in bytes.
    BlockSize {
        /// Unit of offsets and lengths.
        min: u32,
        /// Best unit.
        preferred: u32,
        /// Longest data of a request.
        max: u32,
    },
    /// One that is not known.
    Other,
}

/// Takes the data of [`rep::INFO`] apart, and checks that sizes of blocks make sense.
pub fn parse_info(data: &[u8]) -> Result<InfoReply, ProtocolError> {
    let wrong = |what: &str| ProtocolError::new(format!("{what} of {} bytes", data.len()));
    let kind = Fields(data).u16().ok_or_else(|| wrong("a property of an export"))?;
    match (kind, data.len()) {
        (INFO_EXPORT, 12) => Ok(InfoReply::Export {
            bytes: u64::from_be_bytes(bytes(data, 2)),
            flags: u16::from_be_bytes(bytes(data, 10)),
        }),
        (INFO_BLOCK_SIZE, 14) => {
            let size = |at| u32::from_be_bytes(bytes(data, at));
            let (min, preferred, max) = (size(2), size(6), size(10));
            let sane = min.is_power_of_two()
                && min <= 1 << 16
                && preferred.is_power_of_two()
                && preferred >= min
                && max >= min;
            if !sane {
                return Err(ProtocolError::new(format!(
                    "blocks of {min}, {preferred} and at most {max} bytes"
                )));
            }
            Ok(InfoReply::BlockSize { min, preferred, max })
        }
        (INFO_EXPORT | INFO_BLOCK_SIZE, _) => Err(wrong("a property of an export")),
        _ => Ok(InfoReply::Other),
    }
}

/// Returns the length and flags of an export as the oldest way to end the handshake sends them.
pub fn encode_export(len: u64, flags: u16) -> Vec<u8> {
    let mut to = len.to_be_bytes().to_vec();
    to.extend(flags.to_be_bytes());
    to
}

/// Returns the data of [`rep::INFO`] for length and flags.
pub fn encode_info(len: u64, flags: u16) -> Vec<u8> {
    let mut to = INFO_EXPORT.to_be_bytes().to_vec();
    to.extend(encode_export(len, flags));
    to
}

/// Returns the data of [`rep::INFO`] for the sizes of blocks.
pub fn encode_block_size(min: u32, preferred: u32, max: u32) -> Vec<u8> {
    let mut to = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
    for size in [min, preferred, max] {
        to.extend(size.to_be_bytes());
    }
    to
}

/// Most queries for kinds of extents that are taken.
const MAX_QUERIES: u32 = 1024;

/// Takes the data of [`opt::LIST_META_CONTEXT`] or [`opt::SET_META_CONTEXT`] apart: the name of the
/// export, and the queries. `None` if they are wrong.
pub fn parse_meta(data: &[u8]) -> Option<(String, Vec<String>)> {
    let mut fields = Fields(data);
    let name = fields.text()?;
    let count = fields.u32().filter(|count| *count <= MAX_QUERIES)?;
    let queries = (0..count).map(|_| fields.text()).collect::<Option<_>>()?;
    fields.0.is_empty().then_some((name, queries))
}

/// Returns the data of [`opt::SET_META_CONTEXT`] with one query.
pub fn encode_meta(name: &str, query: &str) -> Vec<u8> {
    let mut to = (name.len() as u32).to_be_bytes().to_vec();
    to.extend(name.as_bytes());
    to.extend(1u32.to_be_bytes());
    to.extend((query.len() as u32).to_be_bytes());
    to.extend(query.as_bytes());
    to
}

/// Takes the data of [`rep::META_CONTEXT`] apart: its number and its name.
pub fn parse_meta_reply(data: &[u8]) -> Result<(u32, String), ProtocolError> {
    let mut fields = Fields(data);
    let number = fields.u32();
    let name = String::from_utf8(fields.0.to_vec());
    match (number, name) {
        (Some(number), Ok(name)) => Ok((number, name)),
        _ => Err(ProtocolError::new("the name of a kind of extents")),
    }
}
