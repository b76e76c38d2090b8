//! Waiting: for bytes, for space, for the peer.

use super::{Failure, Link};
use crate::WindowSize;
use crate::rings::WaitFor;
use core::future::{Future, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use xen_platform::{BusyPoll, Channel, Elapsed, Platform, Time, deadline};

/// The first and the longest interval between two looks whether the peer waits again. A peer that
/// asks for an event sends none, so nothing else tells.
const SETTLE_INTERVALS: (Duration, Duration) =
    (Duration::from_millis(1), Duration::from_millis(64));

/// The longest sleep that a longer busy-poll window could have spared.
const SHORT_SLEEP: Duration = Duration::from_micros(100);

/// The most times that the busy-poll window grows by.
const MAX_GROWTH: u32 = 32;

/// Does something now if it can be done: `None` if not yet.
type Attempt<'a, P, T> = dyn FnMut(&Link<P>) -> Result<Option<T>, Failure<P>> + 'a;

impl<P: Platform> Link<P> {
    /// Repeats `attempt` until it returns something. In between it takes the looks of the busy-poll
    /// window, asks the peer for an event, attempts once more, and sleeps. `seen` is the count of
    /// events that the caller keeps.
    pub async fn until<T>(
        &self,
        seen: &mut u32,
        wait_for: WaitFor,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>, Failure<P>>,
    ) -> Result<T, Failure<P>> {
        match attempt(self)? {
            Some(done) => Ok(done),
            None => self.until_later(seen, wait_for, &mut attempt).await,
        }
    }

    /// As [`Link::until`], after an attempt in vain. One function for all attempts, which are many:
    /// waiting takes longer than a call through a pointer.
    async fn until_later<T>(
        &self,
        seen: &mut u32,
        wait_for: WaitFor,
        attempt: &mut Attempt<'_, P, T>,
    ) -> Result<T, Failure<P>> {
        loop {
            self.send_held_event();
            let mut window = BusyPoll::new(self.busy_poll_looks.get() * self.window_growth.get());
            window.open(self.monitor.platform());
            while window.next_look(self.monitor.platform()).await {
                if let Some(done) = attempt(self)? {
                    return Ok(done);
                }
            }
            // The next attempt sees what the events so far stand for: only later ones are worth
            // waking for.
            *seen = self.channel.seen();
            if let Some(rings) = &*self.rings.borrow() {
                rings.arm(wait_for);
            }
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            let asleep = self.monitor.now();
            self.sleep(seen, None).await;
            self.adapt_window(self.monitor.now().since(asleep));
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
        }
    }

    /// Doubles the busy-poll window if the sleep after it was short, so that a longer one would
    /// have found what came; and takes it back if not. Where both ends have processors of their
    /// own, a look takes a fraction of a microsecond, and to be woken many of them.
    fn adapt_window(&self, slept: Duration) {
        let growth = self.window_growth.get();
        self.window_growth.set(match slept < SHORT_SLEEP {
            true => MAX_GROWTH.min(2 * growth),
            false => 1,
        });
    }

    /// Waits for `work`, but no longer than `limit`.
    pub async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        deadline(self.monitor.platform(), Some(self.monitor.now() + limit), work).await
    }

    /// Waits until the peer has read everything and after that has asked for more, with nothing
    /// more there.
    ///
    /// A peer may have asked before it read: its request can be left over from a look that then did
    /// find something, and stand while it works. So the request is taken back once, with the event
    /// that goes with that, and only a new one counts.
    pub async fn settled(&self, seen: &mut u32) -> Result<(), Failure<P>> {
        loop {
            self.until(seen, WaitFor::Space, Link::try_drained).await?;
            self.with_rings(|_| Ok(((), Some(WaitFor::Data))))?;
            let mut interval = SETTLE_INTERVALS.0;
            let mut until = self.monitor.now() + interval;
            while self.is_drained()? {
                if self.is_idle()? {
                    return Ok(());
                }
                self.sleep(seen, Some(until)).await;
                // An event ends the sleep, but not the interval.
                if self.monitor.now() >= until {
                    interval = SETTLE_INTERVALS.1.min(2 * interval);
                    until = self.monitor.now() + interval;
                }
            }
        }
    }

    /// Waits until the peer has left or died, or this end has closed the connection.
    pub async fn until_over(&self, seen: &mut u32) {
        while self.look().is_none() {
            self.sleep(seen, None).await;
        }
    }

    /// Waits until the size of the client's terminal is there and is not `known`; for ever once the
    /// connection is over.
    pub async fn window_changed(&self, known: Option<WindowSize>) -> WindowSize {
        loop {
            let mut seen = self.channel.seen();
            match self.peer_window() {
                Some(size) if Some(size) != known => return size,
                _ if self.look().is_some() => pending().await,
                _ => self.sleep(&mut seen, None).await,
            }
        }
    }

    /// Waits for a reason to look again, unless the connection is over.
    pub async fn next_event(&self, seen: &mut u32) {
        if self.look().is_none() {
            self.sleep(seen, None).await;
        }
    }

    /// Looks out for the end of the peer until the connection has ended for good.
    pub async fn watch(&self) {
        while self.end.borrow().is_none() {
            self.pass_time(None, None).await;
        }
    }

    /// Waits for a reason to look again: an event newer than `seen`, the end of the connection, or
    /// `until`.
    async fn sleep(&self, seen: &mut u32, until: Option<Time>) {
        self.send_held_event();
        self.pass_time(Some(seen), until).await
    }

    /// As [`Link::sleep`]; without `seen`, events of the peer are no reason.
    async fn pass_time(&self, mut seen: Option<&mut u32>, until: Option<Time>) {
        let mut ended = self.ended.count();
        let mut asked = pin!(self.monitor.is_peer_gone());
        let tick = poll_fn(|cx| {
            // This alone says enough: whatever else has come is found at the next wait.
            if let Some(seen) = &mut seen
                && self.channel.poll_after(seen, cx).is_ready()
            {
                return Poll::Ready(false);
            }
            // All of them each time: each leaves its waker.
            let ended = self.ended.poll_after(&mut ended, cx).is_ready();
            let late = until.is_some_and(|at| self.monitor.poll_until(at, cx));
            // An offer sleeps undisturbed: before the client has come, nothing can be learned from
            // the channel.
            let tick = self.met.get() && self.monitor.poll_tick(cx);
            let news = self.monitor.poll_news(cx);
            let answer = if news { asked.as_mut().poll(cx) } else { Poll::Pending };
            if answer == Poll::Ready(true) {
                self.died();
            }
            if ended || late || tick || answer.is_ready() {
                Poll::Ready(tick)
            } else {
                Poll::Pending
            }
        })
        .await;
        // Not at each event: the question costs a hypercall, and a peer that dies without a word
        // sends none.
        if tick {
            self.look_closely();
            self.remind();
        }
    }

    /// Sends a peer that cannot half-close another event for what it has not read.
    ///
    /// vchan-socket-proxy waits for an event before it looks for data. One for data that comes
    /// while it still deals with that of the client's arrival is lost on it, and it would sleep for
    /// as long as the client waits for an answer. Our own ends look first.
    fn remind(&self) {
        if self.met.get() && !self.half_close.get() && matches!(self.is_drained(), Ok(false)) {
            self.channel.notify();
        }
    }
}
