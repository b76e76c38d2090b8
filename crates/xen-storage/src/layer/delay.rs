//! `delay`: every request takes longer.

use super::{Dice, Layer, Request};
use crate::storage::{Pace, Storage};
use std::io;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

/// Makes each request wait for a fixed time, more or less.
pub struct Delay {
    fixed: Duration,
    jitter: Duration,
    dice: Mutex<Dice>,
}

impl Delay {
    /// `fixed`, and up to `jitter` more or less; the same `seed` gives the same sequence of delays.
    pub fn new(fixed: Duration, jitter: Duration, seed: u64) -> Self {
        Delay { fixed, jitter, dice: Mutex::new(Dice::new(seed)) }
    }

    fn next(&self) -> Duration {
        let part = self.dice.lock().expect("no holder panics").fraction();
        (self.fixed + self.jitter.mul_f64(2.0 * part)).saturating_sub(self.jitter)
    }
}

impl Layer for Delay {
    fn outlives(&self) -> bool {
        true
    }

    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()> {
        thread::sleep(self.next());
        request.pass(below)
    }

    fn pace(&self, _: Pace) -> Pace {
        Pace::Slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_within_the_jitter_and_repeat_with_the_seed() {
        let ms = Duration::from_millis;
        let delays = |seed| {
            let delay = Delay::new(ms(10), ms(4), seed);
            (0..100).map(|_| delay.next()).collect::<Vec<_>>()
        };
        assert!(delays(1).iter().all(|delay| (ms(6)..=ms(14)).contains(delay)));
        assert!(
            delays(1).iter().any(|delay| *delay < ms(8))
                && delays(1).iter().any(|delay| *delay > ms(12))
        );
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
        assert_eq!(Delay::new(ms(5), ms(0), 0).next(), ms(5));
    }
}
