//! Replies on their way to a client: those of requests that came together leave together.

use crate::Socket;
use crate::wire::{self, Extent, ReplyHeader, chunk};
use std::io;
use std::sync::Arc;

/// Bytes that are collected before they are sent.
const BUFFER: usize = 256 << 10;
/// Longest data that are collected; longer ones are sent at once.
pub const SHORT: usize = 64 << 10;
/// Length of the head of a reply with data in chunks.
const DATA_HEAD: usize = wire::CHUNK_LEN + 8;

/// The sending side of a client.
pub struct Output {
    socket: Arc<Socket>,
    structured: bool,
    buffer: Vec<u8>,
    used: usize,
    scratch: Vec<u8>,
}

/// The request that a reply is for.
#[derive(Clone, Copy)]
pub struct To {
    pub cookie: u64,
    pub at: u64,
    pub len: u32,
    /// Its reply has data, unless it fails.
    pub with_data: bool,
}

impl Output {
    pub fn new(socket: Arc<Socket>, structured: bool) -> Self {
        Output { socket, structured, buffer: vec![0; BUFFER], used: 0, scratch: Vec::new() }
    }

    /// Sends what was collected.
    pub fn flush(&mut self) -> io::Result<()> {
        let used = std::mem::take(&mut self.used);
        self.socket.send(&self.buffer[..used], &[])
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.used + bytes.len() > self.buffer.len() {
            self.flush()?;
            if bytes.len() > self.buffer.len() {
                return self.socket.send(bytes, &[]);
            }
        }
        self.buffer[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    /// Sends or collects what `fill` puts into an empty buffer.
    fn with_scratch(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        fill(&mut scratch);
        let done = self.push(&scratch);
        self.scratch = scratch;
        done
    }

    /// Replies without data that a request was carried out.
    pub fn done(&mut self, to: To) -> io::Result<()> {
        let cookie = to.cookie;
        // A reply with data, of which there are none, must be a chunk.
        let header = match self.structured && to.with_data {
            true => ReplyHeader::Chunk { flags: chunk::DONE, kind: chunk::NONE, cookie, len: 0 },
            false => ReplyHeader::Simple { error: 0, cookie },
        };
        self.with_scratch(|scratch| header.encode(scratch))
    }

    /// Replies with an error.
    pub fn error(&mut self, to: To, number: u32, text: &str) -> io::Result<()> {
        let structured = self.structured;
        self.with_scratch(|scratch| match structured {
            true => wire::encode_error(to.cookie, number, text, None, scratch),
            false => ReplyHeader::Simple { error: number, cookie: to.cookie }.encode(scratch),
        })
    }

    /// Replies with extents.
    pub fn extents(&mut self, to: To, context: u32, extents: &[Extent]) -> io::Result<()> {
        self.with_scratch(|scratch| wire::encode_status(to.cookie, context, extents, scratch))
    }

    fn data_head(&self, to: To, flags: u16, head: &mut Vec<u8>) {
        if self.structured {
            let len = to.len + 8;
            ReplyHeader::Chunk { flags, kind: chunk::DATA, cookie: to.cookie, len }.encode(head);
            head.extend(to.at.to_be_bytes());
        } else {
            ReplyHeader::Simple { error: 0, cookie: to.cookie }.encode(head);
        }
    }

    /// Replies with data that are here.
    pub fn data(&mut self, to: To, data: &[u8]) -> io::Result<()> {
        let mut head = Vec::with_capacity(DATA_HEAD);
        self.data_head(to, chunk::DONE, &mut head);
        if data.len() <= SHORT {
            self.push(&head)?;
            return self.push(data);
        }
        self.flush()?;
        self.socket.send(&head, data)
    }

    /// Replies with at most [`SHORT`] bytes of data, which `fill` puts where they are sent from. If
    /// it returns `None`, there is no reply yet, and the result is false.
    pub fn fill(
        &mut self,
        to: To,
        fill: impl FnOnce(&mut [u8]) -> Option<io::Result<()>>,
    ) -> io::Result<bool> {
        let len = to.len as usize;
        if self.used + DATA_HEAD + len > self.buffer.len() {
            self.flush()?;
        }
        let mut head = std::mem::take(&mut self.scratch);
        head.clear();
        self.data_head(to, chunk::DONE, &mut head);
        let (head_len, start) = (head.len(), self.used);
        self.buffer[start..][..head_len].copy_from_slice(&head);
        self.scratch = head;
        match fill(&mut self.buffer[start + head_len..][..len]) {
            None => return Ok(false),
            Some(Ok(())) => self.used = start + head_len + len,
            Some(Err(error)) => {
                self.error(to, crate::error::errno::of(&error), &error.to_string())?;
            }
        }
        Ok(true)
    }

    /// Begins a reply with long data, which follow with [`Output::piece`], and then
    /// [`Output::end`].
    pub fn begin(&mut self, to: To) -> io::Result<()> {
        let mut head = Vec::with_capacity(DATA_HEAD);
        // An error may yet come.
        self.data_head(to, 0, &mut head);
        self.push(&head)
    }

    /// Sends a part of long data.
    pub fn piece(&mut self, data: &[u8]) -> io::Result<()> {
        let used = std::mem::take(&mut self.used);
        self.socket.send(&self.buffer[..used], data)
    }

    /// Ends a reply with long data, all of which were sent.
    pub fn end(&mut self, to: To) -> io::Result<()> {
        match self.structured {
            true => self.done(to),
            false => Ok(()),
        }
    }

    /// Ends a reply with long data that could not all be read: `missing` of them are still to be
    /// sent, from `at` on. Without chunks only the end of the connection tells that.
    pub fn fail(&mut self, to: To, at: u64, missing: usize, error: io::Error) -> io::Result<()> {
        if !self.structured {
            return Err(error);
        }
        let zeros = vec![0; missing.min(BUFFER)];
        let mut left = missing;
        while left > 0 {
            let count = left.min(zeros.len());
            self.piece(&zeros[..count])?;
            left -= count;
        }
        let (number, text) = (crate::error::errno::of(&error), error.to_string());
        self.with_scratch(|scratch| {
            wire::encode_error(to.cookie, number, &text, Some(at), scratch);
        })
    }
}
