//! A client that sends requests and takes replies on one thread, and checks each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use xen_nbd::wire::{self, Command, CommandFlags, ReplyHeader, Request, chunk};

/// Direction of the data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Read,
    Write,
}

/// A pattern of requests.
pub struct Load {
    pub name: &'static str,
    pub way: Way,
    pub size: usize,
    /// Requests in flight.
    pub depth: usize,
    /// Places by chance, and not one after another.
    pub random: bool,
}

/// Places of requests.
struct Places<'a> {
    load: &'a Load,
    blocks: u64,
    state: u64,
}

impl Places<'_> {
    fn next(&mut self) -> u64 {
        self.state += 1;
        let mut number = self.state;
        if self.load.random {
            number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            number ^= number >> 29;
            number = number.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16;
        }
        number % self.blocks * self.load.size as u64
    }
}

impl Load {
    /// Returns the requests a second at a server whose handshake is done. Each block of 4096 bytes
    /// begins with its offset, and those that are written do, too.
    pub fn run(&self, socket: UnixStream, bytes: u64, time: Duration) -> f64 {
        let mut from = BufReader::with_capacity(256 << 10, socket.try_clone().expect("a socket"));
        let mut to = socket;
        let mut places = Places { load: self, blocks: bytes / self.size as u64, state: 0 };
        let mut data = vec![0x5a; self.size];
        let mut at = vec![0; self.depth];
        let mut waiting: Vec<usize> = (0..self.depth).collect();
        let (start, mut done, mut in_flight) = (Instant::now(), 0u64, 0);
        let mut batch = Vec::new();
        loop {
            let over = start.elapsed() >= time;
            if over && in_flight == 0 {
                return done as f64 / start.elapsed().as_secs_f64();
            }
            for index in waiting.drain(..).filter(|_| !over) {
                at[index] = places.next();
                batch.extend(self.request(index, at[index]));
                if self.way == Way::Write {
                    for (n, block) in (0u64..).zip(data.chunks_mut(4096)) {
                        block[..8].copy_from_slice(&(at[index] + n * 4096).to_le_bytes());
                    }
                    batch.extend(&data);
                }
                in_flight += 1;
            }
            to.write_all(&batch).expect("the server takes requests");
            batch.clear();
            // All replies that came together.
            loop {
                if let Some(index) = self.reply(&mut from, &mut data, &at) {
                    in_flight -= 1;
                    done += 1;
                    waiting.push(index);
                }
                if from.buffer().is_empty() && !waiting.is_empty() {
                    break;
                }
            }
        }
    }

    fn request(&self, index: usize, at: u64) -> [u8; wire::REQUEST_LEN] {
        let command = if self.way == Way::Read { Command::Read } else { Command::Write };
        let flags = CommandFlags::empty();
        let (command, cookie, len) = (command as u16, index as u64, self.size as u32);
        Request { flags, command, cookie, at, len }.encode()
    }

    /// Takes a reply or a chunk. Returns the request that it ends.
    fn reply(&self, from: &mut impl BufRead, data: &mut [u8], at: &[u64]) -> Option<usize> {
        let mut header = [0; wire::CHUNK_LEN];
        from.read_exact(&mut header[..wire::SIMPLE_LEN]).expect("a reply");
        let first = header[..4].try_into().expect("four bytes");
        let len = ReplyHeader::len_of(first).expect("a reply");
        from.read_exact(&mut header[wire::SIMPLE_LEN..len]).expect("a reply");
        match ReplyHeader::decode(&header).expect("a reply") {
            ReplyHeader::Simple { error, cookie } => {
                assert!(error == 0 && self.way == Way::Write, "error {error}");
                Some(cookie as usize)
            }
            ReplyHeader::Chunk { flags, kind, cookie, len } => {
                let mut left = len as usize;
                if kind == chunk::DATA {
                    let mut offset = [0; 8];
                    from.read_exact(&mut offset).expect("an offset");
                    left -= 8;
                    from.read_exact(&mut data[..left]).expect("data");
                    let offset = u64::from_be_bytes(offset);
                    if offset % 4096 == 0 {
                        let found = u64::from_le_bytes(data[..8].try_into().expect("8 bytes"));
                        assert_eq!(found, offset, "the data of another block");
                    }
                    assert!(offset - at[cookie as usize] < self.size as u64);
                } else {
                    assert!(kind == chunk::NONE && left == 0, "a chunk of the kind {kind}");
                }
                (flags & chunk::DONE != 0).then_some(cookie as usize)
            }
        }
    }
}
