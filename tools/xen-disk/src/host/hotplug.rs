//! `hotplug`: disks that xl makes, for its script.

use super::serve::adopted::{self, READY};
use super::{log, on_linux, own_domain, print, say};
use crate::adopt::{self, PHY};
use crate::identity as id;
use crate::{Failure, HotplugArguments, HotplugStep, Vdev};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tools_common::is_refusal;
use xen_blk::toolstack::Device;
use xen_linux::Linux;
use xen_platform::sleep;
use xen_store::{Store, domains};

/// Linux's driver of backends.
const DRIVER: &str = "/sys/bus/xen-backend/drivers/vbd";
/// Folder of logs, unless XEN_DISK_LOGDIR names another: where the logs of xl's other helpers are.
const LOG_DIR: &str = "/var/log/xen";
/// Time for a server to flush and end once its disk is closed. libxl waits 40 s for the script.
const END_TIMEOUT: Duration = Duration::from_secs(35);
/// Time between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn run(args: &HotplugArguments) -> Result<(), Failure> {
    let folder = args.folder.clone().or_else(|| std::env::var("XENBUS_PATH").ok());
    let folder = folder.unwrap_or_default();
    let own = on_linux(|linux, _| async move { Ok(own_domain(&linux)) })?;
    let device = adopt::parse_device(&folder, own)?;
    match args.step {
        HotplugStep::Add => add(device, &folder),
        HotplugStep::Remove => {
            on_linux(move |linux, store| async move { remove(&linux, &store, &device).await })
        }
        HotplugStep::Serve => {
            // The script's terminal and its signals are not this process's.
            nix::unistd::setsid()
                .map_err(|error| Failure::other(format!("cannot leave the session: {error}")))?;
            log::install(true);
            adopted::run(device).inspect_err(|failure| drop(print(&format!("{failure}\n"))))
        }
    }
}

/// Starts a server, and tells libxl how that went.
fn add(device: Device, folder: &str) -> Result<(), Failure> {
    let log = on_linux({
        let device = device.clone();
        move |_, store| async move { log_path(&store, &device).await }
    })?;
    let started = take_from_linux(&device).and_then(|()| start(folder, &log));
    on_linux(move |_, store| async move {
        let key = |name: &str| format!("{}/{name}", device.back_path());
        let status = match &started {
            Ok(()) => "connected",
            Err(failure) => {
                store.write(&key("hotplug-error"), failure.text.as_bytes()).await?;
                "error"
            }
        };
        store.write(&key("hotplug-status"), status.as_bytes()).await?;
        started
    })
}

/// Takes a disk from Linux's backend, which claims all of the kind `vbd`. It lets go of the
/// frontend's rings, if it has any, and leaves the state as it is (since Linux 5.6).
fn take_from_linux(device: &Device) -> Result<(), Failure> {
    let name = format!("{}-{}-{}", device.kind, device.front, device.vdev);
    if device.kind != PHY || !Path::new(DRIVER).join(&name).exists() {
        return Ok(());
    }
    fs::write(Path::new(DRIVER).join("unbind"), &name).map_err(|error| {
        Failure::other(format!("cannot take {name} from Linux's backend ({DRIVER}): {error}"))
    })
}

/// Starts this program as the disk's server, and waits until it is ready.
fn start(folder: &str, log: &Path) -> Result<(), Failure> {
    let failed = |what: &str, error| Failure::other(format!("cannot {what}: {error}"));
    let log_file = File::options().create(true).append(true).open(log);
    let log_file =
        log_file.map_err(|error| failed(&format!("open the log {}", log.display()), error))?;
    let program = std::env::current_exe().map_err(|error| failed("find this program", error))?;
    let server = Command::new(program)
        .args(["hotplug", "serve", "--folder", folder])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn();
    let mut server = server.map_err(|error| failed("start the disk's server", error))?;
    let mut said = server.stdout.take().expect("its output is a pipe");
    let (mut text, mut piece) = (String::new(), [0; 256]);
    // It says one line, or ends.
    while !text.ends_with('\n') {
        match said.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => text += &String::from_utf8_lossy(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("hear of the disk's server", error)),
        }
    }
    match text.trim_end() {
        READY => Ok(()),
        "" => Err(Failure::other(format!("the disk's server ended: see {}", log.display()))),
        why => Err(Failure::other(why)),
    }
}

/// Waits until the disk's server has ended, so that its storage is free.
async fn remove(linux: &Linux, store: &Store, device: &Device) -> Result<(), Failure> {
    let steps = END_TIMEOUT.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..steps {
        if id::server(store, device).await?.is_none() {
            return Ok(());
        }
        sleep(linux, LOOK_EVERY).await;
    }
    let name = Vdev(device.vdev);
    let text = format!(
        "the server of disk {name} of domain {} still works on its storage after {END_TIMEOUT:?}: \
         see {}",
        device.front,
        log_path(store, device).await?.display()
    );
    say(&text);
    Err(Failure::other(text))
}

/// Returns the path of the log of a disk's server: `xen-disk-DOMAIN-DISK.log`.
async fn log_path(store: &Store, device: &Device) -> Result<PathBuf, Failure> {
    let name = match domains::name(store, device.front).await {
        // Only dom0 may read it.
        Err(error) if is_refusal(&error) => None,
        name => name?,
    };
    let name = name.filter(|name| !name.contains('/')).unwrap_or(device.front.to_string());
    let folder = std::env::var_os("XEN_DISK_LOGDIR").map_or_else(|| LOG_DIR.into(), PathBuf::from);
    Ok(folder.join(format!("xen-disk-{name}-{}.log", Vdev(device.vdev))))
}
