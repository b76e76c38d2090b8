//! Puts a wait that would never end under a deadline, by a clock of one's own.

use std::future::pending;
use std::pin::pin;
use std::process::ExitCode;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use xen_platform::{Clock, Time, deadline};

/// The clock of the standard library. Its tasks are polled all the time.
struct StdClock(Instant);

impl Clock for StdClock {
    fn now(&self) -> Time {
        Time::default() + self.0.elapsed()
    }

    fn poll_until(&self, at: Time, _: &mut Context<'_>) -> Poll<()> {
        if self.now() >= at { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn main() -> ExitCode {
    let clock = StdClock(Instant::now());
    let at = clock.now() + Duration::from_millis(20);
    let mut wait = pin!(deadline(&clock, Some(at), pending::<()>()));
    loop {
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => std::thread::yield_now(),
            Poll::Ready(Ok(())) => return ExitCode::SUCCESS,
            Poll::Ready(Err(elapsed)) => {
                eprintln!("waiting for the peer: {elapsed}");
                return ExitCode::from(1);
            }
        }
    }
}
