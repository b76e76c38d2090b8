//! Which calls are made on the thread that reads requests.
//!
//! Nobody knows beforehand how long a call of a disk takes: a write to the page cache is shorter
//! than the way to another thread, a write to a slow device holds up all requests behind it. So the
//! time of calls is taken: after one that was long the next ones go to other threads.

use std::time::Duration;

/// Number of calls that go to other threads after a long one.
const AFTER_LONG: u32 = 256;
/// A call is long if it takes more than this, and 1 µs for each KiB.
const LONG: Duration = Duration::from_micros(200);

/// Decides for one kind of calls.
#[derive(Default, Debug)]
pub struct Tempo {
    elsewhere: u32,
}

impl Tempo {
    /// Returns true if the next call may be made here.
    pub fn is_quick(&mut self) -> bool {
        if self.elsewhere == 0 {
            return true;
        }
        self.elsewhere -= 1;
        false
    }

    /// Takes into account that a call about `len` bytes took `time`.
    pub fn took(&mut self, time: Duration, len: u64) {
        if time > LONG + Duration::from_micros(len / 1024) {
            self.elsewhere = AFTER_LONG;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_call_sends_the_next_ones_elsewhere_for_a_while() {
        let mut tempo = Tempo::default();
        tempo.took(Duration::from_micros(1100), 1 << 20);
        assert!(tempo.is_quick());
        tempo.took(Duration::from_micros(300), 4096);
        let elsewhere = (0..1000).take_while(|_| !tempo.is_quick()).count();
        assert_eq!(elsewhere, AFTER_LONG as usize);
    }
}
