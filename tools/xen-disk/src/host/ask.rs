//! The commands that ask the processes which serve.

use super::{on_linux, print, run_dir, say};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use xen_blk::toolstack::{self, Device};
use xen_disk::control::{self, Answer, Question};
use xen_disk::disk::{self, KIND};
use xen_disk::report::Report;
use xen_disk::{
    Code, DisconnectArguments, DiskArguments, Failure, ListArguments, ResizeArguments, StatsArguments, Vdev, domain,
};
use xen_linux::Linux;
use xen_platform::{DomId, sleep};
use xen_store::Store;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a guest has to let go of a disk, and a little: the process that serves it gives up before.
const UNPLUG_PATIENCE: Duration = Duration::from_secs(100);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One row of the list.
#[derive(Serialize)]
struct Row {
    domain: u16,
    name: Option<String>,
    disk: String,
    storage: Option<String>,
    /// None if nobody serves it.
    served: Option<Report>,
}

pub(super) async fn list(store: &Store, args: &ListArguments) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for device in toolstack::list(store, DomId(0), KIND).await? {
        let asked = control::ask(&control::socket(&run_dir(), &device), Question::Stats, PATIENCE);
        let served = match asked {
            Ok(Answer::Stats(report)) => Some(*report),
            _ => None,
        };
        rows.push(Row {
            domain: device.front.0,
            name: domain::name(store, device.front).await?,
            disk: Vdev(device.vdev).to_string(),
            storage: disk::params(store, &device).await?,
            served,
        });
    }
    if args.json {
        return print(&(json(&rows) + "\n"));
    }
    let mut text =
        format!("{:>5} {:16} {:6} {:12} {:>16} {:>7}  STORAGE\n", "DOMID", "NAME", "DISK", "STATE", "BYTES", "PID");
    for Row { domain, name, disk, storage, served } in rows {
        let name = name.unwrap_or_default();
        let (state, bytes, pid) = match served {
            Some(report) => (report.state, report.bytes.to_string(), report.pid.to_string()),
            None => ("not served".into(), "-".into(), "-".into()),
        };
        let storage = storage.unwrap_or_default();
        text += &format!("{domain:>5} {name:16} {disk:6} {state:12} {bytes:>16} {pid:>7}  {storage}\n");
    }
    print(&text)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is printed has no maps with odd keys")
}

async fn device(store: &Store, args: &DiskArguments) -> Result<Device, Failure> {
    let front = domain::resolve(store, &args.domain).await?;
    Ok(Device { front, back: DomId(0), vdev: args.vdev.0, kind: KIND.into() })
}

fn find(args: &DiskArguments) -> Result<Device, Failure> {
    let args = args.clone();
    on_linux(|_, store| async move { device(&store, &args).await })
}

fn report(device: &Device) -> Result<Report, Failure> {
    match control::ask(&control::socket(&run_dir(), device), Question::Stats, PATIENCE)? {
        Answer::Stats(report) => Ok(*report),
        other => Err(Failure::other(format!("unexpected answer {other:?}"))),
    }
}

pub(super) fn stats(args: &StatsArguments) -> Result<(), Failure> {
    let device = find(&args.disk)?;
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

pub(super) fn resize(args: &ResizeArguments) -> Result<(), Failure> {
    let question = Question::Resize { bytes: args.size, shrink: args.shrink };
    control::ask(&control::socket(&run_dir(), &find(&args.disk)?), question, PATIENCE).map(drop)
}

/// Asks who serves the disk, or removes what is left of one that nobody serves.
pub(super) async fn disconnect(linux: &Linux, store: &Store, args: &DisconnectArguments) -> Result<(), Failure> {
    let device = device(store, &args.disk).await?;
    if !toolstack::list(store, DomId(0), KIND).await?.contains(&device) {
        let text = format!("domain {} has no disk {} of ours: see xen-disk list", device.front, args.disk.vdev);
        return Err(Failure::new(Code::Missing, text));
    }
    let socket = control::socket(&run_dir(), &device);
    let question = if args.force { Question::Force } else { Question::Stop };
    match control::ask(&socket, question, PATIENCE) {
        Ok(_) => until_gone(linux, store, &device, &socket).await,
        Err(failure) if failure.code == Code::Missing => {
            say("nobody serves it any more: removing what is left");
            toolstack::remove(store, &device).await?;
            sweep_sockets(store).await
        }
        Err(failure) => Err(failure),
    }
}

/// Removes the sockets of servers that were killed.
pub(super) async fn sweep_sockets(store: &Store) -> Result<(), Failure> {
    Ok(control::sweep(&run_dir(), async || toolstack::list(store, DomId(0), KIND).await).await?)
}

async fn until_gone(linux: &Linux, store: &Store, device: &Device, socket: &Path) -> Result<(), Failure> {
    let steps = UNPLUG_PATIENCE.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..steps {
        if !toolstack::list(store, DomId(0), KIND).await?.contains(device) && !socket.exists() {
            return Ok(());
        }
        sleep(linux, LOOK_EVERY).await;
    }
    Err(Failure::new(Code::Forced, "the guest does not let go of it; unmount it there, or use --force"))
}
