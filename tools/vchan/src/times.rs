//! Round-trip times: their order, and a picture of them.

use crate::json::Json;
use std::fmt::Write as _;
use std::time::Duration;

/// Measured times, sorted. At least one.
pub(crate) struct Times(Vec<Duration>);

/// The widest bar of a histogram, in characters.
const BAR: usize = 40;

impl Times {
    /// Panics if there are none.
    pub fn new(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty(), "nothing was measured");
        times.sort_unstable();
        Times(times)
    }

    /// The shortest time that `percent` of all do not exceed.
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    pub fn min(&self) -> Duration {
        self.0[0]
    }

    pub fn max(&self) -> Duration {
        self.0[self.0.len() - 1]
    }

    pub fn summary(&self) -> String {
        let [min, median, p99, max] =
            [self.min(), self.percentile(50), self.percentile(99), self.max()].map(micros);
        format!("min {min:.1} µs, median {median:.1} µs, p99 {p99:.1} µs, max {max:.1} µs")
    }

    pub fn to_json(&self) -> Json {
        let time = |time| Json::Fraction(micros(time));
        Json::Object(vec![
            ("count", (self.0.len() as u64).into()),
            ("min_us", time(self.min())),
            ("median_us", time(self.percentile(50))),
            ("p99_us", time(self.percentile(99))),
            ("max_us", time(self.max())),
        ])
    }

    /// One line for each power of two of microseconds from the shortest to the longest time.
    pub fn histogram(&self) -> String {
        let class =
            |time: &Duration| (time.as_micros() as u64).checked_ilog2().map_or(0, |log| log + 1);
        let counts = |of| self.0.iter().filter(|time| class(time) == of).count();
        let (first, last) = (class(&self.min()), class(&self.max()));
        let classes: Vec<_> = (first..=last).map(|of| (of, counts(of))).collect();
        let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
        let mut text = String::new();
        for (of, count) in classes {
            let bar = "#".repeat((count * BAR).div_ceil(most));
            writeln!(text, "  < {:>9} µs {count:>7}  {bar}", 1u64 << of)
                .expect("writing to a string");
        }
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(micros: impl IntoIterator<Item = u64>) -> Times {
        Times::new(micros.into_iter().map(Duration::from_micros).collect())
    }

    #[test]
    fn order_and_percentiles() {
        let hundred = times((1..=100).rev());
        assert_eq!(hundred.summary(), "min 1.0 µs, median 50.0 µs, p99 99.0 µs, max 100.0 µs");
        let one = times([7]);
        assert_eq!(
            [one.min(), one.percentile(50), one.percentile(99), one.max()].map(micros),
            [7.0; 4]
        );
        let json = r#"{"count":1,"min_us":7.000,"median_us":7.000,"p99_us":7.000,"max_us":7.000}"#;
        assert_eq!(one.to_json().to_string(), json);
    }

    #[test]
    fn a_bar_for_each_power_of_two() {
        let text = times([0, 1, 5, 5, 7, 6, 20]).histogram();
        let bars: Vec<(String, usize)> = text
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                (words[1..4].join(" "), words.get(4).map_or(0, |bar| bar.len()))
            })
            .collect();
        let bar = |label: &str, len| (label.to_string(), len);
        let expected = [
            bar("1 µs 1", 10),
            bar("2 µs 1", 10),
            bar("4 µs 0", 0),
            bar("8 µs 4", 40),
            bar("16 µs 0", 0),
            bar("32 µs 1", 10),
        ];
        assert_eq!(bars, expected);
    }
}
