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

use crate::info::{Info, Live, Role};
use crate::keys::{Keys, Values};
use crate::lookout::Lookout;
use crate::rings::{Rings, Wish};
use crate::{Error, PeerError};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
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
    lookout: Lookout<P>,
    pub info: Info,
    /// The used bytes of the page as this end found or made them, before the client announced itself.
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
        lookout: Lookout<P>,
    ) -> Self {
        Link {
            rings: RefCell::new(Some(rings)),
            channel,
            end: RefCell::new(None),
            ended: EventCounter::new(),
            met: Cell::new(info.role == Role::Client),
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

    /// Reads what is there: `None` if that is nothing yet, `Some(0)` if the peer has left and nothing will come.
    pub fn try_read(&self, to: &mut [u8]) -> Result<Option<usize>, Failure<P>> {
        let n = self.attempt(|rings| rings.read(to))?;
        if n > 0 || to.is_empty() {
            return Ok(Some(n));
        }
        if self.look().is_none() {
            return Ok(None);
        }
        // What the peer wrote before it ended is to be seen by now.
        match (self.attempt(|rings| rings.read(to))?, self.look()) {
            (0, Some(End::Died)) => Err(Error::Died(self.info.peer)),
            (n, _) => Ok(Some(n)),
        }
    }

    /// Writes what there is space for; `None` if there is none.
    pub fn try_write(&self, from: &[u8]) -> Result<Option<usize>, Failure<P>> {
        self.check_open()?;
        let n = self.attempt(|rings| rings.write(from))?;
        Ok((n > 0 || from.is_empty()).then_some(n))
    }

    /// Ready once the peer has read everything.
    pub fn try_drained(&self) -> Result<Option<()>, Failure<P>> {
        if self.attempt(|rings| Ok((rings.is_drained()?, false)))? {
            return Ok(Some(()));
        }
        self.check_open()?;
        Ok(None)
    }

    /// Whether the peer has read everything and waits for more.
    pub fn is_idle(&self) -> Result<bool, Failure<P>> {
        self.check_open()?;
        self.attempt(|rings| Ok((rings.is_drained()? && rings.peer_awaits_data(), false)))
    }

    /// Whether a client has come: also one that has left again, since what it wrote is to be read.
    pub fn try_client(&self) -> Result<Option<()>, Failure<P>> {
        let end = self.end.borrow().clone();
        match (self.peer_live(), end) {
            (Some(vchan::Live::CONNECTED | vchan::Live::EXITED), _) => {
                self.met.set(true);
                Ok(Some(()))
            }
            (_, Some(End::Died)) => Err(Error::Died(self.info.peer)),
            (Some(vchan::Live::NOT_YET), _) => Ok(None),
            (Some(vchan::Live(value)), _) => Err(self.blame(PeerError::Live { who: Role::Client, value })),
            (None, _) => Err(self.why_closed()),
        }
    }

    /// Does something with the rings, and sends the event if it says that the peer wants one.
    #[inline]
    fn attempt<T>(&self, action: impl FnOnce(&mut Rings<P>) -> Result<(T, bool), PeerError>) -> Result<T, Failure<P>> {
        let done = match &mut *self.rings.borrow_mut() {
            Some(rings) => action(rings),
            None => return Err(self.why_closed()),
        };
        match done {
            Ok((value, notify)) => {
                if notify {
                    self.channel.notify();
                }
                Ok(value)
            }
            Err(error) => Err(self.blame(error)),
        }
    }

    /// Why there are no rings any more.
    fn why_closed(&self) -> Failure<P> {
        match &*self.end.borrow() {
            Some(End::Broken(error)) => Error::Peer(error.clone()),
            _ => Error::Closed,
        }
    }

    fn blame(&self, error: PeerError) -> Failure<P> {
        self.finish(End::Broken(error.clone()));
        Error::Peer(error)
    }

    fn check_open(&self) -> Result<(), Failure<P>> {
        match self.look() {
            None => Ok(()),
            Some(End::Died) => Err(Error::Died(self.info.peer)),
            Some(End::Broken(error)) => Err(Error::Peer(error)),
            Some(End::Left | End::Closed) => Err(Error::Closed),
        }
    }

    fn peer_live(&self) -> Option<vchan::Live> {
        self.rings.borrow().as_ref().map(Rings::peer_live)
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

    /// Looks whether the peer is there, whatever it says; true if it was just found to be gone.
    fn look_closely(&self) -> bool {
        if !self.met.get() || self.channel.is_bound() || self.end.borrow().is_some() {
            return false;
        }
        self.died();
        true
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

    /// Repeats `attempt` until it gives something. In between it asks the peer for an event, attempts once more, and
    /// sleeps. `seen` is the count of events that the caller keeps.
    pub async fn until<T>(
        &self,
        seen: &mut u32,
        wish: Wish,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>, Failure<P>>,
    ) -> Result<T, Failure<P>> {
        let mut woken = false;
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            if let Some(rings) = &*self.rings.borrow() {
                rings.arm(wish);
            }
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            // Not before the first sleep: the question costs a hypercall, and whoever answers promptly is there.
            if woken && self.look_closely() {
                continue;
            }
            self.sleep(seen).await;
            woken = true;
        }
    }

    /// Waits for a reason to look again.
    async fn sleep(&self, seen: &mut u32) {
        let mut ended = self.ended.count();
        let mut asked = pin!(self.lookout.is_peer_gone());
        poll_fn(|cx| {
            // All of them each time: each leaves its waker.
            let event = self.channel.poll_after(seen, cx).is_ready();
            let ended = self.ended.poll_after(&mut ended, cx).is_ready();
            // An offer sleeps undisturbed: before the client has come, nothing can be learned from the channel.
            let tick = self.met.get() && self.lookout.poll_tick(cx);
            let news = self.lookout.poll_news(cx);
            let answer = if news { asked.as_mut().poll(cx) } else { Poll::Pending };
            if answer == Poll::Ready(true) {
                self.died();
            }
            if event || ended || tick || answer.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

impl<P: Platform> Drop for Link<P> {
    fn drop(&mut self) {
        self.give_back();
    }
}
