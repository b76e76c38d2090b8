//! The console log of a run: TAP with lines of JSON in comments.

use serde_json::Value;

/// A point of a test: one of its combinations.
pub struct Point {
    pub ok: bool,
    pub text: String,
}

/// Outcome of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// A test.
pub struct Test {
    pub disk: String,
    pub name: String,
    pub outcome: Outcome,
    /// Its summary, or why it was skipped.
    pub text: String,
    pub ms: u64,
    pub checks: u64,
    /// Failed checks that are shown.
    pub details: Vec<String>,
    /// The options that repeat it.
    pub again: String,
    pub points: Vec<Point>,
}

/// All that a run has told.
#[derive(Default)]
pub struct Run {
    /// Members of the line that begins a run: version, seed, options.
    pub about: Vec<(String, String)>,
    /// Disks with the keys of their backends.
    pub disks: Vec<(String, Vec<(String, String)>)>,
    pub tests: Vec<Test>,
    /// Measurements, as they were printed.
    pub measures: Vec<Value>,
    /// Lines that `mix` prints while it runs.
    pub beats: Vec<Value>,
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn members(value: &Value) -> Vec<(String, String)> {
    let members = value.as_object().into_iter().flatten();
    members.map(|(key, value)| (key.clone(), text(value))).collect()
}

/// Splits a line `ok 3 - text`.
fn point(line: &str) -> Option<(bool, &str)> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    Some((ok, rest.strip_prefix(" - ").unwrap_or(rest)))
}

impl Run {
    /// Reads the last run in a log; `None` if there is none.
    pub fn parse(log: &str) -> Option<Run> {
        let begin = log.rfind("TAP version ")?;
        let mut run = Run::default();
        // The boot log before it names the host.
        let host = log[..begin].lines().rfind(|line| line.contains(" on Xen "));
        let host = host.and_then(|line| line.split_once(" on ")).map(|(_, xen)| xen.trim_end());
        let (mut points, mut said) = (Vec::new(), None);
        for line in log[begin..].lines().map(str::trim_end) {
            if let Some(json) =
                line.strip_prefix("# ").or(Some(line)).filter(|l| l.starts_with('{'))
            {
                if let Ok(value) = serde_json::from_str::<Value>(json) {
                    run.json(value, &mut said);
                }
            } else if let Some((ok, text)) = line.strip_prefix("    ").and_then(point) {
                points.push(Point { ok, text: text.to_string() });
            } else if let Some((ok, text)) = point(line) {
                run.test(ok, text, core::mem::take(&mut points), said.take());
            } else if let Some(test) = run.tests.last_mut() {
                if let Some(again) = line.strip_prefix("  again: ") {
                    test.again = again.to_string();
                } else if let Some(detail) = line.strip_prefix("    - ") {
                    let detail = serde_json::from_str::<String>(detail);
                    test.details.push(detail.unwrap_or_else(|_| line.trim().to_string()));
                }
            }
        }
        run.about.extend(host.map(|xen| ("host".to_string(), xen.to_string())));
        Some(run)
    }

    fn json(&mut self, value: Value, said: &mut Option<Value>) {
        if let Some(about) = value.get("run") {
            self.about = members(about);
        } else if value.get("checks").is_some() {
            *said = Some(value);
        } else if let Some(name) = value.get("report") {
            let mut keys = members(&value["keys"]);
            keys.extend(
                members(&value["limits"]).into_iter().map(|(k, v)| (format!("found: {k}"), v)),
            );
            self.disks.push((text(name), keys));
        } else if value.get("mib_per_s").is_some() {
            self.measures.push(value);
        } else if value.get("beat").is_some() {
            self.beats.push(value["beat"].clone());
        }
    }

    fn test(&mut self, ok: bool, text: &str, points: Vec<Point>, said: Option<Value>) {
        let (text, skipped) = match text.split_once(" # SKIP ") {
            Some((name, why)) => (format!("{name}: {why}"), true),
            None => (text.to_string(), false),
        };
        let (name, text) = text.split_once(": ").unwrap_or((&text, ""));
        let (disk, name) = name.split_once(' ').unwrap_or(("", name));
        let number = |key: &str| said.as_ref().and_then(|said| said[key].as_u64()).unwrap_or(0);
        self.tests.push(Test {
            disk: disk.into(),
            name: name.into(),
            outcome: match (ok, skipped) {
                (_, true) => Outcome::Skipped,
                (true, _) => Outcome::Passed,
                (false, _) => Outcome::Failed,
            },
            text: text.into(),
            ms: number("ms"),
            checks: number("checks"),
            details: Vec::new(),
            again: String::new(),
            points,
        });
    }

    /// Returns the number of tests that failed.
    pub fn failed(&self) -> usize {
        self.tests.iter().filter(|test| test.outcome == Outcome::Failed).count()
    }

    /// Describes the tests whose outcome is another than in an earlier run, and the measurements
    /// that changed by more than a tenth.
    pub fn changes(&self, earlier: &Run) -> Vec<String> {
        let mut changes = Vec::new();
        for test in &self.tests {
            let same = |other: &&Test| other.disk == test.disk && other.name == test.name;
            if let Some(old) = earlier.tests.iter().find(same)
                && old.outcome != test.outcome
            {
                let (disk, name) = (&test.disk, &test.name);
                changes.push(format!(
                    "{disk} {name}: {:?} before, {:?} now",
                    old.outcome, test.outcome
                ));
            }
        }
        for (name, before, now) in self.speeds(earlier) {
            if (now - before).abs() > before / 10.0 {
                changes.push(format!("{name}: {before} operations a second before, {now} now"));
            }
        }
        changes
    }

    /// Returns the operations a second of each measurement that both runs have, before and now.
    pub fn speeds(&self, earlier: &Run) -> Vec<(String, f64, f64)> {
        let of = |run: &Run, name: &Value| {
            run.measures
                .iter()
                .find(|one| one["test"] == *name)
                .and_then(|one| one["iops"].as_f64())
        };
        let pair = |one: &Value| {
            let name = &one["test"];
            Some((text(name), of(earlier, name)?, of(self, name)?))
        };
        self.measures.iter().filter_map(pair).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const LOG: &str = include_str!("../tests/console.log");

    #[test]
    fn console_log_is_read() {
        let run = Run::parse(LOG).unwrap();
        let outcomes: Vec<_> = run.tests.iter().map(|test| (&*test.name, test.outcome)).collect();
        assert!(outcomes.contains(&("report", Outcome::Passed)), "{outcomes:?}");
        assert!(outcomes.contains(&("barrier", Outcome::Failed)), "{outcomes:?}");
        let barrier = run.tests.iter().find(|test| test.name == "barrier").unwrap();
        assert!(barrier.details[0].contains("barrier") && barrier.again.contains("blk.seed="));
        let features = run.tests.iter().find(|test| test.name == "features").unwrap();
        assert_eq!(features.points.len(), 22);
        let about = |key: &str| run.about.iter().find(|(name, _)| name == key).unwrap().1.clone();
        assert_eq!((about("version"), about("host")), ("0.1.0".into(), "Xen 4.20.5-pre".into()));
        assert!(run.disks[0].1.iter().any(|(key, _)| key == "feature-flush-cache"));
        assert_eq!(run.measures.len(), 6);
    }

    #[test]
    fn changes_between_runs_are_named() {
        let (run, mut earlier) = (Run::parse(LOG).unwrap(), Run::parse(LOG).unwrap());
        assert_eq!(run.changes(&earlier), Vec::<String>::new());
        earlier.tests.iter_mut().for_each(|test| test.outcome = Outcome::Passed);
        earlier.measures[0]["iops"] = 1.into();
        let changes = run.changes(&earlier);
        assert!(changes.iter().any(|line| line.contains("barrier: Passed before, Failed now")));
        assert!(changes.iter().any(|line| line.contains("1 operations a second before")));
    }

    proptest! {
        #[test]
        fn no_log_panics(head in "(ok |not ok |# |    |\\{|TAP version ){0,6}", rest in "\\PC{0,80}") {
            let run = Run::parse(&format!("TAP version 14\n{head}{rest}\n{rest}{head}\n"));
            if let Some(run) = run {
                run.changes(&run);
            }
        }
    }
}
