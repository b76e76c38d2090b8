//! Runs scenarios one after another on one host.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{ALL, Bench, Scenario, report};
use crate::cli::HostArgs;
use crate::disk;
use crate::host::{Host, HostConfig, until};
use crate::progress::Progress;

/// Guests of scenarios are called so, and nothing else is ever destroyed.
pub const PREFIX: &str = "ringside-";

/// Start of the line that says what the host is.
pub const HOST_LINE: &str = "host: ";

/// Time in which a destroyed domain must disappear.
const BURIAL: Duration = Duration::from_secs(30);

/// Memory of an emulated host that is not left to guests, in MiB: Xen, dom0.
const OWN_MEMORY: u32 = 1024;

/// Which scenarios to run.
pub struct Choice<'a> {
    /// Parts of names; a scenario that has one is run, quick or not.
    pub patterns: &'a [String],
    /// Without patterns: whether to run those that take long as well.
    pub full: bool,
    /// Without patterns: whether to run only the few for every kind of host.
    pub short: bool,
    /// True to try those that failed once more.
    pub retry: bool,
}

impl Choice<'_> {
    fn takes(&self, scenario: &Scenario) -> bool {
        if self.patterns.is_empty() {
            return if self.short { scenario.short } else { self.full || !scenario.full };
        }
        self.patterns.iter().any(|pattern| scenario.name.contains(pattern.as_str()))
    }
}

/// Runs the scenarios of `choice` and prints the count. The host comes back
/// for people who want to look into it.
pub fn run(on: HostArgs, choice: &Choice) -> Result<(Host, ExitCode)> {
    let chosen: Vec<&Scenario> = ALL.iter().filter(|scenario| choice.takes(scenario)).collect();
    ensure!(
        !chosen.is_empty(),
        "no scenario has {} in its name; 'testbed test --list' shows all",
        choice.patterns.join(" or ")
    );
    let memory = on.memory.unwrap_or_else(|| wanted_memory(&chosen, available_memory()));
    let progress = Progress::new();
    let config = HostConfig {
        peers: true,
        linux: chosen.iter().any(|scenario| scenario.linux),
        ssh: chosen.iter().any(|scenario| scenario.ssh),
        python: chosen.iter().any(|scenario| scenario.python),
        qemu: chosen.iter().any(|scenario| scenario.qemu),
        ..HostConfig::plain(on, memory)
    };
    let host = Host::up(&config, &progress)?;
    host.logs_consoles()?;
    progress.done("the host is up");
    println!("{HOST_LINE}{}", host.describe()?);

    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut second = Vec::new();
    for scenario in chosen {
        let needed = scenario.memory + OWN_MEMORY;
        if host.emulated() && needed > memory {
            println!(
                "SKIP  {:18} needs an emulated host of {needed} MiB (--memory)",
                scenario.name
            );
            skipped += 1;
        } else if one(&host, scenario) {
            passed += 1;
        } else if choice.retry && one(&host, scenario) {
            passed += 1;
            second.push(scenario.name);
        } else {
            failed += 1;
        }
    }
    report::host(&host);
    let skips = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("logs: {}", host.logs.display());
    println!("{passed} passed, {failed} failed{skips}{}", at_second_try(&second));
    Ok((host, if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

/// Returns the part of the last line that names what failed, and then passed.
fn at_second_try(names: &[&str]) -> String {
    if names.is_empty() {
        String::new()
    } else {
        format!("; at the second try: {}", names.join(", "))
    }
}

/// Returns the memory of an emulated host: what the hungriest scenario needs
/// among those that fit into what this machine has.
fn wanted_memory(chosen: &[&Scenario], available: u32) -> u32 {
    let needs = chosen.iter().map(|scenario| scenario.memory + OWN_MEMORY);
    let smallest = needs.clone().min().unwrap_or_default();
    needs.filter(|need| *need <= available).max().unwrap_or(smallest)
}

/// Memory that this machine could give without swapping, in MiB.
fn available_memory() -> u32 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(u32::MAX, |kib| u32::try_from(kib / 1024).unwrap_or(u32::MAX))
}

/// Runs one scenario, cleans up behind it and prints its line.
fn one(host: &Host, scenario: &Scenario) -> bool {
    let begun = Instant::now();
    let mark = host.hypervisor_log().len();
    let bench = Bench { host, name: format!("{PREFIX}{}", scenario.name), drop_in: false };
    host.begin(scenario.patience);
    let result = (scenario.action)(&bench);
    host.end();
    let consoles = report::save_consoles(host, &bench.name);
    let result = result.and(clean_up(host));
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("PASS  {:18} {seconds:6.1} s  {}", scenario.name, scenario.about),
        Err(error) => {
            println!("FAIL  {:18} {seconds:6.1} s  {}", scenario.name, scenario.about);
            report::failure(
                error,
                &consoles,
                host.hypervisor_log().get(mark..).unwrap_or_default(),
            );
            // Whatever the failure left behind must not disturb the next one.
            let _ = clean_up(host);
            disk::sweep(host);
            // Its files are in dom0's memory.
            let _ = host.shell(&format!("rm -rf /tmp/{}*", bench.name));
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
    let ours = |name: &str| name.starts_with(PREFIX) || name == "(null)";
    let buried = until(BURIAL, || Ok(!domains(host)?.iter().any(|(name, _)| ours(name))))?;
    ensure!(buried, "domains that will not go away:\n{}", host.xl(&["list"])?);
    let known: BTreeSet<String> = domains(host)?.into_iter().map(|(_, id)| id).collect();
    let listed = host.shell("xenstore-list /local/domain")?;
    let stale: Vec<_> = listed.split_whitespace().filter(|id| !known.contains(*id)).collect();
    ensure!(
        stale.is_empty(),
        "xenstore still has /local/domain/{{{}}} of domains that are gone",
        stale.join(",")
    );
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
        let quick = Scenario::new("echo-line", "", |_| Ok(()));
        let long = Scenario::new("echo-long", "", |_| Ok(())).full();
        let takes = |patterns: &[&str], full, scenario: &Scenario| {
            let patterns: Vec<String> =
                patterns.iter().map(|pattern| pattern.to_string()).collect();
            Choice { patterns: &patterns, full, short: false, retry: false }.takes(scenario)
        };
        let short = |scenario| {
            Choice { patterns: &[], full: false, short: true, retry: false }.takes(scenario)
        };
        assert!(!short(&quick) && short(&Scenario::new("boot", "", |_| Ok(())).short()));
        assert!(takes(&[], false, &quick) && takes(&["x", "line"], false, &quick));
        assert!(!takes(&["boot"], true, &quick));
        assert!(
            !takes(&[], false, &long) && takes(&[], true, &long) && takes(&["long"], false, &long)
        );
    }

    #[test]
    fn memory_is_what_fits() {
        let all: Vec<&Scenario> = ALL.iter().collect();
        let most = all.iter().map(|scenario| scenario.memory).max().unwrap() + OWN_MEMORY;
        assert_eq!(wanted_memory(&all, most), most);
        assert!(wanted_memory(&all, most - 1) < most);
        assert!(wanted_memory(&all, 0) > OWN_MEMORY);
    }

    #[test]
    fn scenario_names_differ_and_are_short() {
        let names: BTreeSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.len() <= 18));
    }
}
