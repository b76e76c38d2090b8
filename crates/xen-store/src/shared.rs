//! State that the handles, the watches and the driver share.

use crate::reply::{self, Answer};
use crate::state::{Events, Request, Stage, State, Tx};
use crate::{ErrorKind, Flaw, Malformed, Op, TransportError, path};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use xen_abi::xs_wire::{Header, MessageType};

/// One connection's state. Not to be borrowed while a waker runs: wakers may drop futures that come
/// back here.
#[derive(Default)]
pub(crate) struct Shared(pub(crate) RefCell<State>);

impl Shared {
    /// Waits until another request of the transaction `tx` may be sent.
    pub async fn slot(&self, tx: Tx) {
        poll_fn(|cx| self.poll_state(cx, |state| state.has_slot(tx))).await
    }

    /// Ready once `condition` holds; looks again whenever an answer came or a transaction ended.
    pub fn poll_state(
        &self,
        cx: &mut Context<'_>,
        condition: impl FnOnce(&State) -> bool,
    ) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if condition(&state) {
            return Poll::Ready(());
        }
        if !state.for_slot.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.for_slot.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Changes the state, and has everything that waits for a slot look again.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.borrow_mut();
        change(&mut state);
        let wakers = core::mem::take(&mut state.for_slot);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Queues a request; the ticket waits for its answer.
    pub fn submit(self: &Rc<Self>, op: Op, tx: Tx, payload: &[u8]) -> Ticket {
        let (id, driver) = self.0.borrow_mut().submit(op, tx, payload, Stage::Waiting(None));
        wake(driver);
        Ticket { shared: self.clone(), id }
    }

    /// Queues a request whose answer nobody needs.
    pub fn submit_unawaited(&self, op: Op, tx: Tx, payload: &[u8]) {
        let (_, driver) = self.0.borrow_mut().submit(op, tx, payload, Stage::Abandoned);
        wake(driver);
    }

    /// Makes room for a watch's events and gives its token.
    pub fn add_watch(&self, path: &str) -> u64 {
        let mut state = self.0.borrow_mut();
        state.last_token += 1;
        let token = state.last_token;
        state.watches.insert(token, Events::of(path));
        token
    }

    pub fn remove_watch(&self, token: u64) {
        self.0.borrow_mut().watches.remove(&token);
    }

    /// The next event of a watch, or why there will be none.
    pub fn poll_event(
        &self,
        token: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<String, TransportError>> {
        let mut state = self.0.borrow_mut();
        let end = state.end.clone();
        let events = state.watches.get_mut(&token).expect("a watch keeps its entry");
        match (events.queue.pop_front(), end) {
            (Some(path), _) => Poll::Ready(Ok(path)),
            (None, Some(end)) => Poll::Ready(Err(end)),
            (None, None) => {
                events.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// For the driver: the next message to send.
    pub fn poll_outgoing(&self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let mut state = self.0.borrow_mut();
        match state.outgoing.pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                state.driver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// For the driver: whether nothing is left to send.
    pub fn all_sent(&self) -> bool {
        self.0.borrow().outgoing.is_empty()
    }

    /// For the driver: takes in a message.
    pub fn receive(&self, header: Header, payload: Vec<u8>) -> Result<(), Malformed> {
        let taken = match header.kind {
            // The other fields are not looked at: Linux leaves them unset in the events of
            // /dev/xen/xenbus.
            MessageType::WATCH_EVENT => self.receive_event(&payload),
            _ => self.receive_reply(header, payload),
        };
        taken.map_err(|flaw| Malformed { kind: header.kind, req_id: header.req_id, flaw })
    }

    fn receive_reply(&self, header: Header, payload: Vec<u8>) -> Result<(), Flaw> {
        let mut state = self.0.borrow_mut();
        let Some(Request { op, stage: Stage::Waiting(_) | Stage::Abandoned }) =
            state.requests.get(&header.req_id)
        else {
            return Err(Flaw::UnknownRequest);
        };
        let op = *op;
        let answer = match header.kind {
            MessageType::ERROR => Err(reply::parse_error(&payload)?),
            kind if kind == op.message() => Ok(reply::parse(op, payload)?),
            _ => return Err(Flaw::WrongType(op.message())),
        };
        let wakers = state.answer(header.req_id, answer);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn receive_event(&self, payload: &[u8]) -> Result<(), Flaw> {
        let (event, token) = reply::parse_event(payload)?;
        let mut state = self.0.borrow_mut();
        let number = reply::number(token).filter(|n| (1..=state.last_token).contains(n));
        let number = number.ok_or_else(|| Flaw::UnknownToken(token.into()))?;
        // Events of a watch that was just dropped come until xenstored has read its UNWATCH.
        let Some(events) = state.watches.get_mut(&number) else { return Ok(()) };
        if !path::is_within(event, &events.path) {
            return Err(Flaw::Stray(event.into()));
        }
        events.push(event);
        let waker = events.waker.take();
        drop(state);
        wake(waker);
        Ok(())
    }

    /// Ends the connection: everything that waits, and everything later, gets `why`. Only the first
    /// call counts.
    pub fn end(&self, why: TransportError) {
        let mut state = self.0.borrow_mut();
        if state.end.is_some() {
            return;
        }
        state.end = Some(why);
        state.outgoing.clear();
        let mut wakers = core::mem::take(&mut state.for_slot);
        wakers.extend(state.watches.values_mut().filter_map(|events| events.waker.take()));
        wakers.extend(state.requests.values_mut().filter_map(|request| match &mut request.stage {
            Stage::Waiting(waker) => waker.take(),
            _ => None,
        }));
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Waits for the answer to a request; dropping it gives up the answer.
pub(crate) struct Ticket {
    shared: Rc<Shared>,
    id: u32,
}

impl Future for Ticket {
    type Output = Result<Answer, ErrorKind>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.0.borrow_mut();
        match state.requests.remove(&self.id) {
            Some(Request { stage: Stage::Answered(answer), .. }) => Poll::Ready(answer),
            Some(Request { op, .. }) if state.end.is_none() => {
                let stage = Stage::Waiting(Some(cx.waker().clone()));
                state.requests.insert(self.id, Request { op, stage });
                Poll::Pending
            }
            _ => {
                let end = state
                    .end
                    .clone()
                    .expect("a request stays until it is answered or the connection ends");
                Poll::Ready(Err(end.into()))
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let driver = self.shared.0.borrow_mut().discard(self.id);
        wake(driver);
    }
}
