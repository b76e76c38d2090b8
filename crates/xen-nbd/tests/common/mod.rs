//! A disk in memory, and both sides of a connection.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xen_nbd::client::Connection;
use xen_nbd::server::{Disk, Info, Server};
use xen_nbd::{Socket, handshake};

pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A disk in memory whose calls take `delay`, and whose sectors in `bad` cannot be read.
pub struct Memory {
    pub bytes: Mutex<Vec<u8>>,
    pub flushes: Mutex<u32>,
    pub delay: Duration,
    pub bad: Option<Range<u64>>,
    pub read_only: bool,
    pub now: bool,
}

impl Memory {
    pub fn new(len: usize) -> Self {
        Memory {
            bytes: Mutex::new(vec![0; len]),
            flushes: Mutex::new(0),
            delay: Duration::ZERO,
            bad: None,
            read_only: false,
            now: true,
        }
    }

    fn range(at: u64, len: u64) -> Range<usize> {
        at as usize..(at + len) as usize
    }
}

impl Disk for Memory {
    fn info(&self) -> Info {
        Info {
            bytes: self.bytes.lock().unwrap().len() as u64,
            read_only: self.read_only,
            trim: true,
            min_block: 512,
            preferred_block: 4096,
        }
    }
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        std::thread::sleep(self.delay);
        if self.bad.as_ref().is_some_and(|bad| at < bad.end && at + to.len() as u64 > bad.start) {
            return Err(io::Error::other("a bad sector"));
        }
        to.copy_from_slice(&self.bytes.lock().unwrap()[Self::range(at, to.len() as u64)]);
        Ok(())
    }
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        std::thread::sleep(self.delay);
        self.bytes.lock().unwrap()[Self::range(at, from.len() as u64)].copy_from_slice(from);
        Ok(())
    }
    fn read_now(&self, at: u64, to: &mut [u8]) -> Option<io::Result<()>> {
        self.now.then(|| self.read(at, to))
    }
    fn flush(&self) -> io::Result<()> {
        std::thread::sleep(self.delay);
        *self.flushes.lock().unwrap() += 1;
        Ok(())
    }
    fn trim(&self, at: u64, len: u64) -> io::Result<()> {
        self.write_zeroes(at, len, true)
    }
    fn write_zeroes(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        self.bytes.lock().unwrap()[Self::range(at, len)].fill(0);
        Ok(())
    }
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let bytes = self.bytes.lock().unwrap();
        let holds =
            |sector: u64| bytes[Self::range(sector * 512, 512)].iter().any(|byte| *byte != 0);
        let end = bytes.len() as u64 / 512;
        let Some(start) = (at / 512..end).find(|sector| holds(*sector)) else { return Ok(None) };
        let end = (start..end).find(|sector| !holds(*sector)).unwrap_or(end);
        Ok(Some((start * 512).max(at)..end * 512))
    }
}

/// A server of `disk`, and a connection to it.
pub fn pair(disk: Arc<Memory>) -> (Arc<Server>, Connection) {
    let server = Server::new(disk, "disk", |text| panic!("{text}"));
    let connection = connect(&server);
    (server, connection)
}

/// One more connection.
pub fn connect(server: &Arc<Server>) -> Connection {
    let (ours, theirs) = UnixStream::pair().unwrap();
    server.accept(Socket::Unix(theirs)).unwrap();
    let socket = Socket::Unix(ours);
    socket.set_timeouts(Some(TIMEOUT), Some(TIMEOUT)).unwrap();
    let export = handshake::negotiate(&mut &socket, "disk").unwrap();
    Connection::new(socket, export, TIMEOUT).unwrap()
}
