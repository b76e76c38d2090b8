//! Time, timers and deadlines.

use alloc::vec::Vec;
use core::cell::RefCell;
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
    /// Returns the time from `earlier` to this moment; zero if `earlier` is the later one.
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

/// A source of time that wakes tasks later.
pub trait Clock {
    /// Returns the current time.
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
pub async fn deadline<F: Future>(
    clock: &impl Clock,
    at: Option<Time>,
    work: F,
) -> Result<F::Output, Elapsed> {
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

/// Tasks to wake at their time, for a platform's [`Clock::poll_until`].
///
/// A list without order: a program has a handful of timers.
#[derive(Default)]
pub struct Timers(RefCell<Vec<(Time, Waker)>>);

impl Timers {
    /// Creates an empty list.
    pub const fn new() -> Self {
        Timers(RefCell::new(Vec::new()))
    }

    /// Registers the task to be woken at `at`.
    pub fn wake_at(&self, at: Time, cx: &mut Context<'_>) {
        let mut timers = self.0.borrow_mut();
        if !timers.iter().any(|(time, waker)| *time == at && waker.will_wake(cx.waker())) {
            timers.push((at, cx.waker().clone()));
        }
    }

    /// Returns the time at which the next task wants to be woken.
    pub fn next(&self) -> Option<Time> {
        self.0.borrow().iter().map(|(at, _)| *at).min()
    }

    /// Wakes every task whose time has come, in the order of their times; returns whether there
    /// was one.
    pub fn fire(&self, now: Time) -> bool {
        let mut fired = false;
        while let Some(waker) = self.pop_due(now) {
            waker.wake();
            fired = true;
        }
        fired
    }

    fn pop_due(&self, now: Time) -> Option<Waker> {
        let mut timers = self.0.borrow_mut();
        let (first, _) = timers
            .iter()
            .enumerate()
            .filter(|(_, (at, _))| *at <= now)
            .min_by_key(|(_, (at, _))| *at)?;
        // Keeps the order of those with the same time.
        Some(timers.remove(first).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::sync::Arc;
    use alloc::task::Wake;
    use core::sync::atomic::{AtomicU32, Ordering};

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn timers_fire_once_when_they_are_due() {
        let timers = Timers::new();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(count.clone());
        for at in [30, 10, 20, 10] {
            timers.wake_at(Time(at), &mut Context::from_waker(&waker));
        }
        assert_eq!(timers.next(), Some(Time(10)));
        assert!(!timers.fire(Time(9)));
        assert!(timers.fire(Time(25)));
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "one task waits for one time once");
        assert_eq!(timers.next(), Some(Time(30)));
        assert!(timers.fire(Time(30)));
        assert_eq!(timers.next(), None);
    }
}
