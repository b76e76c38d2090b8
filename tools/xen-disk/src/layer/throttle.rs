//! `throttle`: no more than so many requests and bytes a second.

use super::{Kind, Layer, Request};
use crate::storage::{Pace, Storage};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// What was not used is saved for so long.
const SAVED: Duration = Duration::from_millis(100);

/// Makes requests wait until they are due. Flushes and discards count as requests of no bytes.
pub struct Throttle {
    start: Instant,
    rates: Mutex<[Option<Rate>; 2]>,
}

impl Throttle {
    /// At most so many requests, and so many bytes, a second; none is no limit.
    pub fn new(requests: Option<u64>, bytes: Option<u64>) -> Self {
        let rate = |per_second: Option<u64>| per_second.map(Rate::new);
        Throttle { start: Instant::now(), rates: Mutex::new([rate(requests), rate(bytes)]) }
    }
}

impl Layer for Throttle {
    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        let range = if request.kind() == Kind::Discard { 0..0 } else { request.range() };
        let now = self.start.elapsed();
        let [requests, bytes] = &mut *self.rates.lock().expect("no holder panics");
        let mut due = now;
        for (rate, amount) in [(requests, 1), (bytes, range.end - range.start)] {
            due = rate.as_mut().map_or(now, |rate| rate.take(now, amount)).max(due);
        }
        thread::sleep(due.saturating_sub(now));
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
}
