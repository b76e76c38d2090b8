//! In which units a backend counts, on disks of 4096-byte sectors, is found out by our guest: no
//! key tells it.

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// A disk for each way of counting, all served at once.
const DISKS: [(&str, &str); 5] = [
    ("xvda", "header"),
    ("xvdb", "qemu"),
    ("xvdc", "freebsd"),
    ("xvdd", "minios"),
    ("xvde", "tapdisk"),
];

pub(super) fn inferred(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let settings = ["-p", "extra=\"vchan.role=none blk.run=report\""];
    let guest = Guest::create_from(bench.host, "xl/block.xl", &bench.name, &settings)?;
    let mut servers = Vec::new();
    for (vdev, units) in DISKS {
        let stack = "ram:size=16M,sector=4096";
        let words = [
            "out/xen-disk",
            "connect",
            &guest.name,
            "--vdev",
            vdev,
            "--stack",
            stack,
            "--units",
            units,
        ];
        let serving = bench.host.spawn(&words)?;
        serving.wait_for("Press Control+C", PATIENCE)?;
        servers.push(serving);
    }
    bench.host.xl(&["unpause", &guest.name])?;
    guest.says(" 5 passed, 0 failed, ")?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    for (vdev, units) in DISKS {
        let line =
            console.lines().find(|line| line.starts_with(&format!("{{\"report\":\"{vdev}\"")));
        let line = line.with_context(|| format!("no report of {vdev} in:\n{console}"))?;
        let found = line.contains(&format!("\"units_inferred\":\"{units}\""));
        ensure!(found, "{vdev} counts in the units of {units}, and the report says:\n{line}");
    }
    for serving in servers {
        serving.wait(PATIENCE)?;
    }
    before.unchanged(bench.host)
}
