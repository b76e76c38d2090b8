//! `testbed bench block`: disks of several backends as a Linux guest and ours
//! measure them, in one run of an emulated host whose time is a count of
//! instructions.
//!
//! Both guests print the same lines, one for each measurement, as
//! `testbed/peers/blk-bench.c` says: a line `blk-bench: begin NAME` before, a
//! JSON object with `test`, `mib_per_s`, `iops`, `p50_us`, `p99_us` and `mib`
//! (how much was moved) as its result, and `blk-bench: end` after the last.
//! `blk-watch` in dom0 adds `guest_cpu_ms` and `dom0_cpu_ms`.

mod table;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::figures::number;
use crate::artefacts;
use crate::cli::HostKind;
use crate::disk::{Disk, Kind, disks};
use crate::guest::{Guest, log_path};
use crate::host::{Host, Wish};
use crate::progress::Progress;

/// Memory of the emulated host, in MiB.
const MEMORY: u32 = 1792;

/// How long one guest may take for all of its measurements.
const LONG: Duration = Duration::from_secs(900);

/// MiB of each disk, of which the guests use the first 100.
const SIZE: u32 = 128;

/// What answers the guests.
const BACKENDS: &[(&str, Kind)] = &[
    ("null_blk", Kind::Null { mib: SIZE, sector: 512, keeps: false }),
    ("brd", Kind::Ram { mib: SIZE }),
    ("qdisk", Kind::QdiskRaw { mib: SIZE }),
];

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Frontend {
    /// The Linux guest.
    Linux,
    /// Our guest.
    Ours,
}

/// One measurement.
#[derive(Clone, PartialEq, Debug)]
struct Figure {
    test: String,
    /// MiB a second.
    mib: f64,
    /// Requests a second.
    iops: f64,
    /// The median latency of a request, in µs.
    p50: f64,
    /// The latency that 99 of 100 requests do not exceed, in µs.
    p99: f64,
    /// CPU time of the guest for each GiB, in ms.
    guest_cpu: f64,
    /// CPU time of dom0 for each GiB, in ms.
    dom0_cpu: f64,
}

/// What one guest measured at one backend.
struct Row {
    backend: &'static str,
    frontend: Frontend,
    figures: Vec<Figure>,
}

/// Measures everything and prints it.
pub fn run(kind: HostKind, memory: Option<u32>, json: bool) -> Result<ExitCode> {
    let progress = Progress::new();
    let wish = Wish { kind, memory: memory.unwrap_or(MEMORY), peers: true, linux: true, qemu: true, counted: true };
    let frontends: &[Frontend] = if ours_can()? { &[Frontend::Linux, Frontend::Ours] } else { &[Frontend::Linux] };
    let host = Host::up(&wish, &progress)?;
    host.logs_consoles()?;
    let mut rows = Vec::new();
    for &(backend, kind) in BACKENDS {
        for &frontend in frontends {
            progress.stage(&format!("{backend}: {frontend:?} guest"));
            let figures =
                measure(&host, backend, kind, frontend).with_context(|| format!("{backend}, {frontend:?}"))?;
            rows.push(Row { backend, frontend, figures });
        }
    }
    progress.done("all is measured");
    print!("{}", if json { table::json(&rows, host.emulated()) } else { table::text(&rows, host.emulated()) });
    Ok(ExitCode::SUCCESS)
}

/// Whether the kernel that was built knows the option that starts its measurements.
fn ours_can() -> Result<bool> {
    let path = artefacts::root()?.join("out/ringside.elf");
    let kernel = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(kernel.windows(7).any(|bytes| bytes == b"blk.run"))
}

/// Every guest gets a new disk, and is held until the watcher listens.
fn measure(host: &Host, backend: &str, kind: Kind, frontend: Frontend) -> Result<Vec<Figure>> {
    let name = format!("ringside-bench-{backend}-{frontend:?}").to_lowercase();
    let disk = Disk::new(host, &name, kind)?;
    let list = disks(&[(&disk, "xvda")]);
    let guest = match frontend {
        Frontend::Linux => {
            Guest::linux_with(host, &name, &format!("role=blk-bench backend={backend}"), &[&list, "-p"])?
        }
        Frontend::Ours => {
            let extra = format!("extra=\"blk.disk=xvda blk.run=bench blk.destroy=xvda blk.backend={backend}\"");
            Guest::create_from(host, "xl/block.xl", &name, &[&extra, &list, "-p"])?
        }
    };
    let watcher = host.spawn(&[&host.peer("blk-watch"), &guest.domid()?, &log_path(&name)])?;
    host.xl(&["unpause", &name])?;
    let printed = watcher.wait(LONG)?.success().with_context(|| format!("the console says:\n{}", guest.console()))?;
    // It may have gone by itself meanwhile.
    let _ = host.xl(&["destroy", &name]);
    guest.gone(LONG)?;
    disk.remove()?;
    let figures = printed.lines().map(Figure::read).collect::<Result<Vec<_>>>()?;
    ensure!(!figures.is_empty(), "the guest measured nothing");
    Ok(figures)
}

impl Figure {
    /// Reads a line of blk-watch.
    fn read(line: &str) -> Result<Figure> {
        let of = |name| number(line, name).with_context(|| format!("there is no number {name:?} in {line:?}"));
        let test = line.split("\"test\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let test = test.with_context(|| format!("there is no name of a test in {line:?}"))?.to_string();
        let moved = of("mib")?;
        ensure!(moved > 0.0, "nothing was moved in {line:?}");
        let per_gib = |name| Ok::<f64, anyhow::Error>(of(name)? * 1024.0 / moved);
        let (guest_cpu, dom0_cpu) = (per_gib("guest_cpu_ms")?, per_gib("dom0_cpu_ms")?);
        let (mib, iops, p50, p99) = (of("mib_per_s")?, of("iops")?, of("p50_us")?, of("p99_us")?);
        Ok(Figure { test, mib, iops, p50, p99, guest_cpu, dom0_cpu })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"test":"seq-read-1m","backend":"brd","mib_per_s":512.50,"iops":512,"p50_us":1900.5,
        "p99_us":2000.0,"mib":256.00,"cpu_ms":8.62,"guest_cpu_ms":20.00,"dom0_cpu_ms":100.00}"#;

    #[test]
    fn a_line_of_the_watcher_is_understood() {
        let figure = Figure::read(LINE).unwrap();
        assert_eq!((figure.test.as_str(), figure.mib, figure.iops), ("seq-read-1m", 512.5, 512.0));
        assert_eq!((figure.p50, figure.p99), (1900.5, 2000.0));
        assert_eq!((figure.guest_cpu, figure.dom0_cpu), (80.0, 400.0));
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(Figure::read("").is_err());
        assert!(Figure::read(&LINE.replace("\"mib\":256.00", "\"mib\":0")).is_err());
        assert!(Figure::read(&LINE.replace("guest_cpu_ms", "x")).is_err());
    }
}
