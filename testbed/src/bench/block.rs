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

use super::Output;
use super::figures::number;
use crate::cli::HostArgs;
use crate::client::Process;
use crate::disk::{Disk, Kind, disks};
use crate::guest::{Guest, log_path};
use crate::host::{Host, HostConfig, PATIENCE};
use crate::progress::Progress;

/// Memory of the emulated host, in MiB.
const MEMORY: u32 = 2048;

/// The most time that one guest may take for all of its measurements.
const LONG: Duration = Duration::from_secs(900);

/// MiB of each disk, of which the guests use the first 100.
const SIZE: u32 = 128;

/// A backend and its disk.
const BACKENDS: &[(&str, Server)] = &[
    ("null_blk", Server::Xl(Kind::Null { mib: SIZE, sector: 512, keeps: false })),
    ("brd", Server::Xl(Kind::Ram { mib: SIZE })),
    ("loop", Server::Xl(Kind::Loop { mib: SIZE, sector: 512, read_only: false })),
    ("qdisk", Server::Xl(Kind::QdiskRaw { mib: SIZE })),
    ("xen-disk ram", Server::XenDisk { storage: "ram", in_file: false }),
    ("xen-disk mmap", Server::XenDisk { storage: "mmap", in_file: true }),
    ("xen-disk file", Server::XenDisk { storage: "file", in_file: true }),
];

/// A program that serves a disk.
#[derive(Clone, Copy)]
enum Server {
    /// Linux or QEMU, as xl sets it up.
    Xl(Kind),
    /// xen-disk, with that storage, which may be kept in a file.
    XenDisk { storage: &'static str, in_file: bool },
}

/// The words of xen-disk once the guest has its disk.
const PLUGGED: &str = "Press Control+C to disconnect device.";

/// A guest with a frontend.
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

/// Figures that one guest measured at one backend.
struct Row {
    backend: &'static str,
    frontend: Frontend,
    figures: Vec<Figure>,
}

/// Measures all backends whose name has one of the words of `only`, or all, and prints it.
pub fn run(on: HostArgs, only: &[String], output: Output) -> Result<ExitCode> {
    let chosen = choose(only)?;
    let progress = Progress::new();
    let config = HostConfig {
        peers: true,
        linux: true,
        qemu: true,
        counted: true,
        ..HostConfig::plain(on, MEMORY)
    };
    let host = Host::up(&config, &progress)?;
    host.logs_consoles()?;
    let mut rows = Vec::new();
    for (backend, server) in chosen {
        for frontend in [Frontend::Linux, Frontend::Ours] {
            progress.stage(&format!("{backend}: {frontend:?} guest"));
            let figures = measure(&host, backend, server, frontend)
                .with_context(|| format!("{backend}, {frontend:?}"))?;
            let speeds: Vec<_> =
                figures.iter().map(|figure| format!("{} {:.1}", figure.test, figure.mib)).collect();
            progress.stage(&format!("{backend}: {frontend:?} guest: MiB/s: {}", speeds.join(", ")));
            rows.push(Row { backend, frontend, figures });
        }
    }
    progress.done("all is measured");
    print!(
        "{}",
        if output.json {
            table::json(&rows, host.emulated())
        } else {
            table::text(&rows, host.emulated())
        }
    );
    output.draw(|| table::plot(&rows, host.emulated()))?;
    Ok(ExitCode::SUCCESS)
}

/// The backends whose name has one of these words; all of them, if there are no words.
fn choose(only: &[String]) -> Result<Vec<(&'static str, Server)>> {
    let wanted =
        |name: &str| only.is_empty() || only.iter().any(|word| name.contains(word.as_str()));
    let chosen: Vec<_> = BACKENDS.iter().copied().filter(|(name, _)| wanted(name)).collect();
    let names = || BACKENDS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    ensure!(
        !chosen.is_empty(),
        "no backend is called {}; there are {}",
        only.join(" or "),
        names()
    );
    Ok(chosen)
}

/// Every guest gets a new disk, and is held until the watcher listens.
fn measure(host: &Host, backend: &str, server: Server, frontend: Frontend) -> Result<Vec<Figure>> {
    let label = backend.replace(' ', "-");
    let name = format!("ringside-bench-{label}-{frontend:?}").to_lowercase();
    let disk = match server {
        Server::Xl(kind) => Some(Disk::new(host, &name, kind)?),
        Server::XenDisk { in_file: true, .. } => {
            Some(Disk::new(host, &name, Kind::File { mib: SIZE })?)
        }
        Server::XenDisk { in_file: false, .. } => None,
    };
    let list = match (server, &disk) {
        (Server::Xl(_), Some(disk)) => disks(&[(disk, "xvda")]),
        _ => disks(&[]),
    };
    let guest = match frontend {
        Frontend::Linux => Guest::linux_with(
            host,
            &name,
            &format!("role=blk-bench backend={label}"),
            &[&list, "-p"],
        )?,
        Frontend::Ours => {
            let extra = format!(
                "extra=\"blk.disk=xvda blk.run=bench blk.destroy=xvda blk.backend={label}\""
            );
            Guest::create_from(host, "xl/block.xl", &name, &[&extra, &list, "-p"])?
        }
    };
    let serving = match server {
        Server::Xl(_) => None,
        Server::XenDisk { storage, .. } => Some(plug(host, &guest, storage, disk.as_ref())?),
    };
    let watcher = host.spawn(&[&host.peer("blk-watch"), &guest.domid()?, &log_path(&name)])?;
    host.xl(&["unpause", &name])?;
    let printed = watcher
        .wait(LONG)?
        .success()
        .with_context(|| format!("the console says:\n{}", guest.console()))?;
    // It may have gone by itself meanwhile.
    let _ = host.xl(&["destroy", &name]);
    guest.gone(LONG)?;
    // It ends with the guest, by whichever way that went.
    serving.map_or(Ok(()), |serving| serving.wait(PATIENCE).map(drop))?;
    disk.map_or(Ok(()), Disk::remove)?;
    let figures = printed.lines().map(Figure::read).collect::<Result<Vec<_>>>()?;
    ensure!(!figures.is_empty(), "the guest measured nothing");
    Ok(figures)
}

/// Has xen-disk serve the guest's only disk.
fn plug(host: &Host, guest: &Guest, storage: &str, disk: Option<&Disk>) -> Result<Process> {
    let size = format!("{SIZE}M");
    let place = match disk {
        Some(disk) => ["--path", disk.path()],
        None => ["--size", &size],
    };
    let words = ["out/xen-disk", "connect", &guest.name, "--vdev", "xvda", "--backend", storage];
    let serving = host.spawn(&[&words[..], &place[..]].concat())?;
    serving.wait_for(PLUGGED, PATIENCE)?;
    Ok(serving)
}

impl Figure {
    /// Reads a line of blk-watch.
    fn read(line: &str) -> Result<Figure> {
        let of = |name| {
            number(line, name).with_context(|| format!("there is no number {name:?} in {line:?}"))
        };
        let test = line.split("\"test\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let test =
            test.with_context(|| format!("there is no name of a test in {line:?}"))?.to_string();
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
    fn backends_are_chosen_by_parts_of_their_names() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
            choose(&words).map(|chosen| chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), BACKENDS.len());
        assert_eq!(names(&["qdisk", "ram"]).unwrap(), ["qdisk", "xen-disk ram"]);
        assert!(names(&["brd", "floppy"]).is_ok() && names(&["floppy"]).is_err());
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(Figure::read("").is_err());
        assert!(Figure::read(&LINE.replace("\"mib\":256.00", "\"mib\":0")).is_err());
        assert!(Figure::read(&LINE.replace("guest_cpu_ms", "x")).is_err());
    }
}
