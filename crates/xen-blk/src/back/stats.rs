//! Counters of a backend.

use alloc::vec::Vec;
use core::time::Duration;

/// Counts of each number that came up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Histogram(Vec<u64>);

impl Histogram {
    pub(super) fn add(&mut self, number: usize) {
        if number >= self.0.len() {
            self.0.resize(number + 1, 0);
        }
        self.0[number] += 1;
    }

    /// Returns each number that came up with its count.
    pub fn entries(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.0.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// Returns the number of counted numbers.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Latencies of requests, to an eighth.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Latencies(Histogram);

/// Number of steps of each power of two of nanoseconds.
const STEPS: u32 = 8;

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(u64::from(STEPS));
        let power = nanos.ilog2() - STEPS.ilog2();
        self.0.add((power * STEPS) as usize + (nanos >> power) as usize - STEPS as usize);
    }

    /// Returns the latency that `percent` of the requests did not exceed; zero if there were none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted = (self.0.total() as f64 * percent / 100.0) as u64;
        let mut sum = 0;
        for (step, count) in self.0.entries() {
            sum += count;
            if sum >= wanted.max(1) {
                let (power, within) = (step as u32 / STEPS, step as u64 % u64::from(STEPS));
                return Duration::from_nanos((u64::from(STEPS) + within + 1) << power);
            }
        }
        Duration::ZERO
    }

    /// Returns the number of requests that were timed.
    pub fn total(&self) -> u64 {
        self.0.total()
    }
}

/// Requests of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Number of those that succeeded.
    pub ok: u64,
    /// Number of those that failed.
    pub failed: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, ok: bool, bytes: u64) {
        match ok {
            true => (self.ok, self.bytes) = (self.ok + 1, self.bytes + bytes),
            false => self.failed += 1,
        }
    }
}

/// Counters of a disk's backend since its start, over all connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Reads.
    pub reads: Count,
    /// Writes.
    pub writes: Count,
    /// Flushes.
    pub flushes: Count,
    /// Barriers.
    pub barriers: Count,
    /// Discards.
    pub discards: Count,
    /// Requests that were malformed or not offered: they failed and were not carried out.
    pub refused: u64,
    /// Requests that were merged with the one before.
    pub merged: u64,
    /// Numbers of requests in the ring, whenever some were taken.
    pub occupancy: Histogram,
    /// Numbers of segments of requests.
    pub segments: Histogram,
    /// Times from taking a request to its response.
    pub latencies: Latencies,
    /// Requests taken and not completed yet.
    pub in_flight: u32,
    /// Events that came.
    pub events_received: u64,
    /// Events sent.
    pub events_sent: u64,
    /// Pages copied by Xen, or mapped and unmapped again.
    pub pages_moved: u64,
    /// Pages reached through persistent mappings.
    pub pages_persistent: u64,
    /// Number of connections.
    pub connections: u64,
    /// Number of connections that ended because the frontend broke the protocol.
    pub broken: u64,
}

impl Stats {
    /// Returns the number of completed requests.
    pub fn completed(&self) -> u64 {
        let kinds = [&self.reads, &self.writes, &self.flushes, &self.barriers, &self.discards];
        self.refused + kinds.iter().map(|count| count.ok + count.failed).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(50.0), Duration::ZERO);
        (1..=1000).for_each(|micros| latencies.add(Duration::from_micros(micros)));
        for percent in [1.0, 50.0, 99.0, 100.0] {
            let (found, exact) = (latencies.percentile(percent).as_secs_f64(), percent * 10e-6);
            assert!(
                exact <= found && found <= exact * 1.125 + 1e-9,
                "{percent} %: {found} for {exact}"
            );
        }
        latencies.add(Duration::ZERO);
        latencies.add(Duration::MAX);
        assert_eq!(latencies.total(), 1002);
    }
}
