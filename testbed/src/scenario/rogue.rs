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

/// Plays all acts to a guest's frontend; those named in `known` may fail. Returns the report.
fn exercised(bench: &Bench, guest: &Guest, known: &[&str]) -> Result<String> {
    let command = ["out/xen-disk", "exercise", &guest.name, "xvdz"];
    let finished = bench.host.exec(&command, LONG)?;
    let report = String::from_utf8_lossy(&finished.stdout).into_owned();
    let told = || format!("{report}{}\n{}", finished.stderr, guest.console());
    let plan = report.lines().find_map(|line| line.strip_prefix("1..")).with_context(told)?;
    let tests = |start: &str| report.lines().filter(|line| line.starts_with(start)).count();
    ensure!(tests("ok ") + tests("not ok ") == plan.parse::<usize>()?, "it broke off:\n{}", told());
    for line in report.lines().filter(|line| line.starts_with("not ok ")) {
        ensure!(known.iter().any(|name| line.contains(name)), "{line}:\n{}", told());
    }
    ensure!(!report.contains("# SKIP"), "the guest used the disk too little:\n{}", told());
    Ok(report)
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
        let result = exercised(bench, &guest, &[]);
        done.store(true, Relaxed);
        result
    })?;
    guest.echoes("after all of them")?;
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)?;
    before.unchanged(bench.host)
}

pub(super) fn linux(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let guest = bench.linux(1, "role=blk-use", &[])?;
    guest.says_within("blk-use: begun.", PATIENCE * 4)?;
    exercised(bench, &guest, &[])?;
    for words in ["BUG:", "Oops", "general protection"] {
        ensure!(!guest.console().contains(words), "the kernel crashed:\n{}", guest.console());
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    before.unchanged(bench.host)
}
