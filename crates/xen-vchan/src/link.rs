//! One end of a channel, from its page's first byte to its end: what the offer, the connection, the reader and the
//! writer share.
//!
//! ```text
//!               peer's live byte 0               own program lets go of it,
//!            ┌───────────────────> Left ───┐     or close()
//!  Connected ┤  event channel unbound,     ├───────────────────> Closed
//!            │  or domain gone             │
//!            ├───────────────────> Died ───┤
//!            │  anything that cannot be    │
//!            └───────────────────> Broken ─┘ (pages given back at once)
//! ```
//! What the peer wrote before it left or died is still read.

mod moves;
mod wait;

use crate::info::{Info, Live, Role};
use crate::keys::{Keys, Values};
use crate::lookout::Lookout;
use crate::rings::{Rings, Wish};
use crate::{Error, PeerError};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use xen_abi::vchan;
use xen_platform::{Channel, EventCounter, Platform};

/// Why a connection is over.
#[derive(Clone)]
enum End {
    Left,
    Died,
    Broken(PeerError),
    Closed,
}

pub(crate) struct Link<P: Platform> {
    // Given back first: the event that follows shall find the pages free.
    rings: RefCell<Option<Rings<P>>>,
    channel: P::Channel,
    end: RefCell<Option<End>>,
    /// Counts the changes of `end`, so that a reader and a writer learn of what the other found out.
    ended: EventCounter,
    /// A client has come: from now on its live byte cannot say otherwise.
    met: Cell<bool>,
    /// How often to look again before going to sleep.
    pub relooks: Cell<u32>,
    /// Whether the event for what was read waits for the next write.
    pub holds_events: Cell<bool>,
    /// Something was read, and nobody has looked yet whether the peer wants an event for it.
    owes_look: Cell<bool>,
    lookout: Lookout<P>,
    pub info: Info,
    /// The used bytes of the page as this end found or made them, before the client announced itself.
    pub first_page: Vec<u8>,
    pub keys: Keys,
}

/// How often to look again, unless told otherwise: about as long as it takes to sleep and to be woken.
const LOOKS: u32 = 8;

pub(crate) type Failure<P> = Error<<P as Platform>::Error>;

impl<P: Platform> Link<P> {
    pub fn new(
        keys: Keys,
        info: Info,
        first_page: Vec<u8>,
        channel: P::Channel,
        rings: Rings<P>,
        lookout: Lookout<P>,
    ) -> Self {
        Link {
            rings: RefCell::new(Some(rings)),
            channel,
            end: RefCell::new(None),
            ended: EventCounter::new(),
            met: Cell::new(info.role == Role::Client),
            relooks: Cell::new(LOOKS),
            holds_events: Cell::new(false),
            owes_look: Cell::new(false),
            lookout,
            info,
            first_page,
            keys,
        }
    }

    /// Events counted so far: where a reader or writer starts.
    pub fn seen(&self) -> u32 {
        self.channel.seen()
    }

    pub fn head(&self) -> Vec<u8> {
        self.rings.borrow().as_ref().map(Rings::head).unwrap_or_default()
    }

    /// Says that this end is there, and wakes the peer.
    pub fn announce(&self) {
        if let Some(rings) = &*self.rings.borrow() {
            rings.arm(Wish::Data);
            rings.set_live(vchan::Live::CONNECTED);
        }
        self.channel.notify();
    }

    /// Does something with the rings. If it says that the peer got something by it, the event is sent that the peer may
    /// have asked for.
    #[inline(always)]
    fn attempt<T>(
        &self,
        action: impl FnOnce(&mut Rings<P>) -> Result<(T, Option<Wish>), PeerError>,
    ) -> Result<T, Failure<P>> {
        let mut rings = self.rings.borrow_mut();
        let Some(rings_now) = &mut *rings else { return Err(self.why_closed()) };
        match action(rings_now) {
            Ok((value, None)) => Ok(value),
            Ok((value, Some(Wish::Space))) if self.holds_events.get() => {
                self.owes_look.set(true);
                Ok(value)
            }
            Ok((value, Some(wish))) => {
                self.tell(rings_now, wish.bit());
                Ok(value)
            }
            Err(error) => {
                drop(rings);
                Err(self.blame(error))
            }
        }
    }

    /// Sends the event if the peer asked for one by these bits, or by that of what was read before.
    #[inline(always)]
    fn tell(&self, rings: &Rings<P>, wishes: u8) {
        let held = if self.owes_look.take() { Wish::Space.bit() } else { 0 };
        if rings.peer_wishes(wishes | held) {
            self.channel.notify();
        }
    }

    /// Sends the event that was held back for a write which did not come.
    #[inline(always)]
    fn send_held_event(&self) {
        if self.owes_look.get()
            && let Some(rings) = &*self.rings.borrow()
        {
            self.tell(rings, 0);
        }
    }

    /// Takes the peer's request for data back, and sends the event that goes with that.
    fn take_back_peers_wish(&self) -> Result<(), Failure<P>> {
        self.attempt(|_| Ok(((), Some(Wish::Data))))
    }

    /// Why there are no rings any more.
    #[cold]
    fn why_closed(&self) -> Failure<P> {
        match &*self.end.borrow() {
            Some(End::Broken(error)) => Error::Peer(error.clone()),
            _ => Error::Closed,
        }
    }

    #[cold]
    fn blame(&self, error: PeerError) -> Failure<P> {
        self.finish(End::Broken(error.clone()));
        Error::Peer(error)
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

    /// Whether nothing has ended the connection and the peer says that it is there: what [`Link::look`] finds almost
    /// always, at less cost.
    #[inline(always)]
    fn is_up(&self) -> bool {
        self.end.borrow().is_none() && self.peer_live() == Some(vchan::Live::CONNECTED)
    }

    /// Looks whether the peer says it is there; `None` if it does and the connection goes on.
    fn look(&self) -> Option<End> {
        if let Some(end) = &*self.end.borrow() {
            return Some(end.clone());
        }
        let end = match self.peer_live()? {
            vchan::Live::CONNECTED => return None,
            vchan::Live::NOT_YET if !self.met.get() => return None,
            vchan::Live::EXITED => End::Left,
            vchan::Live(value) => End::Broken(PeerError::Live { who: self.info.role.other(), value }),
        };
        self.finish(end.clone());
        Some(end)
    }

    /// Looks whether the peer is there, whatever it says.
    fn look_closely(&self) {
        if self.met.get() && self.end.borrow().is_none() && !self.channel.is_bound() {
            self.died();
        }
    }

    /// The peer is gone. It may have closed in good order just before: that counts.
    fn died(&self) {
        if self.look().is_none() {
            self.finish(End::Died);
        }
    }

    pub fn state(&self) -> Live {
        self.look_closely();
        match self.look() {
            None => Live::Connected,
            Some(End::Left) => Live::Left,
            Some(End::Died) => Live::Died,
            Some(End::Broken(_)) => Live::Broken,
            Some(End::Closed) => Live::Closed,
        }
    }

    /// The connection is over. The pages stay for what is still to be read, unless nothing of them can be believed.
    fn finish(&self, end: End) {
        let give_back = matches!(end, End::Broken(_) | End::Closed);
        *self.end.borrow_mut() = Some(end);
        if give_back {
            self.give_back();
        }
        self.ended.signal();
    }

    /// Tells the peer that this end has left, and gives the pages back. The event comes last, so that a server that it
    /// wakes finds its pages unmapped.
    fn give_back(&self) {
        if let Some(rings) = self.rings.take() {
            rings.set_live(vchan::Live::EXITED);
            drop(rings);
            self.channel.notify();
        }
    }

    /// Ends the connection on this side, and removes the keys if they are this side's.
    pub async fn close(&self) -> Result<(), Failure<P>> {
        self.finish(End::Closed);
        match self.info.role {
            Role::Client => Ok(()),
            Role::Server => {
                let values = Values { control_ref: self.info.control_ref, port: self.info.port };
                Ok(self.keys.remove(self.lookout.store(), values).await?)
            }
        }
    }
}

impl<P: Platform> Drop for Link<P> {
    fn drop(&mut self) {
        self.give_back();
    }
}
