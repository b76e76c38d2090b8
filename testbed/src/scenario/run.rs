//! Runs scenarios one after another on one host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::{ALL, Bench, Scenario, report};
use crate::cli::HostKind;
use crate::host::Host;
use crate::progress::Progress;

/// Guests of scenarios are called so, and nothing else is ever destroyed.
pub const PREFIX: &str = "ringside-";

/// How long a destroyed domain may take to disappear.
const BURIAL: Duration = Duration::from_secs(30);

/// Runs the scenarios whose name contains one of `patterns` and prints the
/// count. The host comes back for whoever wants to look into it.
pub fn run(kind: HostKind, memory: Option<u32>, patterns: &[String], logs: PathBuf) -> Result<(Host, ExitCode)> {
    let chosen: Vec<&Scenario> = ALL.iter().filter(|scenario| chosen(scenario.name, patterns)).collect();
    ensure!(
        !chosen.is_empty(),
        "no scenario has {} in its name; 'testbed test --list' shows all",
        patterns.join(" or ")
    );
    let needed = chosen.iter().map(|scenario| scenario.memory).max().unwrap_or_default() + 512;
    let memory = memory.unwrap_or(needed);
    let progress = Progress::new();
    let host = Host::up(kind, memory, &logs, &progress)?;
    progress.done("the host is up");

    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for scenario in chosen {
        if host.emulated() && scenario.memory + 512 > memory {
            println!("SKIP  {:18} needs --memory {}", scenario.name, scenario.memory + 512);
            skipped += 1;
        } else if one(&host, scenario) {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    report::host(&host);
    let skips = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("logs: {}", host.logs.display());
    println!("{passed} passed, {failed} failed{skips}");
    Ok((host, if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

fn chosen(name: &str, patterns: &[String]) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| name.contains(pattern.as_str()))
}

/// Runs one scenario, cleans up behind it and prints its line.
fn one(host: &Host, scenario: &Scenario) -> bool {
    let begun = Instant::now();
    let mark = host.hypervisor_log().len();
    let bench = Bench { host, name: format!("{PREFIX}{}", scenario.name) };
    host.set_limit(Some(begun + scenario.patience));
    let result = (scenario.action)(&bench);
    host.set_limit(None);
    let consoles = report::save_consoles(host, &bench.name);
    let result = result.and(clean_up(host));
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("PASS  {:18} {seconds:6.1} s  {}", scenario.name, scenario.about),
        Err(error) => {
            println!("FAIL  {:18} {seconds:6.1} s  {}", scenario.name, scenario.about);
            report::failure(error, &consoles, host.hypervisor_log().get(mark..).unwrap_or_default());
            // Whatever the failure left behind must not disturb the next one.
            let _ = clean_up(host);
        }
    }
    result.is_ok()
}

/// Destroys our guests, and makes sure that they and their keys are gone: a
/// domain that stays as `(null)` still has pages mapped by somebody.
fn clean_up(host: &Host) -> Result<()> {
    for (name, id) in domains(host)? {
        if name.starts_with(PREFIX) {
            host.xl(&["destroy", &id])?;
        }
    }
    let deadline = Instant::now() + BURIAL;
    loop {
        let left: Vec<_> =
            domains(host)?.into_iter().filter(|(name, _)| name.starts_with(PREFIX) || name == "(null)").collect();
        if left.is_empty() {
            break;
        }
        if Instant::now() > deadline {
            bail!("domains that will not go away: {left:?}\n{}", host.xl(&["list"])?);
        }
    }
    let known: BTreeSet<String> = domains(host)?.into_iter().map(|(_, id)| id).collect();
    let listed = host.shell("xenstore-list /local/domain")?;
    let stale: Vec<_> = listed.split_whitespace().filter(|id| !known.contains(*id)).collect();
    ensure!(stale.is_empty(), "xenstore still has /local/domain/{{{}}} of domains that are gone", stale.join(","));
    Ok(())
}

/// Name and id of every domain.
fn domains(host: &Host) -> Result<Vec<(String, String)>> {
    Ok(host.xl(&["list"])?.lines().skip(1).filter_map(pair).collect())
}

fn pair(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_string(), words.next()?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_choose_by_part_of_the_name() {
        assert!(chosen("echo-line", &[]));
        assert!(chosen("echo-line", &["x".into(), "line".into()]));
        assert!(!chosen("echo-line", &["boot".into()]));
    }

    #[test]
    fn scenario_names_differ_and_are_short() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.len() <= 18));
    }
}
