//! A guest whose memory is less than its map, and changes while it runs.

use std::cell::Cell;

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

pub(super) fn target(bench: &Bench) -> Result<()> {
    // Xen has 24 of 64 MiB for it, and kills it if it touches more.
    let guest = bench.guest(&["memory=24", "maxmem=64", "shadow_memory=4"])?;
    guest.says("of the map held back")?;
    super::echo::transfer(bench, &guest, 4 << 20, "")?.wait(PATIENCE)?.success()?;
    for (size, now) in [("48", 48), ("16", 16), ("32", 32)] {
        bench.host.xl(&["mem-set", &guest.name, size])?;
        let found = Cell::new(0);
        let reached = until(PATIENCE, || {
            found.set(memory(bench, &guest)?);
            Ok(found.get() == now)
        })?;
        ensure!(reached, "xl mem-set {size} left it at {} MiB:\n{}", found.get(), guest.console());
        guest.echoes("still there")?;
    }
    Ok(())
}

/// Memory of the guest as `xl list` shows it, in MiB.
fn memory(bench: &Bench, guest: &Guest) -> Result<u32> {
    let list = bench.host.xl(&["list", &guest.name])?;
    let shown = list.lines().last().and_then(|line| line.split_whitespace().nth(2));
    shown
        .and_then(|mib| mib.parse().ok())
        .with_context(|| format!("xl list prints no size:\n{list}"))
}
