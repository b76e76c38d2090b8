//! A connection of a client, after the handshake: many threads send requests and wait for replies.
//!
//! There is no thread that receives. Of the threads that wait for a reply, one reads from the
//! socket: it hands the replies of others over, and the task of reading when its own has come. So a
//! single request costs no switch between threads.

mod coverage;
mod receive;

use crate::error::errno;
use crate::handshake::{self, Export};
use crate::wire::{Command, CommandFlags, Extent, Request};
use crate::{Error, Socket, Uri};
use coverage::Coverage;
use receive::Receiver;
use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Most requests of a connection at a time. Others wait for one of these to end.
pub const MAX_IN_FLIGHT: usize = 64;
/// Time after which a thread that reads looks whether the connection was given up.
const TICK: Duration = Duration::from_millis(250);

/// Reason why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection is lost: nobody knows whether the request was carried out.
    #[error("the connection is lost: {0}")]
    Lost(Arc<str>),
    /// The server answered with an error, or the request is one that it cannot have.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

/// A connection to an export.
pub struct Connection {
    socket: Socket,
    export: Export,
    /// Time after which a request without a reply ends the connection.
    timeout: Duration,
    state: Mutex<State>,
    sender: Mutex<()>,
    receiver: Mutex<Receiver>,
    /// One for each slot, and one for those that wait for a free slot.
    wakers: Vec<Condvar>,
    free: Condvar,
}

struct State {
    slots: Vec<Option<Slot>>,
    serial: u64,
    /// Some thread reads from the socket.
    receiving: bool,
    /// The reason why it is lost.
    lost: Option<Arc<str>>,
    /// A write had no reply when it was lost.
    unanswered_writes: bool,
}

/// A request in flight.
struct Slot {
    cookie: u64,
    since: Instant,
    request: Expected,
    /// Its thread waits.
    waits: bool,
    done: bool,
    /// The first error of its reply.
    error: Option<(u32, String)>,
    coverage: Coverage,
    /// Data that another thread has read.
    data: Vec<u8>,
    extents: Vec<Extent>,
}

/// The part of a request that its reply must fit.
#[derive(Clone, Copy)]
struct Expected {
    command: Command,
    at: u64,
    len: u32,
}

impl Connection {
    /// Connects to the export, and carries the handshake out. `step` bounds each step of that, and
    /// `timeout` the time for which a server may be silent later while it owes a reply.
    pub fn open(uri: &Uri, step: Duration, timeout: Duration) -> Result<Connection, Error> {
        if uri.tls {
            let text = "this program has no TLS: use nbd:// or nbd+unix://, through a tunnel";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text).into());
        }
        let socket = Socket::connect(&uri.address, step)?;
        socket.set_timeouts(Some(step), Some(step))?;
        let export = handshake::negotiate(&mut &socket, &uri.export)?;
        Ok(Connection::new(socket, export, timeout)?)
    }

    /// A connection whose handshake is done.
    pub fn new(socket: Socket, export: Export, timeout: Duration) -> io::Result<Self> {
        socket.set_timeouts(Some(TICK.min(timeout)), Some(timeout))?;
        let state = State {
            slots: (0..MAX_IN_FLIGHT).map(|_| None).collect(),
            serial: 0,
            receiving: false,
            lost: None,
            unanswered_writes: false,
        };
        Ok(Connection {
            socket,
            export,
            timeout,
            state: Mutex::new(state),
            sender: Mutex::new(()),
            receiver: Mutex::new(Receiver::new()),
            wakers: (0..MAX_IN_FLIGHT).map(|_| Condvar::new()).collect(),
            free: Condvar::new(),
        })
    }

    /// Returns the properties of the export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Fills `to` from the bytes at `at`.
    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Failure> {
        if to.is_empty() {
            return Ok(());
        }
        self.call(Command::Read, CommandFlags::empty(), at, to.len(), &[], to).map(drop)
    }

    /// Writes `from` at `at`.
    pub fn write(&self, at: u64, from: &[u8], flags: CommandFlags) -> Result<(), Failure> {
        self.call(Command::Write, flags, at, from.len(), from, &mut []).map(drop)
    }

    /// Writes zeros.
    pub fn write_zeroes(&self, at: u64, len: u32, flags: CommandFlags) -> Result<(), Failure> {
        self.call(Command::WriteZeroes, flags, at, len as usize, &[], &mut []).map(drop)
    }

    /// Forgets what is there.
    pub fn trim(&self, at: u64, len: u32) -> Result<(), Failure> {
        let flags = CommandFlags::empty();
        self.call(Command::Trim, flags, at, len as usize, &[], &mut []).map(drop)
    }

    /// Makes all writes that were answered durable.
    pub fn flush(&self) -> Result<(), Failure> {
        self.call(Command::Flush, CommandFlags::empty(), 0, 0, &[], &mut []).map(drop)
    }

    /// Returns extents from `at` on: at least one, not more than `len` bytes together.
    pub fn extents(&self, at: u64, len: u32) -> Result<Vec<Extent>, Failure> {
        let flags = CommandFlags::empty();
        self.call(Command::BlockStatus, flags, at, len as usize, &[], &mut [])
    }

    /// Returns true once it is lost: all requests fail from then on.
    pub fn is_lost(&self) -> bool {
        self.state().lost.is_some()
    }

    /// Gives the connection up. Requests in flight fail within a moment.
    pub fn give_up(&self, reason: &str) {
        self.lose(reason);
        // The server ends it as well, once it has done what it was sent. The other direction stays
        // open: its end is how `drain` learns of that.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Returns true if a write or the like had no reply when the connection was lost: the server
    /// may still be at it, unless [`Connection::drain`] succeeds.
    pub fn has_unanswered_writes(&self) -> bool {
        self.state().unanswered_writes
    }

    /// Waits until the server has ended a connection that is lost. Returns false if it does not
    /// within `timeout`.
    pub fn drain(&self, timeout: Duration) -> bool {
        self.socket.drain(timeout)
    }

    /// Says goodbye, if nothing is in flight.
    fn disconnect(&self) {
        if self.state().lost.is_none() {
            let request = Request {
                flags: CommandFlags::empty(),
                command: Command::Disconnect as u16,
                cookie: 0,
                at: 0,
                len: 0,
            };
            let _ = self.socket.send(&request.encode(), &[]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Sends a request, and waits for its reply.
    fn call(
        &self,
        command: Command,
        flags: CommandFlags,
        at: u64,
        len: usize,
        payload: &[u8],
        to: &mut [u8],
    ) -> Result<Vec<Extent>, Failure> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the request is too long");
        let len = u32::try_from(len).map_err(|_| too_long())?;
        let expected = Expected { command, at, len };
        let (index, cookie) = self.begin(expected)?;
        let head = Request { flags, command: command as u16, cookie, at, len }.encode();
        let sent = {
            let _alone = self.sender.lock().expect("no holder panics");
            self.socket.send(&head, payload)
        };
        if let Err(error) = sent {
            self.lose(&describe(&error, "takes no request"));
        }
        self.finish(index, to)
    }

    /// Takes a slot for a request, as soon as one is free.
    fn begin(&self, request: Expected) -> Result<(usize, u64), Failure> {
        let mut state = self.state();
        loop {
            if let Some(reason) = &state.lost {
                return Err(Failure::Lost(reason.clone()));
            }
            if let Some(index) = state.slots.iter().position(Option::is_none) {
                state.serial += 1;
                let cookie = state.serial << 8 | index as u64;
                state.slots[index] = Some(Slot {
                    cookie,
                    since: Instant::now(),
                    request,
                    waits: false,
                    done: false,
                    error: None,
                    coverage: Coverage::default(),
                    data: Vec::new(),
                    extents: Vec::new(),
                });
                return Ok((index, cookie));
            }
            state = self.free.wait(state).expect("no holder panics");
        }
    }

    /// Waits for the reply to the request in a slot, reads replies if nobody else does, and frees
    /// the slot.
    fn finish(&self, index: usize, to: &mut [u8]) -> Result<Vec<Extent>, Failure> {
        let mut state = self.state();
        loop {
            let slot = state.slots[index].as_mut().expect("it is this thread's");
            slot.waits = true;
            if slot.done {
                break;
            }
            if let Some(reason) = &state.lost {
                let reason = reason.clone();
                self.release(&mut state, index);
                return Err(Failure::Lost(reason));
            }
            if state.receiving {
                state = self.wakers[index].wait(state).expect("no holder panics");
                continue;
            }
            state.receiving = true;
            drop(state);
            let received = self.receive_until_done(index, to);
            if let Err(error) = received {
                self.lose(&error);
            }
            state = self.state();
            state.receiving = false;
            // Somebody else goes on reading.
            let next = state
                .slots
                .iter()
                .position(|slot| slot.as_ref().is_some_and(|slot| slot.waits && !slot.done));
            if let Some(next) = next {
                self.wakers[next].notify_one();
            }
        }
        let slot = self.release(&mut state, index).expect("it is this thread's");
        drop(state);
        if let Some((number, text)) = slot.error {
            if number == errno::ESHUTDOWN {
                self.lose("the server is about to end");
                return Err(Failure::Lost("the server is about to end".into()));
            }
            return Err(Failure::Refused(errno::error(number, &text)));
        }
        if !slot.data.is_empty() {
            to.copy_from_slice(&slot.data);
        }
        Ok(slot.extents)
    }

    fn release(&self, state: &mut State, index: usize) -> Option<Slot> {
        let slot = state.slots[index].take();
        self.free.notify_one();
        slot
    }

    /// Ends the connection: every request in flight fails.
    fn lose(&self, reason: &str) {
        let mut state = self.state();
        if state.lost.is_some() {
            return;
        }
        state.lost = Some(reason.into());
        let is_write = |slot: &Slot| {
            use Command::*;
            !slot.done && matches!(slot.request.command, Write | WriteZeroes | Trim)
        };
        state.unanswered_writes = state.slots.iter().flatten().any(is_write);
        drop(state);
        self.wakers.iter().for_each(Condvar::notify_all);
        self.free.notify_all();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Describes the end of a connection by an error of its socket.
fn describe(error: &io::Error, silent: &str) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the server {silent} any more")
        }
        io::ErrorKind::UnexpectedEof => "the server has ended the connection".into(),
        _ => error.to_string(),
    }
}
