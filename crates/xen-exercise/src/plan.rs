//! The plan of a run, from the options `blk.*` of the command line.

use crate::cases::{CASES, Case, Needs};
#[cfg(feature = "mix")]
use crate::mix::{self, Mix};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A plan of tests, their disks, and their amount of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `blk.disk=`: the disks, such as `xvda`; all if there are none.
    pub disks: Vec<String>,
    /// `blk.run=`: the tests, in their order.
    pub tests: Vec<&'static Case>,
    /// `blk.run=` named `all`: tests that are not permitted are skipped instead of failing.
    pub all: bool,
    /// `blk.seed=`: the seed of random numbers and stamps.
    pub seed: u64,
    /// `blk.generation=`: the version of the stamps that `write` writes and `verify` expects.
    pub generation: u64,
    /// `blk.durable=`: the number that `durable` or `ordered` reported, for `durable-check` and
    /// `ordered-check`.
    pub durable: u32,
    /// `blk.destroy=`: the disks that may be overwritten.
    pub destroy: Vec<String>,
    /// `blk.hostile=`: requests that the protocol forbids may be sent.
    pub hostile: bool,
    /// `blk.loops=`: number of connections of `lifecycle`.
    pub loops: u32,
    /// `blk.size=`: number of bytes of a disk that are worked on, half of them at its end;
    /// `u64::MAX` for all.
    pub size: u64,
    /// `blk.first=`: the sector from which on these bytes are, with no write anywhere else.
    pub first: Option<u64>,
    /// `blk.sums=`: the disk with the checksum of each sector, for `sum`.
    pub sums: Option<String>,
    /// `blk.mix=`: the workload of `mix`.
    #[cfg(feature = "mix")]
    pub mix: Mix,
    /// `blk.bytes=`: number of bytes that a sequential measurement of `bench` moves.
    pub bytes: u64,
    /// `blk.backend=`: name of the backend in measurements.
    pub backend: String,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            disks: Vec::new(),
            tests: Vec::new(),
            all: false,
            seed: 0,
            generation: 0,
            durable: 0,
            destroy: Vec::new(),
            hostile: false,
            loops: 20,
            size: 8 << 20,
            first: None,
            sums: None,
            #[cfg(feature = "mix")]
            mix: Mix::default(),
            bytes: 100 << 20,
            backend: String::new(),
        }
    }
}

/// Largest number of rounds: twice that number fits into 32 bits.
const MAX_ROUNDS: u64 = 1 << 30;

/// The names of all options.
pub const OPTIONS: &str = "blk.disk, blk.run, blk.seed, blk.generation, blk.durable, blk.destroy, blk.hostile, blk.loops, \
    blk.size, blk.first, blk.sums, blk.bytes, blk.backend";

impl Plan {
    /// Reads options as they stand on a command line, with spaces between; the error names one that
    /// is wrong.
    pub fn parse(line: &str) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if !plan.set(name, value)? {
                return Err(format!("{word}: there is no such option (there are {OPTIONS})"));
            }
        }
        Ok(plan)
    }

    /// Sets the option `name`; returns false if it is none of these. The error describes valid
    /// values.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        let bad = |wanted: &str| format!("{name}={value}: wants {wanted}");
        let number = |wanted| size(value).ok_or_else(|| bad(wanted));
        match name {
            "blk.disk" => self.disks = disks(value).ok_or_else(|| bad(DISKS))?,
            "blk.destroy" => self.destroy = disks(value).ok_or_else(|| bad(DISKS))?,
            "blk.run" => {
                self.all = value.split(',').any(|word| word == "all");
                self.tests = tests(value)
                    .map_err(|word| format!("{name}: there is no test '{word}' ({})", Names))?;
            }
            "blk.seed" => self.seed = number("a number")?,
            "blk.generation" => self.generation = number("a number")?,
            "blk.durable" => self.durable = number("a number")?.min(MAX_ROUNDS) as u32,
            "blk.loops" => self.loops = number("a number")?.min(MAX_ROUNDS) as u32,
            "blk.size" if value == "all" => self.size = u64::MAX,
            "blk.size" => self.size = number("bytes, such as 64M, or all")?.max(1),
            "blk.first" => self.first = Some(number("a sector's number")?),
            "blk.sums" => self.sums = Some(disk(value).ok_or_else(|| bad(DISKS))?),
            #[cfg(feature = "mix")]
            "blk.mix" => {
                self.mix = Mix::parse(value, size)
                    .map_err(|word| format!("{name}: {word}: wants {}", mix::WORDS))?;
            }
            "blk.bytes" => self.bytes = number("bytes, such as 100M")?.max(1),
            "blk.hostile" => {
                self.hostile = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(bad("yes or no")),
                };
            }
            "blk.backend"
                if value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) =>
            {
                self.backend = value.to_owned();
            }
            "blk.backend" => return Err(bad("letters and digits")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Tells if the disk may be overwritten.
    pub fn may_destroy(&self, disk: &str) -> bool {
        self.destroy.iter().any(|name| name == disk)
    }

    /// Returns the reason why `case` must not run on `disk`, if there is one.
    pub fn forbids(&self, case: &Case, disk: &str) -> Option<String> {
        let named = self.may_destroy(disk);
        match case.needs {
            Needs::Destroy | Needs::Hostile if !named => {
                Some(format!("overwrites the disk: wants blk.destroy={disk}"))
            }
            Needs::Hostile if !self.hostile => {
                Some("breaks the protocol: wants blk.hostile=yes".to_owned())
            }
            _ if named && self.first.is_some() && EVERYWHERE.contains(&case.name) => {
                Some("writes beyond what blk.first and blk.size name".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the command line that repeats one test of this plan.
    pub fn again<'a>(&'a self, case: &'a Case, disk: &'a str) -> Again<'a> {
        Again { plan: self, case, disk }
    }
}

/// Shows the command line for one test.
pub struct Again<'a> {
    plan: &'a Plan,
    case: &'a Case,
    disk: &'a str,
}

impl fmt::Display for Again<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Again { plan, case, disk } = self;
        write!(f, "blk.disk={disk} blk.run={} blk.seed={}", case.name, plan.seed)?;
        let default = Plan::default();
        for (name, value, usual) in [
            ("generation", plan.generation, default.generation),
            ("durable", plan.durable.into(), default.durable.into()),
            ("loops", plan.loops.into(), default.loops.into()),
            ("size", plan.size, default.size),
            ("bytes", plan.bytes, default.bytes),
        ] {
            match value {
                u64::MAX => write!(f, " blk.{name}=all")?,
                _ if value == usual => {}
                _ => write!(f, " blk.{name}={value}")?,
            }
        }
        if let Some(first) = plan.first {
            write!(f, " blk.first={first}")?;
        }
        if let Some(sums) = &plan.sums {
            write!(f, " blk.sums={sums}")?;
        }
        #[cfg(feature = "mix")]
        if plan.mix != default.mix {
            write!(f, " blk.mix={}", plan.mix)?;
        }
        if plan.may_destroy(disk) {
            write!(f, " blk.destroy={disk}")?;
        }
        if plan.hostile {
            f.write_str(" blk.hostile=yes")?;
        }
        Ok(())
    }
}

const DISKS: &str = "names of disks, such as xvda,xvdb";

/// The tests that write at places of their own, where they may.
const EVERYWHERE: [&str; 5] = ["boundary", "resize", "bench", "bench-all", "hostile"];

fn disks(value: &str) -> Option<Vec<String>> {
    value.split(',').map(disk).collect()
}

fn disk(name: &str) -> Option<String> {
    xen_blk::protocol::vdev::parse(name).map(|_| name.to_owned())
}

/// Parses a list of tests; the error is the word that is none.
fn tests(value: &str) -> Result<Vec<&'static Case>, &str> {
    let mut tests = Vec::new();
    for word in value.split(',') {
        match word {
            "all" => tests.extend(CASES.iter().filter(|case| case.in_all)),
            _ => tests.push(CASES.iter().find(|case| case.name == word).ok_or(word)?),
        }
    }
    Ok(tests)
}

/// Shows the names of all tests.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tests are all")?;
        CASES.iter().try_for_each(|case| write!(f, ", {}", case.name))
    }
}

/// Parses a number, with K, M or G behind it for 2^10, 2^20 and 2^30.
fn size(value: &str) -> Option<u64> {
    let (digits, shift) = match value.as_bytes().last()? {
        b'K' => (&value[..value.len() - 1], 10),
        b'M' => (&value[..value.len() - 1], 20),
        b'G' => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn plan(line: &str) -> Result<Plan, String> {
        let mut plan = Plan::default();
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap();
            assert!(plan.set(name, value)?, "{word}");
        }
        Ok(plan)
    }

    #[test]
    fn options_are_parsed() {
        let plan = plan("blk.disk=xvda,xvdb blk.run=report,rand blk.seed=7 blk.generation=3 blk.durable=4 blk.destroy=xvdb blk.hostile=yes blk.loops=9 blk.size=1K blk.first=8 blk.sums=xvdc blk.bytes=2G blk.backend=null_blk").unwrap();
        assert_eq!(
            (plan.disks.len(), plan.seed, plan.generation, plan.durable, plan.loops),
            (2, 7, 3, 4, 9)
        );
        assert_eq!(
            (plan.size, plan.bytes, plan.hostile, &*plan.backend),
            (1024, 2 << 30, true, "null_blk")
        );
        assert_eq!((plan.first, plan.sums.as_deref()), (Some(8), Some("xvdc")));
        assert_eq!(plan.tests.iter().map(|case| case.name).collect::<Vec<_>>(), ["report", "rand"]);
        assert!(plan.may_destroy("xvdb") && !plan.may_destroy("xvda"));
    }

    #[test]
    fn bad_option_is_named_with_valid_values() {
        for (line, says) in [
            ("blk.disk=sda1x!", "blk.disk=sda1x!: wants names of disks"),
            ("blk.run=report,sing", "there is no test 'sing' (the tests are all, report, "),
            ("blk.seed=-1", "blk.seed=-1: wants a number"),
            ("blk.size=64T", "blk.size=64T: wants bytes"),
            ("blk.size=99999999999G", "wants bytes"),
            ("blk.sums=xvda,xvdb", "blk.sums=xvda,xvdb: wants names of disks"),
            ("blk.hostile=maybe", "wants yes or no"),
            ("blk.backend=\"", "wants letters"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
        assert_eq!(Plan::default().set("vchan.path", "x"), Ok(false));
    }

    #[test]
    fn overwriting_test_needs_the_disk_named() {
        let plan = plan("blk.run=all blk.destroy=xvda").unwrap();
        let case = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
        assert_eq!(plan.forbids(case("report"), "xvdb"), None);
        assert_eq!(plan.forbids(case("rand"), "xvda"), None);
        assert!(plan.forbids(case("flush"), "xvdb").unwrap().contains("blk.destroy=xvdb"));
        assert!(plan.forbids(case("hostile"), "xvdb").unwrap().contains("blk.destroy=xvdb"));
        assert!(plan.forbids(case("hostile"), "xvda").unwrap().contains("blk.hostile=yes"));
    }

    #[test]
    fn test_that_writes_everywhere_is_refused_on_a_part() {
        let plan = plan("blk.run=all blk.destroy=xvda blk.hostile=yes blk.first=8").unwrap();
        for case in CASES.iter().filter(|case| EVERYWHERE.contains(&case.name)) {
            assert!(plan.forbids(case, "xvda").unwrap().contains("blk.first"), "{}", case.name);
        }
        let allowed = |name: &str, disk| {
            plan.forbids(CASES.iter().find(|case| case.name == name).unwrap(), disk)
        };
        assert_eq!((allowed("rand", "xvda"), allowed("boundary", "xvdb")), (None, None));
    }

    #[test]
    fn repeat_line_repeats_the_test() {
        let line = "blk.disk=xvda blk.run=rand blk.seed=5 blk.size=all blk.first=8 blk.sums=xvdb blk.destroy=xvda";
        let plan = plan(line).unwrap();
        assert_eq!(plan.again(plan.tests[0], "xvda").to_string(), line);
    }

    proptest! {
        #[test]
        fn no_option_panics(name in "blk\\.[a-z]{3,10}", value in "\\PC{0,40}") {
            let _ = Plan::default().set(&name, &value);
        }
    }
}
