//! Reading replies: each is checked against its request before any of it is used.

use super::{Connection, Expected, Slot, TICK, describe};
use crate::Error;
use crate::error::ProtocolError;
use crate::wire::{self, Command, ReplyHeader, chunk};
use std::io::{self, Read};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes that are read from the socket at a time, if they are not data for a long read.
const BUFFER: usize = 64 << 10;
/// Longest payload of an error chunk in bytes.
const MAX_ERROR: u32 = 6 + wire::MAX_MESSAGE as u32 + 64;
/// Longest payload of a status chunk in bytes.
const MAX_STATUS: u32 = 4 + 8 * wire::MAX_EXTENTS as u32;

/// The receiving side: bytes that were read from the socket and not used yet.
pub struct Receiver {
    buffer: Vec<u8>,
    ready: Range<usize>,
    checked: Instant,
}

impl Receiver {
    pub fn new() -> Self {
        Receiver { buffer: vec![0; BUFFER], ready: 0..0, checked: Instant::now() }
    }

    /// Fills `to`. Fails if the server says nothing for too long, or the connection is given up.
    fn read_exact(&mut self, from: &Connection, mut to: &mut [u8]) -> io::Result<()> {
        let mut silent_since = None;
        while !to.is_empty() {
            if !self.ready.is_empty() {
                let count = to.len().min(self.ready.len());
                let (head, rest) = to.split_at_mut(count);
                head.copy_from_slice(&self.buffer[self.ready.start..][..count]);
                self.ready.start += count;
                to = rest;
                continue;
            }
            let mut socket = &from.socket;
            // Long data need no second copy.
            let direct = to.len() >= self.buffer.len();
            let read = if direct { socket.read(to) } else { socket.read(&mut self.buffer) };
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    silent_since = None;
                    match direct {
                        true => to = &mut to[count..],
                        false => self.ready = 0..count,
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        let since = *silent_since.get_or_insert_with(Instant::now);
                        if from.is_lost() || since.elapsed() + TICK >= from.timeout {
                            return Err(error);
                        }
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn read_payload(&mut self, from: &Connection, len: u32) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; len as usize];
        self.read_exact(from, &mut payload)?;
        Ok(payload)
    }

    fn header(&mut self, from: &Connection) -> Result<ReplyHeader, Error> {
        let mut header = [0; wire::CHUNK_LEN];
        self.read_exact(from, &mut header[..wire::SIMPLE_LEN])?;
        let len = ReplyHeader::len_of(wire::bytes(&header, 0))?;
        self.read_exact(from, &mut header[wire::SIMPLE_LEN..len])?;
        Ok(ReplyHeader::decode(&header)?)
    }

    /// Returns true about four times in `timeout`.
    fn is_time_to_check(&mut self, timeout: Duration) -> bool {
        let due = self.checked.elapsed() >= timeout / 4;
        if due {
            self.checked = Instant::now();
        }
        due
    }
}

fn wrong(text: String) -> Error {
    ProtocolError::new(text).into()
}

impl Connection {
    /// Reads replies until the request in the slot `own` is done. Its data go to `to`.
    pub(super) fn receive_until_done(&self, own: usize, to: &mut [u8]) -> Result<(), String> {
        let mut receiver = self.receiver.lock().expect("no holder panics");
        loop {
            match self.receive(&mut receiver, own, to) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::Io(error)) => return Err(describe(&error, "answers nothing")),
                Err(error) => return Err(error.to_string()),
            }
            if receiver.is_time_to_check(self.timeout) {
                let state = self.state();
                let open = state.slots.iter().flatten().filter(|slot| !slot.done);
                if open.map(|slot| slot.since.elapsed()).max() > Some(self.timeout * 2) {
                    return Err("the server answers other requests, and not an old one".into());
                }
            }
        }
    }

    /// Reads one reply or chunk. Returns true if that ends the request in the slot `own`.
    fn receive(&self, receiver: &mut Receiver, own: usize, to: &mut [u8]) -> Result<bool, Error> {
        let header = receiver.header(self)?;
        let (ReplyHeader::Simple { cookie, .. } | ReplyHeader::Chunk { cookie, .. }) = header;
        let index = (cookie & 0xff) as usize;
        let request = {
            let state = self.state();
            let slot = state.slots.get(index).and_then(Option::as_ref);
            let slot = slot.filter(|slot| slot.cookie == cookie && !slot.done);
            slot.ok_or_else(|| wrong(format!("a reply to no request: {cookie:#x}")))?.request
        };
        let to = (index == own).then_some(to);
        let done = match header {
            ReplyHeader::Simple { error, .. } => {
                self.simple(receiver, index, request, error, to)?;
                true
            }
            ReplyHeader::Chunk { flags, kind, len, .. } => {
                if !self.export.structured {
                    return Err(wrong("a chunk, although none were agreed on".into()));
                }
                self.chunk(receiver, index, request, (kind, len), to)?;
                flags & chunk::DONE != 0
            }
        };
        if !done {
            return Ok(false);
        }
        self.with_slot(index, Slot::finish)?;
        if index != own {
            self.wakers[index].notify_one();
        }
        Ok(index == own)
    }

    /// Changes a slot, unless the connection was lost meanwhile: its thread may have left then.
    fn with_slot<T>(
        &self,
        index: usize,
        change: impl FnOnce(&mut Slot) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        if let Some(reason) = &state.lost {
            return Err(io::Error::other(reason.to_string()).into());
        }
        change(state.slots[index].as_mut().expect("only its thread frees it, once it is done"))
    }

    fn simple(
        &self,
        receiver: &mut Receiver,
        index: usize,
        request: Expected,
        error: u32,
        to: Option<&mut [u8]>,
    ) -> Result<(), Error> {
        let with_data = matches!(request.command, Command::Read | Command::BlockStatus);
        if self.export.structured && with_data {
            return Err(wrong("a simple reply to a request whose reply has data".into()));
        }
        if error != 0 {
            return self.with_slot(index, |slot| {
                slot.error = Some((error, String::new()));
                Ok(())
            });
        }
        if request.command == Command::Read {
            self.data(receiver, index, request, 0..request.len as usize, to)?;
        }
        Ok(())
    }

    fn chunk(
        &self,
        receiver: &mut Receiver,
        index: usize,
        request: Expected,
        (kind, len): (u16, u32),
        to: Option<&mut [u8]>,
    ) -> Result<(), Error> {
        let long = || wrong(format!("a chunk of the kind {kind:#x} with {len} bytes"));
        match (kind, request.command) {
            (chunk::NONE, _) if len == 0 => Ok(()),
            (chunk::DATA, Command::Read) if len > 8 => {
                let offset = receiver.read_payload(self, 8)?;
                let range = request.within(u64::from_be_bytes(wire::bytes(&offset, 0)), len - 8)?;
                self.data(receiver, index, request, range, to)
            }
            (chunk::HOLE, Command::Read) if len == 12 => {
                let hole = receiver.read_payload(self, len)?;
                let count = u32::from_be_bytes(wire::bytes(&hole, 8));
                let range = request.within(u64::from_be_bytes(wire::bytes(&hole, 0)), count)?;
                self.cover(index, &range)?;
                match to {
                    Some(to) => to[range].fill(0),
                    None => self.with_slot(index, |slot| {
                        slot.data_of(request)[range].fill(0);
                        Ok(())
                    })?,
                }
                Ok(())
            }
            (chunk::STATUS, Command::BlockStatus) if len <= MAX_STATUS => {
                let payload = receiver.read_payload(self, len)?;
                let (context, extents) = wire::parse_status(&payload)?;
                if Some(context) != self.export.allocation {
                    return Err(wrong(format!("extents of the kind {context}")));
                }
                self.with_slot(index, |slot| {
                    if !slot.extents.is_empty() {
                        return Err(wrong("extents twice".into()));
                    }
                    slot.extents = request.clip(extents);
                    Ok(())
                })
            }
            (error, _) if error & chunk::IS_ERROR != 0 && len <= MAX_ERROR => {
                let payload = receiver.read_payload(self, len)?;
                let error = wire::parse_error(kind, &payload)?;
                self.with_slot(index, |slot| {
                    slot.error.get_or_insert(error);
                    Ok(())
                })
            }
            _ => Err(long()),
        }
    }

    fn cover(&self, index: usize, range: &Range<usize>) -> Result<(), Error> {
        self.with_slot(index, |slot| {
            let fresh = slot.coverage.add(range.start as u64, range.len() as u64);
            fresh.then_some(()).ok_or_else(|| wrong("data that came already, or none".into()))
        })
    }

    /// Reads data of a read: to where they are wanted, or for another thread.
    fn data(
        &self,
        receiver: &mut Receiver,
        index: usize,
        request: Expected,
        range: Range<usize>,
        to: Option<&mut [u8]>,
    ) -> Result<(), Error> {
        self.cover(index, &range)?;
        if let Some(to) = to {
            return Ok(receiver.read_exact(self, &mut to[range])?);
        }
        // The lock is not held while bytes are waited for.
        let mut data = self.with_slot(index, |slot| {
            slot.data_of(request);
            Ok(std::mem::take(&mut slot.data))
        })?;
        let read = receiver.read_exact(self, &mut data[range]);
        self.with_slot(index, |slot| {
            slot.data = data;
            Ok(())
        })?;
        Ok(read?)
    }
}

impl Slot {
    fn data_of(&mut self, request: Expected) -> &mut [u8] {
        self.data.resize(request.len as usize, 0);
        &mut self.data
    }

    /// Ends the request, whose last chunk has come.
    fn finish(&mut self) -> Result<(), Error> {
        let Expected { command, len, .. } = self.request;
        let whole = match command {
            Command::Read => self.coverage.is_whole(0, len.into()),
            Command::BlockStatus => !self.extents.is_empty(),
            _ => true,
        };
        if !whole && self.error.is_none() {
            return Err(wrong(format!("a reply that lacks a part of its {len} bytes")));
        }
        self.done = true;
        Ok(())
    }
}

impl Expected {
    /// Returns the place of `len` bytes at `at` in the data of the request.
    fn within(&self, at: u64, len: u32) -> Result<Range<usize>, Error> {
        let start = at.checked_sub(self.at);
        let end = start.and_then(|start| start.checked_add(len.into()));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.len.into() => Ok(start as usize..end as usize),
            _ => Err(wrong(format!("data at {at}, {len} bytes, for {} at {}", self.len, self.at))),
        }
    }

    /// Leaves out what lies behind the end of the request.
    fn clip(&self, extents: Vec<wire::Extent>) -> Vec<wire::Extent> {
        let mut left = self.len;
        let mut clipped = Vec::new();
        for extent in extents {
            let len = extent.len.min(left);
            if len == 0 {
                break;
            }
            left -= len;
            clipped.push(wire::Extent { len, ..extent });
        }
        clipped
    }
}
