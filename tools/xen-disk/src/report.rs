//! The counts of a disk, for people and for programs.

pub mod metrics;

use crate::Vdev;
use crate::disk::Disk;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use xen_blk::back;

/// Requests of one kind.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// Answered with success.
    pub ok: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Bytes of those that succeeded.
    pub bytes: u64,
}

impl From<back::Count> for Count {
    fn from(count: back::Count) -> Self {
        Count { ok: count.ok, failed: count.failed, bytes: count.bytes }
    }
}

/// Counts of a disk since it was connected. Times are in microseconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The domain's number.
    pub domain: u16,
    /// The disk's name.
    pub disk: String,
    /// Its storage.
    pub storage: String,
    /// The process that serves it.
    pub pid: u32,
    /// The backend's xenbus state.
    pub state: String,
    /// The disk's length.
    pub bytes: u64,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Set if it cannot be written.
    pub read_only: bool,
    /// Time for which it has been served, in seconds.
    pub seconds: f64,
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
    /// Requests that made no sense.
    pub refused: u64,
    /// Requests that were put together with others.
    pub merged: u64,
    /// Requests in work.
    pub in_flight: u32,
    /// Half of the requests took no longer.
    pub p50_us: f64,
    /// Of 100 requests, 90 took no longer.
    pub p90_us: f64,
    /// Of 100 requests, 99 took no longer.
    pub p99_us: f64,
    /// None took longer.
    pub max_us: f64,
    /// Numbers of requests in the ring, and how often each was found.
    pub ring: Vec<(usize, u64)>,
    /// Numbers of segments of requests, and how often each came.
    pub segments: Vec<(usize, u64)>,
    /// Events from the guest.
    pub events_received: u64,
    /// Events to the guest.
    pub events_sent: u64,
    /// Number of times that a frontend connected.
    pub connections: u64,
    /// Last fault of the frontend.
    pub broken: Option<String>,
}

impl Report {
    /// Returns the counts of `disk`, which was served for `seconds`.
    pub fn of(disk: &Disk, seconds: f64) -> Report {
        let (info, stats) = (disk.served.storage_info(), disk.handle.stats());
        let percentile = |percent| stats.latencies.percentile(percent).as_secs_f64() * 1e6;
        Report {
            domain: disk.device.front.0,
            disk: Vdev(disk.device.vdev).to_string(),
            storage: disk.stack.clone(),
            pid: std::process::id(),
            state: disk.handle.state().to_string(),
            bytes: info.bytes,
            sector_size: info.sector_size,
            read_only: info.read_only,
            seconds,
            reads: stats.reads.into(),
            writes: stats.writes.into(),
            flushes: stats.flushes.into(),
            barriers: stats.barriers.into(),
            discards: stats.discards.into(),
            refused: stats.refused,
            merged: stats.merged,
            in_flight: stats.in_flight,
            p50_us: percentile(50.0),
            p90_us: percentile(90.0),
            p99_us: percentile(99.0),
            max_us: percentile(100.0),
            ring: stats.occupancy.entries().collect(),
            segments: stats.segments.entries().collect(),
            events_received: stats.events_received,
            events_sent: stats.events_sent,
            connections: stats.connections,
            broken: disk.handle.broken().map(|why| why.to_string()),
        }
    }

    /// For people: totals, or what was done since `before`.
    pub fn text(&self, before: Option<&Report>) -> String {
        let none = Report::default();
        let before = before.unwrap_or(&none);
        let seconds = (self.seconds - before.seconds).max(1e-9);
        let mut text = String::new();
        let mut line = |name: &str, now: Count, then: Count| {
            let count = now.ok - then.ok;
            let mib = (now.bytes - then.bytes) as f64 / f64::from(1 << 20);
            let per_second = (count as f64 / seconds, mib / seconds);
            let failed = now.failed - then.failed;
            let (iops, rate) = per_second;
            writeln!(
                text,
                "{name:9} {count:>10} {iops:>10.0} {mib:>10.1} {rate:>10.1} {failed:>8}"
            )
            .expect("a String takes everything");
        };
        line("reads", self.reads, before.reads);
        line("writes", self.writes, before.writes);
        line("flushes", self.flushes, before.flushes);
        line("barriers", self.barriers, before.barriers);
        line("discards", self.discards, before.discards);
        let Report { p50_us, p90_us, p99_us, max_us, in_flight, refused, merged, .. } = self;
        format!(
            "disk {} of domain {}: {}, {}, {} bytes, served for {:.0} s\n\
             {:9} {:>10} {:>10} {:>10} {:>10} {:>8}\n{text}\
             latency   50 % {p50_us:.0} µs, 90 % {p90_us:.0} µs, 99 % {p99_us:.0} µs, all {max_us:.0} µs\n\
             ring      {:.1} requests found at a time, {in_flight} in work, {refused} refused, {merged} merged\n",
            self.disk,
            self.domain,
            self.storage,
            self.state,
            self.bytes,
            self.seconds,
            "",
            "requests",
            "per s",
            "MiB",
            "MiB/s",
            "failed",
            mean(&self.ring),
        )
    }

    /// Formats what was done since `before` as a row below [`WATCH_HEAD`].
    pub fn row(&self, before: &Report) -> String {
        let seconds = (self.seconds - before.seconds).max(1e-9);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let mib = |now: Count, then: Count| rate(now.bytes, then.bytes) / f64::from(1 << 20);
        format!(
            "{:>9.0} {:>9.1} {:>9.0} {:>9.1} {:>9.0} {:>9} {:>9.0} {:>9.0}",
            rate(self.reads.ok, before.reads.ok),
            mib(self.reads, before.reads),
            rate(self.writes.ok, before.writes.ok),
            mib(self.writes, before.writes),
            rate(self.flushes.ok, before.flushes.ok),
            self.in_flight,
            self.p50_us,
            self.p99_us,
        )
    }

    /// Formats the fill of the ring and the length of requests as the program's namesake prints it
    /// when it ends.
    pub fn histograms(&self) -> String {
        let mut text = String::new();
        for (about, columns, entries) in [
            ("ring occupancy stats", "slots-occupied frequency", &self.ring),
            ("request size stats", "segments-per-request frequency", &self.segments),
        ] {
            writeln!(text, "# {about}\n# {columns}").expect("a String takes everything");
            for (number, count) in entries {
                writeln!(text, "{number} {count}").expect("a String takes everything");
            }
        }
        let kinds = [self.reads, self.writes, self.flushes, self.barriers, self.discards];
        let ok: u64 = kinds.iter().map(|count| count.ok).sum();
        let failed: u64 = self.refused + kinds.iter().map(|count| count.failed).sum::<u64>();
        let total = ok + failed;
        writeln!(text, "Total requests: {total}\nTotal OK: {ok}\nTotal Error: {failed}")
            .expect("as above");
        text
    }
}

/// Head of the columns of [`Report::row`]: rates a second, requests in work, and latencies of all
/// requests so far in microseconds.
pub const WATCH_HEAD: &str =
    "  reads/s    rMiB/s  writes/s    wMiB/s flushes/s   in work   50 % µs   99 % µs";

/// The mean of numbers that came so often each.
fn mean(entries: &[(usize, u64)]) -> f64 {
    let (sum, count) = entries
        .iter()
        .fold((0, 0), |(sum, count), (n, often)| (sum + *n as u64 * often, count + often));
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let reads = Count { ok: 300, failed: 1, bytes: 3 << 20 };
        Report {
            disk: "xvdb".into(),
            reads,
            seconds: 3.0,
            ring: vec![(1, 10), (3, 10)],
            ..Report::default()
        }
    }

    #[test]
    fn rates_are_those_since_the_last_time() {
        let text = report().text(None);
        assert!(
            text.contains("reads            300        100        3.0        1.0        1\n"),
            "{text}"
        );
        assert!(text.contains("ring      2.0 requests"), "{text}");
        let before = Report {
            reads: Count { ok: 200, failed: 1, bytes: 1 << 20 },
            seconds: 2.0,
            ..report()
        };
        let text = report().text(Some(&before));
        assert!(
            text.contains("reads            100        100        2.0        2.0        0\n"),
            "{text}"
        );
    }

    #[test]
    fn row_has_as_many_columns_as_its_head_has_places() {
        let before = Report { reads: Count::default(), seconds: 2.0, ..report() };
        let row = report().row(&before);
        assert_eq!(row.chars().count(), WATCH_HEAD.chars().count());
        assert!(row.starts_with("      300       3.0         0"), "{row}");
    }

    #[test]
    fn a_report_goes_through_json() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn the_histograms_are_those_of_the_namesake() {
        let text = report().histograms();
        assert!(
            text.starts_with("# ring occupancy stats\n# slots-occupied frequency\n1 10\n3 10\n"),
            "{text}"
        );
        assert!(text.ends_with("Total requests: 301\nTotal OK: 300\nTotal Error: 1\n"), "{text}");
    }
}
