//! The requests under way, the watches and the messages to send, as plain data: nothing here calls
//! a waker, it is handed to the caller instead.

use crate::reply::Answer;
use crate::{ErrorKind, Op, TransportError};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;
use vecmap::VecMap;
use xen_abi::xs_wire::Header;
use zerocopy::IntoBytes;

/// The most requests whose answers are awaited at once; more wait for their turn. Bounds the memory
/// that a xenstored which does not answer can make this side use.
pub(crate) const IN_FLIGHT_MAX: usize = 64;

/// The most different paths that are kept for one watch; when more come, a single event for the
/// watched path itself takes their place. Bounds the memory that others can make this side use by
/// changing what is watched (XSA-349).
const EVENTS_MAX: usize = 32;

/// One connection.
#[derive(Default)]
pub(crate) struct State {
    last_id: u32,
    pub requests: VecMap<u32, Request>,
    /// Number of `requests` without an answer.
    pub in_flight: usize,
    pub for_slot: Vec<Waker>,
    /// Number of transactions that are neither committed nor undone.
    pub transactions: usize,
    /// True while only open transactions may send requests.
    pub paused: bool,
    /// Number of answers so far, modulo 2^32.
    pub answers: u32,
    /// Number of streams so far, modulo 2^32: a transaction ends with its stream.
    pub streams: u32,
    pub last_token: u64,
    pub watches: VecMap<u64, Events>,
    pub outgoing: VecDeque<Vec<u8>>,
    pub driver: Option<Waker>,
    pub end: Option<TransportError>,
}

/// A transaction, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tx {
    /// Its number at xenstored; 0 for none.
    pub id: u32,
    /// The stream that it was started over: another daemon, or the same one after a reconnection,
    /// knows others by its number.
    pub stream: u32,
}

impl Tx {
    /// The place of requests outside every transaction.
    pub const NONE: Tx = Tx { id: 0, stream: 0 };
}

/// A request without its payload.
pub(crate) struct Request {
    pub op: Op,
    pub stage: Stage,
}

/// A request's life: waiting, then either answered and taken, or abandoned and then answered.
pub(crate) enum Stage {
    Waiting(Option<Waker>),
    Answered(Result<Answer, ErrorKind>),
    Abandoned,
}

/// Events that a watch has seen.
pub(crate) struct Events {
    pub path: String,
    pub queue: VecDeque<String>,
    pub waker: Option<Waker>,
}

impl State {
    /// Queues a message; gives its number and the driver's waker, to be woken once the state is no
    /// longer borrowed.
    pub fn submit(&mut self, op: Op, tx: Tx, payload: &[u8], stage: Stage) -> (u32, Option<Waker>) {
        let req_id = self.free_id();
        if self.end.is_some() {
            return (req_id, None);
        }
        if tx != Tx::NONE && tx.stream != self.streams {
            if let Stage::Waiting(_) = stage {
                let stage = Stage::Answered(Err(ErrorKind::Again));
                self.requests.insert(req_id, Request { op, stage });
            }
            return (req_id, None);
        }
        // Callers limit the payload to less than a page.
        let len = payload.len() as u32;
        let mut message =
            Header { kind: op.message(), req_id, tx_id: tx.id, len }.as_bytes().to_vec();
        message.extend_from_slice(payload);
        self.outgoing.push_back(message);
        self.requests.insert(req_id, Request { op, stage });
        self.in_flight += 1;
        (req_id, self.driver.take())
    }

    /// A number that no request has; never 0, which watch events have.
    fn free_id(&mut self) -> u32 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.requests.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// Puts an answer to its request; gives the wakers to be woken once the state is no longer
    /// borrowed.
    pub fn answer(&mut self, id: u32, answer: Result<Answer, ErrorKind>) -> Vec<Waker> {
        self.in_flight -= 1;
        self.answers = self.answers.wrapping_add(1);
        let mut wakers = core::mem::take(&mut self.for_slot);
        let request = self.requests.get_mut(&id).expect("the caller found it");
        match core::mem::replace(&mut request.stage, Stage::Answered(answer)) {
            Stage::Waiting(waker) => wakers.extend(waker),
            _ => wakers.extend(self.discard(id)),
        }
        wakers
    }

    /// Gives up a request. One that has no answer yet keeps its number until the answer comes. A
    /// transaction that was started for nobody is ended.
    pub fn discard(&mut self, id: u32) -> Option<Waker> {
        match self.requests.remove(&id)? {
            Request { stage: Stage::Answered(Ok(Answer::Transaction(id))), .. } => {
                let tx = Tx { id, stream: self.streams };
                self.submit(Op::EndTransaction, tx, b"F\0", Stage::Abandoned).1
            }
            Request { stage: Stage::Answered(_), .. } => None,
            Request { op, .. } if self.end.is_none() => {
                self.requests.insert(id, Request { op, stage: Stage::Abandoned });
                None
            }
            Request { .. } => None,
        }
    }
}

impl State {
    /// Returns true if a request of the transaction `tx` may be sent now.
    pub fn has_slot(&self, tx: Tx) -> bool {
        self.end.is_some() || (self.in_flight < IN_FLIGHT_MAX && (tx != Tx::NONE || !self.paused))
    }

    /// Returns true if xenstored owes nothing: no answer, and no end of a transaction.
    pub fn is_quiet(&self) -> bool {
        self.end.is_some() || (self.in_flight == 0 && self.transactions == 0)
    }
}

impl Events {
    pub fn of(path: &str) -> Self {
        Events { path: path.into(), queue: VecDeque::new(), waker: None }
    }

    /// Keeps an event until it is taken, in bounded memory.
    pub fn push(&mut self, event: &str) {
        if self.queue.iter().any(|queued| queued == event) {
            return;
        }
        if self.queue.len() == EVENTS_MAX {
            self.queue.clear();
            self.queue.push_back(self.path.clone());
        } else {
            self.queue.push_back(event.into());
        }
    }
}
