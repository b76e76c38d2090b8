//! The server's half.

use super::{ALLOCATION, read_array, read_data};
use crate::wire::{self, ExportFlags, handshake_flags, opt, rep};
use crate::{Error, ProtocolError};
use std::io::{self, Read, Write};

/// Most options of one client.
const MAX_OPTIONS: usize = 256;
/// Number that we give `base:allocation`.
pub(crate) const ALLOCATION_NUMBER: u32 = 1;

/// The export that a server has, as it is offered.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its name. The empty name, of the default export, means it as well.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Flags, without [`ExportFlags::DF`].
    pub flags: ExportFlags,
    /// Unit of offsets and lengths in bytes.
    pub min_block: u32,
    /// Best unit in bytes.
    pub preferred_block: u32,
}

/// Choices of a client.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Session {
    /// Replies go in chunks.
    pub structured: bool,
    /// It may ask for extents.
    pub allocation: bool,
}

/// Carries the handshake out. Returns `None` if the client ends it.
pub fn answer(stream: &mut (impl Read + Write), offer: &Offer) -> Result<Option<Session>, Error> {
    let ours = handshake_flags::FIXED_NEWSTYLE | handshake_flags::NO_ZEROES;
    let mut greeting = wire::MAGIC.to_be_bytes().to_vec();
    greeting.extend(wire::OPTION_MAGIC.to_be_bytes());
    greeting.extend(ours.to_be_bytes());
    stream.write_all(&greeting)?;
    let flags = u32::from_be_bytes(read_array(stream)?);
    if flags & !u32::from(ours) != 0 {
        return Err(ProtocolError::new(format!("a client with the flags {flags:#x}")).into());
    }
    let mut haggling = Haggling {
        stream,
        offer,
        session: Session::default(),
        chosen_for: String::new(),
        no_zeroes: flags & u32::from(handshake_flags::NO_ZEROES) != 0,
    };
    for _ in 0..MAX_OPTIONS {
        let header = match read_array(haggling.stream) {
            // A client that has seen enough.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            header => wire::parse_option(&header?)?,
        };
        if header.len > wire::MAX_OPTION {
            let text = format!("an option of {} bytes", header.len);
            return Err(ProtocolError::new(text).into());
        }
        let data = read_data(haggling.stream, header.len)?;
        match haggling.option(header.option, &data)? {
            Step::Next => {}
            Step::Go => return Ok(Some(haggling.session)),
            Step::End => return Ok(None),
        }
    }
    Err(ProtocolError::new("a client that asks for options without end").into())
}

/// The step after an option.
enum Step {
    Next,
    Go,
    End,
}

struct Haggling<'a, S> {
    stream: &'a mut S,
    offer: &'a Offer,
    session: Session,
    /// The name with which extents were chosen.
    chosen_for: String,
    no_zeroes: bool,
}

impl<S: Read + Write> Haggling<'_, S> {
    fn option(&mut self, option: u32, data: &[u8]) -> Result<Step, Error> {
        match option {
            opt::EXPORT_NAME => return self.export_name(data),
            opt::ABORT => {
                // The client may be gone already.
                let _ = self.reply(option, rep::ACK, &[]);
                return Ok(Step::End);
            }
            opt::LIST if data.is_empty() => {
                let name = self.offer.name.as_bytes();
                let entry = [&(name.len() as u32).to_be_bytes(), name].concat();
                self.reply(option, rep::SERVER, &entry)?;
                self.reply(option, rep::ACK, &[])?;
            }
            opt::STRUCTURED_REPLY if data.is_empty() => {
                self.session.structured = true;
                self.reply(option, rep::ACK, &[])?;
            }
            opt::LIST | opt::STRUCTURED_REPLY => {
                self.reply(option, rep::ERR_INVALID, b"this option has no data")?;
            }
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => self.meta_context(option, data)?,
            opt::INFO | opt::GO => return self.info(option, data),
            _ => self.reply(option, rep::ERR_UNSUP, b"this option is not known here")?,
        }
        Ok(Step::Next)
    }

    fn reply(&mut self, option: u32, reply: u32, data: &[u8]) -> Result<(), Error> {
        Ok(self.stream.write_all(&wire::encode_reply(option, reply, data))?)
    }

    fn is_ours(&self, name: &str) -> bool {
        name.is_empty() || name == self.offer.name
    }

    fn flags(&self) -> u16 {
        let df = if self.session.structured { ExportFlags::DF } else { ExportFlags::empty() };
        (self.offer.flags | df).bits()
    }

    fn export_name(&mut self, data: &[u8]) -> Result<Step, Error> {
        let name = str::from_utf8(data).unwrap_or("\0");
        if !self.is_ours(name) {
            // The protocol has no way to say so.
            return Ok(Step::End);
        }
        self.keep_context_of(name);
        let mut to = wire::encode_export(self.offer.bytes, self.flags());
        if !self.no_zeroes {
            to.extend([0; 124]);
        }
        self.stream.write_all(&to)?;
        Ok(Step::Go)
    }

    /// Extents that were chosen for an export of another name do not count.
    fn keep_context_of(&mut self, name: &str) {
        self.session.allocation &= self.chosen_for == name;
    }

    fn meta_context(&mut self, option: u32, data: &[u8]) -> Result<(), Error> {
        let setting = option == opt::SET_META_CONTEXT;
        if setting {
            self.session.allocation = false;
        }
        let parsed = wire::parse_meta(data).filter(|_| self.session.structured);
        let Some((name, queries)) = parsed else {
            return self.reply(option, rep::ERR_INVALID, b"wrong data, or no structured replies");
        };
        if !self.is_ours(&name) {
            return self.reply(option, rep::ERR_UNKNOWN, b"there is no such export");
        }
        let wanted = queries.iter().any(|query| query == ALLOCATION);
        let listed = !setting && (queries.is_empty() || queries.iter().any(|q| q == "base:"));
        if wanted || listed {
            let number = if setting { ALLOCATION_NUMBER } else { 0 };
            let context = [&number.to_be_bytes(), ALLOCATION.as_bytes()].concat();
            self.reply(option, rep::META_CONTEXT, &context)?;
        }
        if setting {
            self.session.allocation = wanted;
            self.chosen_for = name;
        }
        self.reply(option, rep::ACK, &[])
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Result<Step, Error> {
        let Some((name, _)) = wire::parse_go(data) else {
            self.reply(option, rep::ERR_INVALID, b"wrong data")?;
            return Ok(Step::Next);
        };
        if !self.is_ours(&name) {
            self.reply(option, rep::ERR_UNKNOWN, b"there is no such export")?;
            return Ok(Step::Next);
        }
        let Offer { bytes, min_block, preferred_block, .. } = *self.offer;
        let export = wire::encode_info(bytes, self.flags());
        self.reply(option, rep::INFO, &export)?;
        let sizes = wire::encode_block_size(min_block, preferred_block, wire::MAX_PAYLOAD);
        self.reply(option, rep::INFO, &sizes)?;
        self.reply(option, rep::ACK, &[])?;
        if option == opt::INFO {
            return Ok(Step::Next);
        }
        self.keep_context_of(&name);
        Ok(Step::Go)
    }
}
