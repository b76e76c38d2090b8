//! A connection that outlives its stream: what a domain needs that is saved and restored.

use crate::driver::pump;
use crate::shared::Shared;
use crate::state::{Request, Stage, State};
use crate::watch::request;
use crate::{Op, Store, TransportError};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Waker;
use embedded_io_async::{Read, Write};

/// The side of a connection that gives it its streams, one after another.
///
/// In a domain that is restored, the ring to xenstored is a new one, whose daemon knows no watch
/// and no transaction. So nothing may be under way when the domain is suspended:
/// [`Connection::pause`] first, and afterwards [`Connection::run`] over the new ring, or
/// [`Connection::unpause`] if the suspend was cancelled. Users of the [`Store`] notice nothing but
/// time and an event for each watch.
pub struct Connection(Rc<Shared>);

impl Connection {
    /// Makes a connection without a stream. Requests wait for one.
    pub fn new() -> (Store, Connection) {
        let shared = Rc::new(Shared::default());
        (Store::new(shared.clone()), Connection(shared))
    }

    /// Runs the connection over a stream until that ends, which ends the connection, too.
    ///
    /// Dropping the future leaves the connection as it is, and the next call gives it another
    /// stream: all watches are set again there, requests may begin again, and those that still had
    /// no answer fail.
    pub async fn run<R: Read, W: Write>(&self, reader: R, writer: W) -> TransportError {
        let wakers = self.0.0.borrow_mut().restart();
        wakers.into_iter().for_each(Waker::wake);
        let end = pump(&self.0, reader, writer).await;
        self.0.end(end.clone());
        end
    }

    /// Lets no more requests begin, and waits until those under way are answered and open
    /// transactions are over. Dropping the future does not undo it: see [`Connection::unpause`].
    pub async fn pause(&self) {
        self.0.0.borrow_mut().paused = true;
        poll_fn(|cx| self.0.poll_state(cx, State::is_quiet)).await
    }

    /// Lets requests begin again.
    pub fn unpause(&self) {
        self.0.change(|state| state.paused = false);
    }
}

/// The connection ends with the value, as nothing could give it a stream any more.
impl Drop for Connection {
    fn drop(&mut self) {
        self.0.end(TransportError::Dropped);
    }
}

impl State {
    /// Fails what another daemon was asked, and sets the watches again. Returns the wakers of the
    /// tasks that waited.
    fn restart(&mut self) -> Vec<Waker> {
        self.outgoing.clear();
        let is_open = |request: &Request| !matches!(request.stage, Stage::Answered(_));
        let open: Vec<u32> =
            self.requests.iter().filter(|(_, r)| is_open(r)).map(|(id, _)| *id).collect();
        let lost = || Err(TransportError::Dropped.into());
        self.paused = false;
        let mut wakers: Vec<Waker> =
            open.into_iter().flat_map(|id| self.answer(id, lost())).collect();
        wakers.append(&mut self.for_slot);
        let watches: Vec<_> = self
            .watches
            .iter()
            .map(|(token, events)| request(Op::Watch, &events.path, *token))
            .collect();
        for payload in watches {
            self.submit(Op::Watch, 0, &payload, Stage::Abandoned);
        }
        wakers
    }
}
