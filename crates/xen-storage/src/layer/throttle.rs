//! `throttle`: limits on requests and bytes a second.

use super::{Kind, Layer, Request};
use crate::storage::{Pace, Storage};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Time for which unused requests and bytes are saved.
const SAVED: Duration = Duration::from_millis(100);

/// Makes requests wait until they are due. Flushes and discards count as requests of no bytes.
pub struct Throttle {
    start: Instant,
    rates: Mutex<[Option<Rate>; 2]>,
}

impl Throttle {
    /// Creates a limit of `requests` and `bytes` a second; none is no limit.
    pub fn new(requests: Option<u64>, bytes: Option<u64>) -> Self {
        let rate = |per_second: Option<u64>| per_second.map(Rate::new);
        Throttle { start: Instant::now(), rates: Mutex::new([rate(requests), rate(bytes)]) }
    }
}

impl Throttle {
    /// Returns the time that a request of `len` bytes has to wait, which it does without the
    /// lock: others go on meanwhile.
    fn wait(&self, len: u64) -> Duration {
        let mut rates = self.rates.lock().expect("no holder panics");
        // Looked at with the lock held: a request that waited for it does not wait for that time
        // again.
        let now = self.start.elapsed();
        let [requests, bytes] = &mut *rates;
        let mut due = now;
        for (rate, amount) in [(requests, 1), (bytes, len)] {
            due = rate.as_mut().map_or(now, |rate| rate.take(now, amount)).max(due);
        }
        due.saturating_sub(now)
    }
}

impl Layer for Throttle {
    fn outlives(&self) -> bool {
        true
    }

    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        let range = if request.kind() == Kind::Discard { 0..0 } else { request.range() };
        thread::sleep(self.wait(range.end - range.start));
        request.pass(below)
    }

    fn pace(&self, _: Pace) -> Pace {
        Pace::Slow
    }
}

/// A limit, and until when it is used up.
struct Rate {
    per_second: u64,
    used_until: Duration,
}

impl Rate {
    fn new(per_second: u64) -> Self {
        Rate { per_second: per_second.max(1), used_until: Duration::ZERO }
    }

    /// Takes `amount` of it at the time `now`; says when that is due.
    fn take(&mut self, now: Duration, amount: u64) -> Duration {
        let begin = self.used_until.max(now.saturating_sub(SAVED));
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.per_second);
        self.used_until = begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        begin.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layered;
    use crate::storage::{Info, Ram};
    use std::sync::Arc;

    #[test]
    fn a_rate_is_kept_and_pauses_are_saved_for_a_while() {
        let ms = Duration::from_millis;
        let mut rate = Rate::new(1000);
        let due: Vec<_> = (0..300).map(|_| rate.take(ms(1000), 1)).collect();
        // 100 ms were saved, and then one is due each millisecond.
        assert_eq!(due[..101], [ms(1000); 101]);
        assert_eq!((due[101], due[299]), (ms(1001), ms(1199)));
        assert_eq!(rate.take(ms(5000), 500), ms(5000));
        assert_eq!(rate.take(ms(5000), 1), ms(5400), "what is large is paid for afterwards");
    }

    /// Below it requests are carried out side by side: both of these wait for each other there.
    #[test]
    fn what_is_let_through_holds_up_nothing() {
        struct Meeting(std::sync::Barrier, Ram);
        impl Storage for Meeting {
            fn info(&self) -> Info {
                self.1.info()
            }
            fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
                self.0.wait();
                self.1.read(at, to)
            }
            fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
                self.1.write(at, from)
            }
            fn flush(&self) -> io::Result<()> {
                self.1.flush()
            }
            fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
                self.1.discard(at, len, secure)
            }
        }
        let below = Arc::new(Meeting(std::sync::Barrier::new(2), Ram::new(4096, 512)));
        let disk = Layered::new(Throttle::new(Some(1_000_000), None), below);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| disk.read(0, &mut [0; 512]).unwrap());
            }
        });
    }
}
