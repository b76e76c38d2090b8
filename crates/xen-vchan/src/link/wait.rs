//! Waiting: for bytes, for space, for the client, and for the peer to be done with what it has read.

use super::{Failure, Link};
use crate::rings::Wish;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use xen_platform::{Channel, Platform, Time};

/// The pauses between two looks whether the peer waits again: the first, and the longest. A peer that asks for an event
/// sends none, so nothing else tells.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

impl<P: Platform> Link<P> {
    /// Repeats `attempt` until it gives something. In between it looks again as often as it was told to, asks the peer
    /// for an event, attempts once more, and sleeps. `seen` is the count of events that the caller keeps.
    pub async fn until<T>(
        &self,
        seen: &mut u32,
        wish: Wish,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>, Failure<P>>,
    ) -> Result<T, Failure<P>> {
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            self.send_held_event();
            for _ in 0..self.relooks.get() {
                self.lookout.pause().await;
                if let Some(done) = attempt(self)? {
                    return Ok(done);
                }
            }
            // What the events so far stand for, the next look sees: only later ones are worth waking for.
            *seen = self.channel.seen();
            if let Some(rings) = &*self.rings.borrow() {
                rings.arm(wish);
            }
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            self.sleep(seen, None).await;
        }
    }

    /// Waits until the peer has read everything and after that has asked for more, with nothing more there.
    ///
    /// A peer may have asked before it read: its request can be left over from a look that then did find something, and
    /// stand while it works. So the request is taken back once, with the event that goes with that, and only a new one
    /// counts.
    pub async fn settled(&self, seen: &mut u32) -> Result<(), Failure<P>> {
        loop {
            self.until(seen, Wish::Space, Link::try_drained).await?;
            self.take_back_peers_wish()?;
            let mut pause = PAUSES.0;
            let mut until = self.lookout.now() + pause;
            while self.is_drained()? {
                if self.is_idle()? {
                    return Ok(());
                }
                self.sleep(seen, Some(until)).await;
                // An event ends the sleep, but not the pause.
                if self.lookout.now() >= until {
                    pause = PAUSES.1.min(2 * pause);
                    until = self.lookout.now() + pause;
                }
            }
        }
    }

    /// Waits for a reason to look again, unless the connection is over.
    pub async fn news(&self, seen: &mut u32) {
        if self.look().is_none() {
            self.sleep(seen, None).await;
        }
    }

    /// Waits for a reason to look again: an event newer than `seen`, the end of the connection, or `until`.
    async fn sleep(&self, seen: &mut u32, until: Option<Time>) {
        self.send_held_event();
        let mut ended = self.ended.count();
        let mut asked = pin!(self.lookout.is_peer_gone());
        let tick = poll_fn(|cx| {
            // This alone says enough: whatever else has come is found at the next wait.
            if self.channel.poll_after(seen, cx).is_ready() {
                return Poll::Ready(false);
            }
            // All of them each time: each leaves its waker.
            let ended = self.ended.poll_after(&mut ended, cx).is_ready();
            let late = until.is_some_and(|at| self.lookout.poll_until(at, cx));
            // An offer sleeps undisturbed: before the client has come, nothing can be learned from the channel.
            let tick = self.met.get() && self.lookout.poll_tick(cx);
            let news = self.lookout.poll_news(cx);
            let answer = if news { asked.as_mut().poll(cx) } else { Poll::Pending };
            if answer == Poll::Ready(true) {
                self.died();
            }
            if ended || late || tick || answer.is_ready() { Poll::Ready(tick) } else { Poll::Pending }
        })
        .await;
        // Not at each event: the question costs a hypercall, and a peer that dies without a word sends none.
        if tick {
            self.look_closely();
        }
    }
}
