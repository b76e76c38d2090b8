//! `testbed matrix`: the short set of scenarios on every kind of emulated host.
//!
//! Each host is in a process of its own. A table tells what passed.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::artefacts;
use crate::scenario::HOST_LINE;

/// Debian releases and xenstore daemons that make the hosts.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const DAEMONS: [&str; 2] = ["xenstored", "oxenstored"];

/// One kind of host.
#[derive(Clone, Copy)]
struct Kind {
    suite: &'static str,
    daemon: &'static str,
}

impl Kind {
    fn name(self) -> String {
        format!("{}-{}", self.suite, self.daemon)
    }
}

/// Results of the scenarios on one kind of host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Versions of Xen and Linux; empty if the host did not come up.
    host: String,
    passed: usize,
    failed: Vec<String>,
}

impl Outcome {
    /// Returns true if scenarios were run, and all of them passed.
    fn is_good(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }
}

/// Runs the short set on the hosts that have one of the words of `only` in their name, `jobs` at a
/// time, and prints the table.
pub fn run(jobs: usize, retry: bool, only: &[String]) -> Result<ExitCode> {
    let chosen: Vec<Kind> = SUITES
        .into_iter()
        .flat_map(|suite| DAEMONS.map(|daemon| Kind { suite, daemon }))
        .filter(|kind| {
            only.is_empty() || only.iter().any(|word| kind.name().contains(word.as_str()))
        })
        .collect();
    ensure!(!chosen.is_empty(), "no host has {} in its name", only.join(" or "));
    let logs = artefacts::root()?.join("target/testbed/matrix");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let next = Mutex::new(chosen.iter());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, chosen.len()) {
            scope.spawn(|| {
                loop {
                    let Some(kind) = next.lock().expect("no holder panics").next().copied() else {
                        break;
                    };
                    let outcome = try_kind(kind, retry, &logs);
                    done.lock().expect("no holder panics").push((kind.name(), outcome));
                }
            });
        }
    });
    let outcomes = done.into_inner().expect("no holder panics");
    let mut of = Vec::new();
    for (name, outcome) in outcomes {
        of.push((name, outcome?));
    }
    print!("{}", table(&chosen, &of));
    let all_good = of.iter().all(|(_, outcome)| outcome.is_good());
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn try_kind(kind: Kind, retry: bool, logs: &Path) -> Result<Outcome> {
    let path = logs.join(format!("{}.log", kind.name()));
    let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    eprintln!("testbed: {}: see {}", kind.name(), path.display());
    let words = ["test", "--short", "--host", kind.suite, "--xenstored", kind.daemon];
    Command::new("/proc/self/exe")
        .args(words)
        .args(retry.then_some("--retry"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .context("cannot run this program once more")?;
    let text = fs::read_to_string(&path)?;
    let outcome = parse(&text);
    if !outcome.is_good() {
        eprint!("{text}");
    }
    eprintln!("testbed: {}: {}", kind.name(), cell(Some(&outcome)));
    Ok(outcome)
}

/// Reads what `testbed test` printed.
fn parse(text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("PASS") => {
                outcome.passed += 1;
                // It may be the second try of one that failed.
                let name = words.next().unwrap_or_default();
                outcome.failed.retain(|failed| failed != name);
            }
            Some("FAIL") => {
                let name = words.next().unwrap_or_default().to_string();
                outcome.failed.retain(|failed| *failed != name);
                outcome.failed.push(name);
            }
            _ => {}
        }
        if let Some(host) = line.strip_prefix(HOST_LINE) {
            outcome.host = host.rsplit_once(", ").map_or(host, |(host, _)| host).to_string();
        }
    }
    outcome
}

/// Returns the table in Markdown: a row for each release, a column for each daemon.
fn table(chosen: &[Kind], outcomes: &[(String, Outcome)]) -> String {
    let mut text =
        String::from("| `HOST=` | Xen and dom0 | xenstored | oxenstored |\n|---|---|---|---|\n");
    for suite in SUITES.into_iter().filter(|suite| chosen.iter().any(|kind| kind.suite == *suite)) {
        let of = |daemon| {
            let name = Kind { suite, daemon }.name();
            outcomes.iter().find(|(other, _)| *other == name).map(|(_, outcome)| outcome)
        };
        let [c, ocaml] = DAEMONS.map(of);
        let host = [c, ocaml].into_iter().flatten().map(|outcome| outcome.host.as_str());
        let host = host.max().unwrap_or_default();
        text += &format!("| {suite} | {host} | {} | {} |\n", cell(c), cell(ocaml));
    }
    text
}

fn cell(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "not tried".to_string(),
        Some(outcome) if outcome.passed + outcome.failed.len() == 0 => "does not boot".to_string(),
        Some(outcome) if outcome.failed.is_empty() => format!("{} passed", outcome.passed),
        Some(outcome) => {
            format!("{} passed, failed: {}", outcome.passed, outcome.failed.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "testbed: the host is up\nhost: Xen 4.20.4, Linux 6.12.1, xenstored\n\
        PASS  boot-log  1.0 s  text\nFAIL  xl-reboot  2.0 s  text\nSKIP  memory-4096\n";

    #[test]
    fn outcome_is_read_from_the_log() {
        let outcome = parse(LOG);
        assert_eq!(outcome.host, "Xen 4.20.4, Linux 6.12.1");
        assert_eq!((outcome.passed, outcome.failed), (1, vec!["xl-reboot".to_string()]));
    }

    #[test]
    fn second_try_counts() {
        let again = |line: &str| parse(&format!("{LOG}{line}"));
        assert!(again("PASS  xl-reboot  3.0 s  text\n").is_good());
        assert_eq!(again("FAIL  xl-reboot  3.0 s  text\n"), parse(LOG));
    }

    #[test]
    fn host_without_a_passed_scenario_is_not_good() {
        let good = |text| parse(text).is_good();
        assert!(!good(LOG) && !good("testbed: the emulated host failed while booting\n"));
        assert!(good(LOG.split("FAIL").next().unwrap()));
    }

    #[test]
    fn table_has_a_row_for_each_release() {
        let kinds = DAEMONS.map(|daemon| Kind { suite: "trixie", daemon });
        let outcomes = [
            (kinds[0].name(), parse(LOG)),
            (kinds[1].name(), parse("testbed: the emulated host failed while booting\n")),
        ];
        let row =
            "| trixie | Xen 4.20.4, Linux 6.12.1 | 1 passed, failed: xl-reboot | does not boot |\n";
        assert!(table(&kinds, &outcomes).ends_with(row), "{}", table(&kinds, &outcomes));
    }
}
