//! A connection that outlives its stream: what a domain needs that is saved and restored.

use crate::driver::pump;
use crate::reply::Answer;
use crate::shared::Shared;
use crate::state::{Request, Stage, State, Tx};
use crate::watch::request;
use crate::{ErrorKind, Op, Store, TransportError};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Poll, Waker};
use core::time::Duration;
use embedded_io_async::{Read, Write};
use xen_platform::{Clock, sleep};

/// The side of a connection that gives it its streams, one after another.
///
/// In a domain that is restored, the ring to xenstored is a new one, whose daemon knows no watch
/// and no transaction; so it is after a reconnection (`io/xs_wire.h`). What is under way is made
/// again over the new stream, and users of the [`Store`] notice nothing but time and an event for
/// each watch. Requests may be carried out twice then, which a domain that is suspended can avoid:
/// [`Connection::pause`] first, and [`Connection::unpause`] if the suspend was cancelled.
pub struct Connection(Rc<Shared>);

impl Connection {
    /// Makes a connection without a stream. Requests wait for one.
    pub fn new() -> (Store, Connection) {
        let shared = Rc::new(Shared::default());
        (Store::new(shared.clone()), Connection(shared))
    }

    /// Runs the connection over a stream until that ends. The connection goes on over the next one;
    /// [`Connection::end`] ends it.
    ///
    /// `report` gets true once xenstored has owed an answer for `patience` and given none, or up to
    /// twice as long, and false when it gives one after that: for messages, since there is nothing
    /// to do but wait.
    ///
    /// Dropping the future leaves the connection as it is. The next call gives it another stream:
    /// all watches are set again there, requests without an answer are made again, and so are
    /// transactions that were open.
    pub async fn run<R: Read, W: Write>(
        &self,
        reader: R,
        writer: W,
        clock: &impl Clock,
        patience: Duration,
        report: impl FnMut(bool),
    ) -> TransportError {
        let wakers = self.0.0.borrow_mut().restart();
        wakers.into_iter().for_each(Waker::wake);
        let mut pump = pin!(pump(&self.0, reader, writer));
        let mut watch = pin!(self.watch(clock, patience, report));
        // Whatever the second looks at wakes the first, or is its work.
        poll_fn(|cx| match pump.as_mut().poll(cx) {
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => watch.as_mut().poll(cx),
        })
        .await
    }

    /// Tells when answers stay out, and when they come again. It sees what changes because the same
    /// task moves the messages.
    async fn watch(
        &self,
        clock: &impl Clock,
        patience: Duration,
        mut report: impl FnMut(bool),
    ) -> TransportError {
        loop {
            self.once(|state| state.in_flight > 0).await;
            let answers = self.0.0.borrow().answers;
            let owes = |state: &State| state.in_flight > 0 && state.answers == answers;
            // One timer for however many requests: a deadline for each would stay until its time.
            sleep(clock, patience).await;
            if owes(&self.0.0.borrow()) {
                report(true);
                self.once(|state| !owes(state)).await;
                report(false);
            }
        }
    }

    async fn once(&self, condition: impl Fn(&State) -> bool) {
        poll_fn(|_| match condition(&self.0.0.borrow()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await
    }

    /// Ends the connection, as no stream is left for it: everything that waits, and everything
    /// later, gets `why`.
    pub fn end(&self, why: TransportError) {
        self.0.end(why);
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
    /// Has everything made again that the next stream's daemon knows nothing of. Returns the wakers
    /// of the tasks that waited.
    fn restart(&mut self) -> Vec<Waker> {
        self.outgoing.clear();
        self.streams = self.streams.wrapping_add(1);
        let is_open = |request: &Request| !matches!(request.stage, Stage::Answered(_));
        let open: Vec<(u32, Op)> =
            self.requests.iter().filter(|(_, r)| is_open(r)).map(|(id, r)| (*id, r.op)).collect();
        for request in self.requests.values_mut() {
            if let Stage::Answered(Ok(Answer::Transaction(_))) = request.stage {
                request.stage = Stage::Answered(Err(ErrorKind::Again));
            }
        }
        // A watch is set below, like those that are there.
        let answer = |op| match op {
            Op::Watch => Ok(Answer::Done),
            _ => Err(ErrorKind::Again),
        };
        self.paused = false;
        let mut wakers: Vec<Waker> =
            open.into_iter().flat_map(|(id, op)| self.answer(id, answer(op))).collect();
        wakers.append(&mut self.for_slot);
        let watches: Vec<_> = self
            .watches
            .iter()
            .map(|(token, events)| request(Op::Watch, &events.path, *token))
            .collect();
        for payload in watches {
            self.submit(Op::Watch, Tx::NONE, &payload, Stage::Abandoned);
        }
        wakers
    }
}
