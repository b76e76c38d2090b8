//! Latencies: counted in bins of about 1.6 %, of which percentiles and a histogram are made.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// Bins for each doubling.
const FINE: u32 = 64;
/// Doublings that are told apart: up to 2^38 ns, more than four minutes.
const DOUBLINGS: u32 = 32;

/// Counts of latencies, of constant size.
pub struct Latencies {
    bins: Vec<u32>,
    count: u64,
    most: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies { bins: vec![0; ((DOUBLINGS + 1) * FINE) as usize], count: 0, most: 0 }
    }
}

/// The bin of a number of nanoseconds. The first 64 have one each; from there on, 64 share each
/// doubling.
fn bin(nanos: u64) -> u32 {
    let doublings = (nanos | u64::from(FINE)).ilog2() - FINE.ilog2();
    match doublings < DOUBLINGS {
        true => doublings * FINE + (nanos >> doublings) as u32,
        false => (DOUBLINGS + 1) * FINE - 1,
    }
}

/// The least number of nanoseconds of a bin.
fn least(bin: u32) -> u64 {
    let doublings = (bin / FINE).saturating_sub(1);
    u64::from(bin - doublings * FINE) << doublings
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        self.bins[bin(nanos) as usize] += 1;
        self.count += 1;
        self.most = self.most.max(nanos);
    }

    /// The latency, in nanoseconds, that `part` of a thousand did not exceed, to about 1.6 %; 0 if
    /// there are none.
    pub fn per_mille(&self, part: u64) -> u64 {
        let mut left = (self.count * part).div_ceil(1000).max(1);
        for (bin, count) in (0..).zip(&self.bins) {
            left = left.saturating_sub((*count).into());
            if left == 0 {
                return (least(bin + 1) - 1).min(self.most);
            }
        }
        0
    }

    /// The bins that are not empty, by number and count: two runs are merged by adding them up. The
    /// first 64 bins are of one nanosecond; from there on, 64 share each doubling.
    pub fn bins(&self) -> Bins<'_> {
        Bins(self)
    }

    /// A histogram, one line for each doubling that occurred, with a bar.
    pub fn histogram(&self) -> Histogram<'_> {
        Histogram(self)
    }
}

/// Shows the bins of [`Latencies`], as `number:count` with commas between.
pub struct Bins<'a>(&'a Latencies);

impl fmt::Display for Bins<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (number, count) in self.0.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(f, "{comma}{number}:{count}")?;
            comma = ",";
        }
        Ok(())
    }
}

/// Shows [`Latencies`] as text, each line after `# `.
pub struct Histogram<'a>(&'a Latencies);

impl fmt::Display for Histogram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDTH: u64 = 40;
        let sums: Vec<u64> = self
            .0
            .bins
            .chunks(FINE as usize)
            .map(|part| part.iter().map(|n| u64::from(*n)).sum())
            .collect();
        let most = sums.iter().max().copied().unwrap_or(0);
        for (row, sum) in (0..).zip(sums).filter(|(_, sum)| *sum > 0) {
            let bar = (sum * WIDTH).div_ceil(most) as usize;
            let to = Micros(least((row + 1) * FINE));
            writeln!(
                f,
                "# {:>10} to {to:>10} us {sum:>8} {:#<bar$}",
                Micros(least(row * FINE)),
                ""
            )?;
        }
        Ok(())
    }
}

/// Nanoseconds, shown in microseconds with one digit behind the point.
pub struct Micros(pub u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The point and the digit behind it take two places of the width.
        let width = f.width().unwrap_or(0).saturating_sub(2);
        write!(f, "{:width$}.{}", self.0 / 1000, self.0 % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_right_to_a_bin() {
        let mut latencies = Latencies::default();
        (1..=1000).for_each(|micros| latencies.add(Duration::from_micros(micros)));
        for (part, exact) in [(500, 500_000), (990, 990_000), (999, 999_000), (1000, 1_000_000)] {
            let found = latencies.per_mille(part);
            assert!(found >= exact && found < exact + exact / 60, "{part}: {found}");
        }
        assert_eq!(Latencies::default().per_mille(500), 0);
    }

    #[test]
    fn a_histogram_has_a_line_for_each_doubling_that_occurred() {
        let mut latencies = Latencies::default();
        (0..40).for_each(|_| latencies.add(Duration::from_nanos(1500)));
        latencies.add(Duration::from_micros(100));
        let text = latencies.histogram().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(
            lines[0],
            "#        1.0 to        2.0 us       40 ########################################"
        );
        assert_eq!(lines[1], "#       65.5 to      131.0 us        1 #");
        assert_eq!(latencies.bins().to_string(), format!("{}:40,{}:1", bin(1500), bin(100_000)));
    }

    proptest! {
        #[test]
        fn a_number_lies_in_its_bin(nanos in prop_oneof![0u64..5000, 0..1u64 << 38]) {
            let bin = bin(nanos);
            prop_assert!(least(bin) <= nanos && nanos < least(bin + 1), "{} {} {}", bin, least(bin), least(bin + 1));
        }

        #[test]
        fn no_duration_is_out_of_the_bins(nanos: u64) {
            Latencies::default().add(Duration::from_nanos(nanos));
        }
    }
}
