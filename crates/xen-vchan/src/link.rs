//! One end of a channel, from its page's first byte to its end: the state that the offer, the
//! connection, the reader and the writer share. [`bytes`] moves bytes, [`wait`] waits.
//!
//! ```text
//!               peer's live byte 0               own program drops it,
//!            ┌───────────────────> Left ───┐     or close()
//!  Connected ┤  live byte 0 unannounced,   ├───────────────────> Closed
//!            │  port unbound, domain gone  │
//!            ├───────────────────> Died ───┤
//!            │  a value that cannot be     │
//!            └───────────────────> Broken ─┘ (pages given back at once)
//! ```
//! The bytes that the peer wrote before it left or died can still be read. Where both ends can
//! half-close, each announces its end of output ([`Rings::finish`]), so a live byte that is cleared
//! without it means that the peer was cut off.

mod bytes;
#[cfg(test)]
mod model;
mod wait;

use crate::info::{Info, Live, Role};
use crate::keys::{Keys, Values};
use crate::monitor::PeerMonitor;
use crate::rings::{Places, Rings, WaitFor};
use crate::{Error, PeerError, WindowSize};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use xen_abi::vchan;
use xen_platform::{BusyPoll, Channel, EventCounter, Platform};
use xen_store::Store;

/// The reason why a connection is over.
#[derive(Clone)]
enum End {
    Left,
    Died,
    Broken(PeerError),
    Closed,
}

/// Meaning of a client that leaves, to its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// The connection is over. The next client gets a channel of its own.
    Ends,
    /// The connection is over until the next client takes the same pages.
    Pauses,
    /// Nothing: what is written waits for the next client, which takes the same pages.
    Unseen,
}

pub(crate) struct Link<P: Platform> {
    // Given back first: the event that follows shall find the pages free.
    rings: RefCell<Option<Rings<P>>>,
    channel: P::Channel,
    end: RefCell<Option<End>>,
    /// Counts the changes of `end`, so that a reader and a writer learn of what the other found
    /// out; and the arrival of the client.
    ended: EventCounter,
    /// A client has come: from now on its live byte cannot say otherwise.
    met: Cell<bool>,
    /// Meaning of a client that leaves.
    departure: Cell<Departure>,
    /// This end closes each direction on its own if the peer does.
    offers_half_close: bool,
    /// Both ends announce the end of their output.
    half_close: Cell<bool>,
    /// This end has announced the end of its output.
    finished: Cell<bool>,
    /// Number of looks in the busy-poll window before going to sleep.
    pub busy_poll_looks: Cell<u32>,
    /// The number of times that the window is longer than that.
    window_growth: Cell<u32>,
    /// The event for what was read waits for the next write.
    pub holds_events: Cell<bool>,
    /// Something was read, and whether the peer wants an event for it was not looked at yet.
    owes_event: Cell<bool>,
    monitor: PeerMonitor<P>,
    pub info: Info,
    /// The used bytes of the page as this end found or made them, before the client announced
    /// itself.
    pub first_page: Vec<u8>,
    pub keys: Keys,
}

pub(crate) type Failure<P> = Error<<P as Platform>::Error>;

impl<P: Platform> Link<P> {
    pub fn new(
        keys: Keys,
        info: Info,
        first_page: Vec<u8>,
        channel: P::Channel,
        rings: Rings<P>,
        monitor: PeerMonitor<P>,
    ) -> Self {
        Link {
            rings: RefCell::new(Some(rings)),
            channel,
            end: RefCell::new(None),
            ended: EventCounter::new(),
            met: Cell::new(false),
            departure: Cell::new(Departure::Ends),
            offers_half_close: true,
            half_close: Cell::new(false),
            finished: Cell::new(false),
            busy_poll_looks: Cell::new(BusyPoll::LOOKS),
            window_growth: Cell::new(1),
            holds_events: Cell::new(false),
            owes_event: Cell::new(false),
            monitor,
            info,
            first_page,
            keys,
        }
    }

    pub fn store(&self) -> &Store {
        self.monitor.store()
    }

    /// Returns the count of events so far, from which a reader or writer starts.
    pub fn seen(&self) -> u32 {
        self.channel.seen()
    }

    pub fn head(&self) -> Vec<u8> {
        self.rings.borrow().as_ref().map(Rings::head).unwrap_or_default()
    }

    pub fn can_half_close(&self) -> bool {
        self.half_close.get()
    }

    /// Has this end keep from the bits of half-close.
    pub fn without_half_close(mut self) -> Self {
        self.offers_half_close = false;
        self
    }

    pub fn set_departure(&self, departure: Departure) {
        self.departure.set(departure);
    }

    pub fn departure(&self) -> Departure {
        self.departure.get()
    }

    /// Returns true once a client has come.
    pub fn has_met(&self) -> bool {
        self.met.get() || matches!(self.try_client(), Ok(Some(())))
    }

    pub fn channel(&self) -> &P::Channel {
        &self.channel
    }

    pub fn places(&self) -> Option<Places> {
        self.rings.borrow().as_ref().map(Rings::places)
    }

    /// Announces a client with the size of its terminal, and wakes the server.
    pub fn announce(&self, half_close: bool, window: Option<WindowSize>) {
        self.met.set(true);
        self.half_close.set(half_close);
        if let Some(rings) = &*self.rings.borrow() {
            if half_close {
                rings.announce_half_close();
                window.into_iter().for_each(|size| rings.set_window(size));
            }
            rings.arm(WaitFor::Data);
            rings.set_live(vchan::Live::CONNECTED);
        }
        self.channel.notify();
    }

    /// Ready once a client has come, also one that has left again: what it wrote is to be read.
    pub fn try_client(&self) -> Result<Option<()>, Failure<P>> {
        let end = self.end.borrow().clone();
        match (self.peer_live(), end) {
            (Some(vchan::Live::CONNECTED | vchan::Live::EXITED), _) => {
                if !self.met.replace(true) {
                    let rings = self.rings.borrow();
                    let capable = rings.as_ref().is_some_and(Rings::peer_can_half_close);
                    self.half_close.set(self.offers_half_close && capable);
                    // The task that watches the peer has more to look at now.
                    self.ended.signal();
                }
                Ok(Some(()))
            }
            (_, Some(End::Died)) => Err(Error::Died(self.info.peer)),
            (Some(vchan::Live::NOT_YET), _) => Ok(None),
            (Some(vchan::Live(value)), _) => {
                Err(self.blame(PeerError::Live { who: Role::Client, value }))
            }
            (None, _) => Err(self.why_closed()),
        }
    }

    /// Returns why there are no rings any more.
    #[cold]
    fn why_closed(&self) -> Failure<P> {
        match &*self.end.borrow() {
            Some(End::Broken(error)) => Error::Peer(error.clone()),
            _ => Error::Closed,
        }
    }

    #[cold]
    fn blame(&self, error: PeerError) -> Failure<P> {
        self.end_with(End::Broken(error.clone()));
        Error::Peer(error)
    }

    fn check_writable(&self) -> Result<(), Failure<P>> {
        if self.finished.get() { Err(Error::Closed) } else { self.check_open() }
    }

    #[inline(always)]
    fn check_open(&self) -> Result<(), Failure<P>> {
        if self.is_up() { Ok(()) } else { self.check_closely() }
    }

    #[cold]
    fn check_closely(&self) -> Result<(), Failure<P>> {
        match self.look() {
            None => Ok(()),
            Some(End::Died) => Err(Error::Died(self.info.peer)),
            Some(End::Broken(error)) => Err(Error::Peer(error)),
            Some(End::Left | End::Closed) => Err(Error::Closed),
        }
    }

    #[inline(always)]
    fn peer_live(&self) -> Option<vchan::Live> {
        self.rings.borrow().as_ref().map(Rings::peer_live)
    }

    /// True if the peer has announced the end of its output.
    #[inline(always)]
    fn peer_finished(&self) -> bool {
        self.half_close.get() && self.rings.borrow().as_ref().is_some_and(Rings::peer_finished)
    }

    /// True if nothing has ended the connection and the peer says that it is there: what
    /// [`Link::look`] finds almost always, at less cost.
    #[inline(always)]
    fn is_up(&self) -> bool {
        self.end.borrow().is_none() && self.peer_live() == Some(vchan::Live::CONNECTED)
    }

    /// Looks whether the peer says that it is there; `None` if it does and the connection goes on.
    fn look(&self) -> Option<End> {
        if let Some(end) = &*self.end.borrow() {
            return Some(end.clone());
        }
        let end = match self.peer_live()? {
            vchan::Live::CONNECTED => return None,
            vchan::Live::NOT_YET if !self.met.get() => return None,
            vchan::Live::EXITED if self.departure.get() == Departure::Unseen => return None,
            vchan::Live::EXITED if self.departure.get() == Departure::Pauses => {
                return Some(End::Left);
            }
            // The announcement is written before the live byte is cleared.
            vchan::Live::EXITED if self.half_close.get() && !self.peer_finished() => End::Died,
            vchan::Live::EXITED => End::Left,
            vchan::Live(value) => {
                End::Broken(PeerError::Live { who: self.info.role.other(), value })
            }
        };
        self.end_with(end.clone());
        Some(end)
    }

    /// Looks whether the peer is there, whatever it says.
    fn look_closely(&self) {
        if self.met.get() && self.end.borrow().is_none() && !self.channel.is_bound() {
            self.peer_unbound();
        }
    }

    /// The peer's end of the port is gone. It may have closed in good order just before: that
    /// counts, and another client may come if it can.
    fn peer_unbound(&self) {
        let may_come_again = self.departure.get() != Departure::Ends
            && self.peer_live() == Some(vchan::Live::EXITED);
        if !may_come_again {
            self.died();
        }
    }

    /// The peer is gone, and nobody comes in its place.
    fn died(&self) {
        if self.look().is_none() || self.departure.get() != Departure::Ends {
            self.end_unless_ended(End::Died);
        }
    }

    fn end_unless_ended(&self, end: End) {
        if self.end.borrow().is_none() {
            self.end_with(end);
        }
    }

    pub fn state(&self) -> Live {
        self.look_closely();
        self.known_state()
    }

    /// Returns the state by what the page and earlier looks say.
    pub fn known_state(&self) -> Live {
        match self.look() {
            None => Live::Connected,
            Some(End::Left) => Live::Left,
            Some(End::Died) => Live::Died,
            Some(End::Broken(_)) => Live::Broken,
            Some(End::Closed) => Live::Closed,
        }
    }

    /// Returns the status that a server has left for its client.
    pub fn status(&self) -> Option<u8> {
        let rings = self.rings.borrow();
        rings.as_ref().filter(|_| self.half_close.get()).and_then(Rings::status)
    }

    /// Passes the size of the client's terminal to a server that may look for it, and wakes it.
    pub fn set_window(&self, size: WindowSize) {
        let rings = self.rings.borrow();
        let takes_it = self.info.role == Role::Client && self.half_close.get();
        if let Some(rings) = rings.as_ref().filter(|_| takes_it) {
            rings.set_window(size);
            self.channel.notify();
        }
    }

    /// Returns the size of the client's terminal, at its server.
    pub fn peer_window(&self) -> Option<WindowSize> {
        let rings = self.rings.borrow();
        let gives_it = self.info.role == Role::Server && self.half_close.get();
        rings.as_ref().filter(|_| gives_it).and_then(Rings::window)
    }

    /// The connection is over. The pages stay for what is still to be read, unless nothing of them
    /// can be believed.
    fn end_with(&self, end: End) {
        let give_back = matches!(end, End::Broken(_) | End::Closed);
        *self.end.borrow_mut() = Some(end);
        if give_back {
            self.give_back();
        }
        self.ended.signal();
    }

    /// Tells the peer that this end has left, and gives the pages back. The event comes last, so
    /// that a server that it wakes finds its pages unmapped.
    fn give_back(&self) {
        if let Some(rings) = self.rings.take() {
            rings.set_live(vchan::Live::EXITED);
            drop(rings);
            self.channel.notify();
        }
    }

    /// Announces the end of the output, and ends the connection. A server leaves `status` for its
    /// client.
    pub async fn close(&self, status: Option<u8>) -> Result<(), Failure<P>> {
        if self.half_close.get() {
            if let Some(rings) = &*self.rings.borrow() {
                status.into_iter().for_each(|status| rings.set_status(status));
                rings.finish();
            }
        }
        self.abort().await
    }

    /// Ends the connection on this side, and removes the keys if they are this side's.
    pub async fn abort(&self) -> Result<(), Failure<P>> {
        self.end_with(End::Closed);
        match self.info.role {
            Role::Client => Ok(()),
            Role::Server => {
                let values = Values { control_ref: self.info.control_ref, port: self.info.port };
                Ok(self.keys.remove(self.monitor.store(), values).await?)
            }
        }
    }
}

impl<P: Platform> Drop for Link<P> {
    fn drop(&mut self) {
        self.give_back();
    }
}
