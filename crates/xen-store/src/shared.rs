//! What the handles, the watches and the driver share: the requests under way, the watches, the messages to send.

use crate::reply::{self, Answer};
use crate::{ErrorKind, Flaw, Malformed, Op, TransportError, path};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use xen_abi::xs_wire::{Header, MessageType};
use zerocopy::IntoBytes;

/// The most requests whose answers are awaited at once; more wait for their turn. Bounds the memory that a xenstored
/// which does not answer can make this side use.
const IN_FLIGHT_MAX: usize = 64;

/// The most different paths that are kept for one watch; when more come, a single event for the watched path itself
/// takes their place. Bounds the memory that others can make this side use by changing what is watched (XSA-349).
const EVENTS_MAX: usize = 32;

/// One connection's state. Not to be borrowed while a waker runs: wakers may drop futures that come back here.
#[derive(Default)]
pub(crate) struct Shared(RefCell<State>);

#[derive(Default)]
struct State {
    last_id: u32,
    requests: BTreeMap<u32, Request>,
    /// How many of `requests` have no answer yet.
    in_flight: usize,
    for_slot: Vec<Waker>,
    last_token: u64,
    watches: BTreeMap<u64, Events>,
    outgoing: VecDeque<Vec<u8>>,
    driver: Option<Waker>,
    end: Option<TransportError>,
}

struct Request {
    op: Op,
    stage: Stage,
}

/// A request's life: waiting, then either answered and taken, or abandoned and then answered.
enum Stage {
    Waiting(Option<Waker>),
    Answered(Result<Answer, ErrorKind>),
    Abandoned,
}

/// What a watch has seen.
struct Events {
    path: String,
    queue: VecDeque<String>,
    waker: Option<Waker>,
}

impl Shared {
    /// Waits until another request may be sent.
    pub async fn slot(&self) {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if state.in_flight < IN_FLIGHT_MAX || state.end.is_some() {
                return Poll::Ready(());
            }
            if !state.for_slot.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.for_slot.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Queues a request; the ticket waits for its answer.
    pub fn submit(self: &Rc<Self>, op: Op, tx: u32, payload: &[u8]) -> Ticket {
        let (id, driver) = self.0.borrow_mut().submit(op, tx, payload, Stage::Waiting(None));
        wake(driver);
        Ticket { shared: self.clone(), id }
    }

    /// Queues a request whose answer nobody needs.
    pub fn submit_unawaited(&self, op: Op, tx: u32, payload: &[u8]) {
        let (_, driver) = self.0.borrow_mut().submit(op, tx, payload, Stage::Abandoned);
        wake(driver);
    }

    /// Makes room for a watch's events and gives its token.
    pub fn add_watch(&self, path: &str) -> u64 {
        let mut state = self.0.borrow_mut();
        state.last_token += 1;
        let token = state.last_token;
        state.watches.insert(token, Events { path: path.into(), queue: VecDeque::new(), waker: None });
        token
    }

    pub fn remove_watch(&self, token: u64) {
        self.0.borrow_mut().watches.remove(&token);
    }

    /// The next event of a watch, or why there will be none.
    pub fn poll_event(&self, token: u64, cx: &mut Context<'_>) -> Poll<Result<String, TransportError>> {
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
            // The other fields are not looked at: Linux leaves them unset in the events of /dev/xen/xenbus.
            MessageType::WATCH_EVENT => self.receive_event(&payload),
            _ => self.receive_reply(header, payload),
        };
        taken.map_err(|flaw| Malformed { kind: header.kind, req_id: header.req_id, flaw })
    }

    fn receive_reply(&self, header: Header, payload: Vec<u8>) -> Result<(), Flaw> {
        let mut state = self.0.borrow_mut();
        let Some(Request { op, stage: Stage::Waiting(_) | Stage::Abandoned }) = state.requests.get(&header.req_id)
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

    /// Ends the connection: everything that waits, and everything later, gets `why`. Only the first call counts.
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

impl State {
    /// Queues a message; gives its number and the driver's waker, to be woken once the state is no longer borrowed.
    fn submit(&mut self, op: Op, tx_id: u32, payload: &[u8], stage: Stage) -> (u32, Option<Waker>) {
        let req_id = self.free_id();
        if self.end.is_some() {
            return (req_id, None);
        }
        let len = u32::try_from(payload.len()).expect("callers limit the payload");
        let mut message = Header { kind: op.message(), req_id, tx_id, len }.as_bytes().to_vec();
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

    /// Puts an answer to its request; gives the wakers to be woken once the state is no longer borrowed.
    fn answer(&mut self, id: u32, answer: Result<Answer, ErrorKind>) -> Vec<Waker> {
        self.in_flight -= 1;
        let mut wakers = core::mem::take(&mut self.for_slot);
        let request = self.requests.get_mut(&id).expect("the caller found it");
        match core::mem::replace(&mut request.stage, Stage::Answered(answer)) {
            Stage::Waiting(waker) => wakers.extend(waker),
            _ => wakers.extend(self.discard(id)),
        }
        wakers
    }

    /// Gives up a request. One that has no answer yet keeps its number until the answer comes. A transaction that was
    /// started for nobody is ended.
    fn discard(&mut self, id: u32) -> Option<Waker> {
        match self.requests.remove(&id)? {
            Request { stage: Stage::Answered(Ok(Answer::Transaction(tx))), .. } => {
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

impl Events {
    fn push(&mut self, event: &str) {
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
                let end = state.end.clone().expect("a request stays until it is answered or the connection ends");
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
