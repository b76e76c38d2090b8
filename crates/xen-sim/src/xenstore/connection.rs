//! One client's connection: what it sent, what is on the way to it, its watches and its
//! transactions.

use super::tree::Tree;
use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use xen_abi::xs_wire::{Header, MessageType, PAYLOAD_MAX};
use xen_platform::DomId;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of answers and events that a client may leave unread before no more is taken from it, as
/// in the real ring.
const UNREAD_MAX: usize = 1024;

pub(super) struct Watch {
    /// The absolute path, or a special one.
    pub path: String,
    pub token: String,
    /// Bytes of an event's path to leave out: the domain's folder, if the watch was set with a
    /// relative path.
    pub prefix: usize,
}

pub(super) struct Connection {
    pub domain: DomId,
    pub watches: Vec<Watch>,
    /// Each with the copy of the tree that it works on.
    pub transactions: BTreeMap<u32, Tree>,
    pub last_tx: u32,
    /// Number of watch events so far.
    pub watch_events: u64,
    /// Answers and events are kept here while they are to be delayed.
    pub held: Option<Vec<Vec<u8>>>,
    input: Vec<u8>,
    output: VecDeque<u8>,
    is_open: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Connection {
    pub fn new(domain: DomId) -> Self {
        Connection {
            domain,
            watches: Vec::new(),
            transactions: BTreeMap::new(),
            last_tx: 0,
            watch_events: 0,
            held: None,
            input: Vec::new(),
            output: VecDeque::new(),
            is_open: true,
            reader: None,
            writer: None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Ends it: what is on the way still arrives, but nothing else.
    pub fn close(&mut self, wakers: &mut Vec<Waker>) {
        self.is_open = false;
        self.watches.clear();
        self.transactions.clear();
        self.input.clear();
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }

    /// Takes bytes from the client; `None` while it has to read first.
    pub fn feed(&mut self, bytes: &[u8], waker: &Waker) -> Option<usize> {
        if self.output.len() >= UNREAD_MAX {
            self.writer = Some(waker.clone());
            return None;
        }
        self.input.extend_from_slice(bytes);
        Some(bytes.len())
    }

    /// The next complete message from the client. Announcing more than is allowed ends the
    /// connection.
    pub fn message(&mut self, wakers: &mut Vec<Waker>) -> Option<(Header, Vec<u8>)> {
        let (header, rest) = Header::read_from_prefix(&self.input).ok()?;
        let len = header.len as usize;
        if len > PAYLOAD_MAX {
            self.close(wakers);
            return None;
        }
        let payload = rest.get(..len)?.to_vec();
        self.input.drain(..size_of::<Header>() + len);
        Some((header, payload))
    }

    /// Sends a message to the client, or keeps it while answers are held.
    pub fn send(
        &mut self,
        kind: MessageType,
        req_id: u32,
        tx_id: u32,
        payload: &[u8],
        wakers: &mut Vec<Waker>,
    ) {
        let len = u32::try_from(payload.len()).expect("payloads are short");
        assert!(payload.len() <= PAYLOAD_MAX, "the daemon must not send {len} bytes");
        let message = [Header { kind, req_id, tx_id, len }.as_bytes(), payload].concat();
        match &mut self.held {
            Some(held) => held.push(message),
            None => self.send_raw(&message, wakers),
        }
    }

    /// Puts bytes on the way to the client, whatever they are.
    pub fn send_raw(&mut self, bytes: &[u8], wakers: &mut Vec<Waker>) {
        if self.is_open {
            self.output.extend(bytes);
            wakers.extend(self.reader.take());
        }
    }

    /// Gives bytes to the client: 0 at the end, `None` while there are none.
    pub fn drain(
        &mut self,
        to: &mut [u8],
        waker: &Waker,
        wakers: &mut Vec<Waker>,
    ) -> Option<usize> {
        if self.output.is_empty() && self.is_open {
            self.reader = Some(waker.clone());
            return None;
        }
        let count = to.len().min(self.output.len());
        to.iter_mut().zip(self.output.drain(..count)).for_each(|(to, byte)| *to = byte);
        if self.output.len() < UNREAD_MAX {
            wakers.extend(self.writer.take());
        }
        Some(count)
    }
}
