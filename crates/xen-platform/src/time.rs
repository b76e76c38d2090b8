//! Time, timers and deadlines.

use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::ops::Add;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

/// A moment: nanoseconds since a start that the platform chose. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long it is from `earlier` to this moment; zero if `earlier` is the later one.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, after: Duration) -> Time {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

/// Who can tell the time and wake a task later.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Time;
    /// Ready once `at` is reached; before that, sees to it that the task is woken then.
    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()>;
}

/// The deadline came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl core::error::Error for Elapsed {}

/// Waits for `work`, at most until `at` (for ever with `None`).
pub async fn deadline<F: Future>(clock: &impl Clock, at: Option<Time>, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(out) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(out));
        }
        match at {
            Some(at) => clock.poll_until(at, cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Waits until `after` from now has passed.
pub async fn sleep(clock: &impl Clock, after: Duration) {
    let at = clock.now() + after;
    poll_fn(|cx| clock.poll_until(at, cx)).await
}

/// The tasks to wake at their time: what a platform's [`Clock::poll_until`] stands on.
#[derive(Default)]
pub struct Timers {
    serial: Cell<u64>,
    queue: RefCell<BTreeMap<(Time, u64), Waker>>,
}

impl Timers {
    /// No timers.
    pub const fn new() -> Self {
        Timers { serial: Cell::new(0), queue: RefCell::new(BTreeMap::new()) }
    }

    /// Sees to it that the task is woken at `at`.
    pub fn wake_at(&self, at: Time, cx: &mut Context<'_>) {
        let mut queue = self.queue.borrow_mut();
        if queue.range((at, 0)..=(at, u64::MAX)).any(|(_, w)| w.will_wake(cx.waker())) {
            return;
        }
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        queue.insert((at, serial), cx.waker().clone());
    }

    /// When the next task wants to be woken.
    pub fn next(&self) -> Option<Time> {
        self.queue.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes every task whose time has come; says whether there was one.
    pub fn fire(&self, now: Time) -> bool {
        let mut fired = false;
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
            fired = true;
        }
        fired
    }

    fn pop_due(&self, now: Time) -> Option<Waker> {
        let mut queue = self.queue.borrow_mut();
        let first = queue.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
