//! Frontends meet backends that break the protocol: `xen-disk exercise`.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// The most time that all acts may take.
const LONG: Duration = Duration::from_secs(1200);

/// Most times as long as usual that a frontend gets for an act.
const MAX_SLOWNESS: f64 = 3.0;

/// Acts that Linux 6.12 fails. After most of them its frontend asks nothing more (`xen-blkfront.c`,
/// "disabled for further use"), and the guest takes no other disk. It uses disks with sectors of 0
/// and of 2^31 bytes.
const LINUX_FAILS: &[&str] = &[
    "far-id",
    "free-id",
    "twice",
    "operation",
    "index-ahead",
    "index-far",
    "index-back",
    "rewritten",
    "mapped",
    "closes",
    "vanishes",
    "toggles",
    "sector-size-0",
    "sector-size-large",
];

/// The name of an act, and its result.
type Failed = (String, String);

/// Plays `acts` to a guest's frontend. Returns the names of those that failed, each with its
/// result, and the number of those that were left out since the guest takes no disk any more.
fn exercised(bench: &Bench, guest: &Guest, acts: &[String]) -> Result<(Vec<Failed>, usize)> {
    // Some acts take all the time that there is.
    let slowness = bench.host.slowness().min(MAX_SLOWNESS).ceil().to_string();
    let acts_word = acts.join(",");
    let words = ["--slowness", &slowness, "--act", &acts_word];
    let command = [&["out/xen-disk", "exercise", &guest.name, "xvdz"], &words[..]].concat();
    let finished = bench.host.exec(&command, LONG)?;
    let report = String::from_utf8_lossy(&finished.stdout).into_owned();
    let told = || format!("{report}{}\n{}", finished.stderr, guest.console());
    let tests = |start: &str| {
        let lines = report.lines().filter_map(|line| line.strip_prefix(start));
        let name = |line: &str| Some(line.split_once(" - ")?.1.split_once(':')?.0.to_string());
        lines.filter_map(name).collect::<Vec<_>>()
    };
    let (passed, failed) = (tests("ok "), tests("not ok "));
    let left = acts.len().checked_sub(passed.len() + failed.len()).with_context(told)?;
    ensure!(left == 0 || report.contains("Bail out!"), "it broke off:\n{}", told());
    ensure!(!report.contains("# SKIP"), "the guest used the disk too little:\n{}", told());
    let result = |name: String| {
        let after = report.split_once(&format!(" - {name}: ")).map_or("", |(_, after)| after);
        let line = after.lines().find_map(|line| line.strip_prefix("  result: "));
        let line = line.unwrap_or_default().to_string();
        (name, line)
    };
    Ok((failed.into_iter().map(result).collect(), left))
}

/// Returns the names of all acts.
fn acts(bench: &Bench) -> Result<Vec<String>> {
    let list = bench.host.shell("out/xen-disk exercise --list")?;
    Ok(list.lines().filter_map(|line| Some(line.split(' ').next()?.to_string())).collect())
}

pub(super) fn ours(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let kernel = "kernel=\"out/ringside-block.elf\"";
    let guest = bench.guest(&[kernel])?;
    // It reads the disk whenever it is asked to.
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) && console.write(b"blk read xvdz 3\r").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let result = acts(bench).and_then(|acts| exercised(bench, &guest, &acts));
        done.store(true, Relaxed);
        let (failed, _) = result?;
        ensure!(failed.is_empty(), "failed: {failed:?}:\n{}", guest.console());
        Ok(())
    })?;
    guest.echoes("after all of them")?;
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)?;
    before.unchanged(bench.host)
}

/// After an act that leaves Linux's frontend stuck, another guest goes on.
pub(super) fn linux(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let mut rest = acts(bench)?;
    let mut all_failed = Vec::new();
    for number in 1.. {
        let guest = bench.linux(number, "role=blk-use", &[])?;
        guest.says_within("blk-use: begun.", PATIENCE * 4)?;
        let (failed, left) = exercised(bench, &guest, &rest)?;
        for words in ["BUG:", "Oops", "general protection"] {
            ensure!(!guest.console().contains(words), "the kernel crashed:\n{}", guest.console());
        }
        bench.host.xl(&["destroy", &guest.name])?;
        guest.gone(PATIENCE)?;
        all_failed.extend(failed);
        rest.drain(..rest.len() - left);
        if rest.is_empty() {
            break;
        }
    }
    let unknown: Vec<_> =
        all_failed.iter().filter(|(name, _)| !LINUX_FAILS.contains(&name.as_str())).collect();
    ensure!(unknown.is_empty(), "failed: {unknown:?}");
    before.unchanged(bench.host)
}
