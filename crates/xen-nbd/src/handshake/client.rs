//! The client's half.

use super::{ALLOCATION, Export, read_array, read_data};
use crate::wire::{self, InfoReply, OptionReply, handshake_flags, opt, rep};
use crate::{Error, ProtocolError};
use std::io::{Read, Write};

/// Most replies to one option.
const MAX_REPLIES: usize = 64;

/// Carries the handshake out for the export called `name`, up to the first request.
pub fn negotiate(stream: &mut (impl Read + Write), name: &str) -> Result<Export, Error> {
    let no_zeroes = greet(stream)?;
    let structured = simple_option(stream, opt::STRUCTURED_REPLY)?;
    let allocation = if structured { choose_allocation(stream, name)? } else { None };
    let export = match go(stream, name)? {
        Some(export) => export,
        None => export_name(stream, name, no_zeroes)?,
    };
    Ok(Export { structured, allocation, ..export })
}

/// Exchanges the greetings. Returns true if both sides leave the padding out.
fn greet(stream: &mut (impl Read + Write)) -> Result<bool, Error> {
    let magic = u64::from_be_bytes(read_array(stream)?);
    if magic != wire::MAGIC {
        return Err(ProtocolError::new(format!("a server that begins with {magic:#018x}")).into());
    }
    match u64::from_be_bytes(read_array(stream)?) {
        wire::OPTION_MAGIC => {}
        wire::OLDSTYLE_MAGIC => {
            return Err(Error::Refused("it speaks only the oldstyle handshake of NBD".into()));
        }
        magic => {
            return Err(ProtocolError::new(format!("a greeting with {magic:#018x}")).into());
        }
    }
    let flags = u16::from_be_bytes(read_array(stream)?);
    if flags & handshake_flags::FIXED_NEWSTYLE == 0 {
        return Err(Error::Refused("it has no fixed newstyle handshake".into()));
    }
    let ours = flags & (handshake_flags::FIXED_NEWSTYLE | handshake_flags::NO_ZEROES);
    stream.write_all(&u32::from(ours).to_be_bytes())?;
    Ok(ours & handshake_flags::NO_ZEROES != 0)
}

/// Reads a reply to `option`.
fn reply(stream: &mut impl Read, option: u32) -> Result<(OptionReply, Vec<u8>), Error> {
    let header = wire::parse_reply_header(&read_array(stream)?)?;
    if header.option != option {
        let text = format!("a reply to option {} and not to {option}", header.option);
        return Err(ProtocolError::new(text).into());
    }
    let data = read_data(stream, header.len)?;
    Ok((header, data))
}

/// Sends an option without data. Returns false if the server does not have it.
fn simple_option(stream: &mut (impl Read + Write), option: u32) -> Result<bool, Error> {
    stream.write_all(&wire::encode_option(option, &[]))?;
    let (header, data) = reply(stream, option)?;
    match header.reply {
        rep::ACK => Ok(true),
        error if error & rep::IS_ERROR != 0 && error != rep::ERR_TLS_REQD => Ok(false),
        error => Err(refused(error, &data)),
    }
}

/// Returns the error that a reply of the server means.
fn refused(reply: u32, data: &[u8]) -> Error {
    if reply & rep::IS_ERROR == 0 {
        return ProtocolError::new(format!("a reply to an option of the kind {reply}")).into();
    }
    let said = String::from_utf8_lossy(&data[..data.len().min(wire::MAX_MESSAGE)]);
    let more = if said.is_empty() { String::new() } else { format!(" ({said:?})") };
    Error::Refused(format!("{}{more}", rep::describe(reply)))
}

/// Asks for `base:allocation`. Returns its number, if the server has it.
fn choose_allocation(stream: &mut (impl Read + Write), name: &str) -> Result<Option<u32>, Error> {
    let option = opt::SET_META_CONTEXT;
    stream.write_all(&wire::encode_option(option, &wire::encode_meta(name, ALLOCATION)))?;
    let mut number = None;
    for _ in 0..MAX_REPLIES {
        let (header, data) = reply(stream, option)?;
        match header.reply {
            rep::ACK => return Ok(number),
            rep::META_CONTEXT => {
                let (found, context) = wire::parse_meta_reply(&data)?;
                if context == ALLOCATION {
                    number = Some(found);
                }
            }
            error if error & rep::IS_ERROR != 0 => return Ok(None),
            error => return Err(refused(error, &data)),
        }
    }
    Err(ProtocolError::new("too many replies to an option").into())
}

/// Ends the handshake. Returns `None` if the server does not have this option.
fn go(stream: &mut (impl Read + Write), name: &str) -> Result<Option<Export>, Error> {
    stream.write_all(&wire::encode_option(opt::GO, &wire::encode_go(name)))?;
    let (mut export, mut sizes) = (None, None);
    for _ in 0..MAX_REPLIES {
        let (header, data) = reply(stream, opt::GO)?;
        match header.reply {
            rep::ACK => {
                let missing = || ProtocolError::new("a server that does not tell its length");
                let export: Export = export.ok_or_else(missing)?;
                return Ok(Some(match sizes {
                    Some((min_block, preferred_block, max)) => Export {
                        min_block,
                        preferred_block,
                        max_payload: wire::MAX_PAYLOAD.min(max) / min_block * min_block,
                        ..export
                    },
                    None => export,
                }));
            }
            rep::INFO => match wire::parse_info(&data)? {
                InfoReply::Export { bytes, flags } => export = Some(Export::new(bytes, flags)?),
                InfoReply::BlockSize { min, preferred, max } => {
                    sizes = Some((min, preferred, max));
                }
                InfoReply::Other => {}
            },
            rep::ERR_UNSUP => return Ok(None),
            error => return Err(refused(error, &data)),
        }
    }
    Err(ProtocolError::new("too many replies to an option").into())
}

/// Ends the handshake in the oldest way, for servers that know no other.
fn export_name(
    stream: &mut (impl Read + Write),
    name: &str,
    no_zeroes: bool,
) -> Result<Export, Error> {
    stream.write_all(&wire::encode_option(opt::EXPORT_NAME, name.as_bytes()))?;
    let bytes = u64::from_be_bytes(read_array(stream)?);
    let flags = u16::from_be_bytes(read_array(stream)?);
    if !no_zeroes {
        read_array::<124>(stream)?;
    }
    Ok(Export::new(bytes, flags)?)
}
