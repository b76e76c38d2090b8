//! The commands that ask the processes which serve.

use super::{on_linux, own_domain, print, run_dir, say};
use crate::adopt;
use crate::control::{self, Answer, Question, service};
use crate::disk::{self, KIND};
use crate::identity;
use crate::report::{Report, WATCH_HEAD, metrics};
use crate::{
    Code, DisconnectArguments, DiskArguments, Failure, ListArguments, OrderArguments,
    ResizeArguments, StatsArguments, Vdev,
};
use serde::Serialize;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;
use tools_common::{is_refusal, resolve_domain};
use xen_blk::toolstack::{self, Device};
use xen_linux::Linux;
use xen_platform::{DomId, sleep};
use xen_store::{Store, domains};

/// Time limit of a question that waits for the storage.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a question about a disk's state, which waits for nothing.
const STATS_TIMEOUT: Duration = Duration::from_millis(800);
/// Time for a guest to let go of a disk, and a little: the process that serves it gives up before.
const UNPLUG_TIMEOUT: Duration = Duration::from_secs(100);
/// Time between two rows of rates.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One row of the list.
#[derive(Serialize)]
struct Row {
    domain: u16,
    name: Option<String>,
    disk: String,
    storage: Option<String>,
    /// None if nobody serves it, or its server does not answer.
    served: Option<Report>,
    /// The process that serves it, if it has no socket here.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<u32>,
    /// Its server did not answer in time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hangs: bool,
}

/// Asks all servers at once, so that one that hangs delays no other.
fn ask_all(devices: &[Device]) -> Vec<(Option<Report>, bool)> {
    let ask = |device: &Device| {
        let socket = control::socket(&run_dir(), device);
        match control::ask(&socket, Question::Stats, STATS_TIMEOUT) {
            Ok(Answer::Stats(report)) => (Some(*report), false),
            Ok(_) => (None, true),
            Err(failure) => (None, failure.code != Code::Missing),
        }
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = devices.iter().map(|device| scope.spawn(move || ask(device))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap_or((None, true))).collect()
    })
}

/// Returns a row for each disk.
async fn rows(linux: &Linux, store: &Store) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let devices = adopt::list(store, own_domain(linux)).await?;
    let asked = ask_all(&devices);
    for (device, (served, hangs)) in devices.into_iter().zip(asked) {
        let served_by = match &served {
            None if !hangs => identity::server(store, &device).await?,
            _ => None,
        };
        rows.push(Row {
            domain: device.front.0,
            name: name(store, device.front).await?,
            disk: Vdev(device.vdev).to_string(),
            storage: disk::params(store, &device).await?,
            served,
            served_by,
            hangs,
        });
    }
    Ok(rows)
}

/// Reads the name of a domain, which only dom0 may.
async fn name(store: &Store, domain: DomId) -> Result<Option<String>, Failure> {
    match domains::name(store, domain).await {
        Err(error) if is_refusal(&error) => Ok(None),
        name => Ok(name?),
    }
}

/// Prints the counts of all disks for Prometheus.
pub(super) async fn metrics(linux: &Linux, store: &Store) -> Result<(), Failure> {
    let rows = rows(linux, store).await?;
    let disks: Vec<_> = rows
        .iter()
        .map(|row| metrics::Disk {
            domain: row.domain,
            name: row.name.as_deref().unwrap_or_default(),
            disk: &row.disk,
            report: row.served.as_ref(),
        })
        .collect();
    print(&metrics::metrics(&disks))
}

pub(super) async fn list(
    linux: &Linux,
    store: &Store,
    args: &ListArguments,
) -> Result<(), Failure> {
    let rows = rows(linux, store).await?;
    if args.json {
        return print(&(json(&rows) + "\n"));
    }
    let mut text = format!(
        "{:>5} {:16} {:6} {:12} {:>16} {:>7}  STORAGE\n",
        "DOMID", "NAME", "DISK", "STATE", "BYTES", "PID"
    );
    for Row { domain, name, disk, storage, served, served_by, hangs } in rows {
        let name = name.unwrap_or_default();
        let elsewhere = served_by.map(|pid| pid.to_string());
        let (state, bytes, pid) = match served {
            None if elsewhere.is_some() => {
                ("elsewhere".into(), "-".into(), elsewhere.unwrap_or_default())
            }
            Some(report) => (report.state, report.bytes.to_string(), report.pid.to_string()),
            None if hangs => ("no answer".into(), "-".into(), "-".into()),
            None => ("not served".into(), "-".into(), "-".into()),
        };
        let storage = storage.unwrap_or_default();
        text +=
            &format!("{domain:>5} {name:16} {disk:6} {state:12} {bytes:>16} {pid:>7}  {storage}\n");
    }
    print(&text)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is printed has no maps with odd keys")
}

async fn device(linux: &Linux, store: &Store, args: &DiskArguments) -> Result<Device, Failure> {
    let front = resolve_domain(store, &args.domain).await?;
    Ok(adopt::find(store, own_domain(linux), front, args.vdev).await?)
}

fn find(args: &DiskArguments) -> Result<Device, Failure> {
    let args = args.clone();
    on_linux(|linux, store| async move { device(&linux, &store, &args).await })
}

fn report(device: &Device) -> Result<Report, Failure> {
    let socket = control::socket(&run_dir(), device);
    match control::ask(&socket, Question::Stats, STATS_TIMEOUT)? {
        Answer::Stats(report) => Ok(*report),
        other => Err(Failure::other(format!("unexpected answer {other:?}"))),
    }
}

pub(super) fn stats(args: &StatsArguments) -> Result<(), Failure> {
    let device = find(&args.disk)?;
    if args.watch {
        return watch(&device);
    }
    let mut before = None;
    loop {
        let now = report(&device)?;
        match args.json {
            true => print(&(json(&now) + "\n"))?,
            false => print(&now.text(before.as_ref()))?,
        }
        let Some(seconds) = args.interval else { return Ok(()) };
        before = Some(now);
        std::thread::sleep(Duration::from_secs(seconds.into()));
    }
}

/// Shows the rates of each second, until the disk or the user ends that.
fn watch(device: &Device) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let mut before = report(device)?;
    if !terminal {
        print(&format!("{WATCH_HEAD}\n"))?;
    }
    loop {
        std::thread::sleep(WATCH_EVERY);
        let now = report(device)?;
        match terminal {
            // Clears the screen, and begins at its top.
            true => print(&format!("\x1b[2J\x1b[H{}", now.text(Some(&before))))?,
            false => print(&format!("{}\n", now.row(&before)))?,
        }
        before = now;
    }
}

/// Gives an order to the server of many disks, and prints its answer. A refused one is a failure.
pub(super) fn order(args: &OrderArguments) -> Result<(), Failure> {
    let order = args.order.replace(['\n', '\r'], " ");
    let missing = "no xen-disk serve takes orders here: systemctl start xen-disk";
    let line = control::ask_line(&service::socket(&run_dir()), &order, TIMEOUT, missing)?;
    print(&line)?;
    let answer: serde_json::Value = serde_json::from_str(&line)
        .map_err(|error| Failure::other(format!("the answer is no JSON: {error}")))?;
    match answer.get("failed").or_else(|| answer.get("disk")?.get("failed")) {
        Some(_) => Err(Failure::other("the order was refused")),
        None => Ok(()),
    }
}

pub(super) fn resize(args: &ResizeArguments) -> Result<(), Failure> {
    let question = Question::Resize { bytes: args.size, shrink: args.shrink };
    control::ask(&control::socket(&run_dir(), &find(&args.disk)?), question, TIMEOUT).map(drop)
}

/// Asks the server of the disk, or removes what is left of one that nobody serves.
pub(super) async fn disconnect(
    linux: &Linux,
    store: &Store,
    args: &DisconnectArguments,
) -> Result<(), Failure> {
    let device = device(linux, store, &args.disk).await?;
    if device.kind != KIND {
        let text = format!(
            "xl made the disk {vdev} of domain {front}: xl block-detach {front} {vdev} takes it away",
            vdev = args.disk.vdev,
            front = device.front
        );
        return Err(Failure::new(Code::Usage, text));
    }
    if !toolstack::list(store, device.back, KIND).await?.contains(&device) {
        let text = format!(
            "domain {} has no disk {} of ours: see xen-disk list",
            device.front, args.disk.vdev
        );
        return Err(Failure::new(Code::Missing, text));
    }
    let socket = control::socket(&run_dir(), &device);
    let question = if args.force { Question::Force } else { Question::Stop };
    match control::ask(&socket, question, TIMEOUT) {
        Ok(_) => until_gone(linux, store, &device, &socket).await,
        Err(failure) if failure.code == Code::Missing => {
            if let Some(pid) = identity::server(store, &device).await? {
                let text = format!(
                    "process {pid} serves it, and has no socket in {}: stop it there, or name its \
                     folder with XEN_DISK_RUNDIR",
                    run_dir().display()
                );
                return Err(Failure::other(text));
            }
            say("nobody serves it any more: removing what is left");
            toolstack::remove(store, &device).await?;
            sweep_sockets(store, device.back).await
        }
        Err(failure) => Err(failure),
    }
}

/// Removes the sockets of servers that were killed.
pub(super) async fn sweep_sockets(store: &Store, own: DomId) -> Result<(), Failure> {
    Ok(control::sweep(&run_dir(), async || adopt::list(store, own).await).await?)
}

async fn until_gone(
    linux: &Linux,
    store: &Store,
    device: &Device,
    socket: &Path,
) -> Result<(), Failure> {
    let steps = UNPLUG_TIMEOUT.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..steps {
        if !toolstack::list(store, device.back, KIND).await?.contains(device) && !socket.exists() {
            return Ok(());
        }
        sleep(linux, LOOK_EVERY).await;
    }
    Err(Failure::new(
        Code::Forced,
        "the guest does not let go of it; unmount it there, or use --force",
    ))
}
