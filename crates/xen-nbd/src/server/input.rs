//! Requests as they come from a client: as many at a time as there are.

use crate::Socket;
use std::io::{self, Read};
use std::ops::Range;

/// Bytes that are read at a time. Data that fit are not copied.
const BUFFER: usize = 256 << 10;

/// Bytes that were read and not used yet.
pub struct Input {
    buffer: Vec<u8>,
    ready: Range<usize>,
}

impl Input {
    pub fn new() -> Self {
        Input { buffer: vec![0; BUFFER], ready: 0..0 }
    }

    /// Returns true if the next `len` bytes are here.
    pub fn has(&self, len: usize) -> bool {
        self.ready.len() >= len
    }

    /// Returns true if data of this length can be taken with [`Input::take`].
    pub fn fits(len: usize) -> bool {
        len <= BUFFER
    }

    /// Reads until the next `len` bytes are here. Returns false if the client ended before the
    /// first of them.
    pub fn fill(&mut self, socket: &Socket, len: usize) -> io::Result<bool> {
        if self.ready.start + len > self.buffer.len() {
            self.buffer.copy_within(self.ready.clone(), 0);
            self.ready = 0..self.ready.len();
        }
        let mut from = socket;
        while self.ready.len() < len {
            match from.read(&mut self.buffer[self.ready.end..]) {
                Ok(0) if self.ready.is_empty() => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.ready.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes the next `len` bytes, which are here.
    pub fn take(&mut self, len: usize) -> &[u8] {
        let start = self.ready.start;
        self.ready.start += len;
        let taken = start..start + len;
        if self.ready.is_empty() {
            self.ready = 0..0;
        }
        &self.buffer[taken]
    }

    /// Fills `to` with the next bytes, wherever they are.
    pub fn read_exact(&mut self, socket: &Socket, to: &mut [u8]) -> io::Result<()> {
        let here = to.len().min(self.ready.len());
        to[..here].copy_from_slice(self.take(here));
        let mut from = socket;
        from.read_exact(&mut to[here..])
    }
}
