//! Disks whose folders in xenstore xl makes and removes: those of its `disk=[...]` with
//! `script=block-ringside`.
//!
//! libxl writes the folders, waits until the backend's state is `InitWait`, runs the script with
//! `add`, and starts the domain. At the end it writes `Closing`, waits for `Closed`, runs the
//! script with `remove`, and removes the folders (`libxl_device.c`). The script leaves both to
//! `xen-disk hotplug`. The state `InitWait` of a disk of the kind `vbd` comes from Linux's backend,
//! from which the script takes the disk; of one of the kind `vbd3` from [`welcome`].

use crate::disk::{KIND, Plugged};
use crate::identity::{self as id, Identity};
use crate::{Code, DiskSource, Failure, Vdev};
use std::convert::Infallible;
use std::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::back::Config;
use xen_blk::toolstack::{self, Device};
use xen_platform::DomId;
use xen_store::{Error, Store, path};

/// The name of the script.
pub const SCRIPT: &str = "block-ringside";

/// The kind of xl's `backendtype=tap`, since Xen 4.19: no backend of Linux's claims it.
pub const TAP: &str = "vbd3";

/// The kind of xl's `backendtype=phy`, which Linux's backend claims.
pub const PHY: &str = "vbd";

/// All kinds of disks that are served here.
const KINDS: [&str; 3] = [KIND, TAP, PHY];

/// Parses a backend's folder as hotplug scripts get it, `backend/KIND/DOMAIN/NUMBER`, below the
/// folder of the domain `back`.
pub fn parse_device(folder: &str, back: DomId) -> Result<Device, Failure> {
    let parts: Vec<&str> = folder.split('/').collect();
    let parsed = match parts[..] {
        ["backend", kind @ (TAP | PHY), front, vdev] => front
            .parse()
            .ok()
            .zip(vdev.parse().ok())
            .map(|(front, vdev)| Device { front: DomId(front), back, vdev, kind: kind.into() }),
        _ => None,
    };
    let text = format!("XENBUS_PATH is {folder:?} and not backend/{TAP}/DOMAIN/NUMBER");
    parsed.ok_or_else(|| Failure::new(Code::Usage, text))
}

/// Reads the storage that xl wants for `device`.
pub async fn source(store: &Store, device: &Device) -> Result<DiskSource, Failure> {
    let params = id::read(store, device, "params").await?.unwrap_or_default();
    let stack = stack(&device.kind, &params).map_err(|wrong| {
        let name = Vdev(device.vdev);
        Failure::new(Code::Usage, format!("disk {name} of domain {}: {wrong}", device.front))
    })?;
    let readonly = id::read(store, device, "mode").await?.as_deref() == Some("r");
    Ok(DiskSource { stack: Some(stack), readonly, ..DiskSource::default() })
}

/// Returns the stack that the key `params` of a disk means: `FORMAT:TARGET`, or with Linux's kind
/// the target alone. A target that begins with a slash is a file in that format; any other is a
/// stack.
fn stack(kind: &str, params: &str) -> Result<String, String> {
    let (format, target) = match kind {
        TAP => params.split_once(':').ok_or_else(|| format!("{params:?} has no format"))?,
        _ => ("raw", params),
    };
    // libxl calls raw images so.
    let format = if format == "aio" { "raw" } else { format };
    if target.is_empty() {
        return Err("there is no target=: say a path or a stack".into());
    }
    match (format, target.starts_with('/')) {
        (_, true) if target.contains('"') => Err(format!("the path {target:?} has a quote")),
        ("raw", true) => Ok(format!("file:\"{target}\"")),
        ("qcow2" | "vhd", true) => Ok(format!("{format}:\"{target}\"")),
        (_, true) => Err(format!("format={format}: there are raw, qcow2 and vhd")),
        ("raw", false) => Ok(target.into()),
        (_, false) => Err(format!("format={format} with a stack: write format=raw")),
    }
}

/// Makes this process the server of `device`, unless another one is. `is_served` tells whether one
/// answers at the disk's socket.
pub async fn adopt(
    store: &Store,
    device: &Device,
    identity: &Identity,
    is_served: impl Fn(&Device) -> bool,
) -> Result<Plugged, Failure> {
    let name = format!("disk {} of domain {}", Vdev(device.vdev), device.front);
    let state = store.read_number(&format!("{}/state", device.back_path())).await.map(State)?;
    if matches!(state, State::CLOSING | State::CLOSED) {
        return Err(Failure::new(Code::Gone, format!("{name} is being taken away")));
    }
    let served = |by| Failure::new(Code::Usage, format!("{name} is served already{by}"));
    if let Some(pid) = id::server(store, device).await? {
        return Err(served(format!(", by process {pid}")));
    }
    if is_served(device) {
        return Err(served(String::new()));
    }
    let plugged = match id::read(store, device, id::SERVER).await? {
        None => Plugged::New,
        Some(_) => {
            identity.check(device, &id::recorded(store, device).await?)?;
            Plugged::TakenOver
        }
    };
    // Another process may have been faster.
    if !id::claim(store, device).await? {
        return Err(served(String::new()));
    }
    let mode = identity.read_only.then(|| ("mode", "r".to_string()));
    let keys = [(id::STACK, identity.stack.clone())].into_iter().chain(identity.keys()).chain(mode);
    for (key, value) in keys {
        store.write(&format!("{}/{key}", device.back_path()), value.as_bytes()).await?;
    }
    Ok(plugged)
}

/// The state `Initialising`, of a disk that has had no backend yet.
const NEW: &str = "1";

/// Time for libxl, which looks at states only when it is told of a change, to see one before the
/// next: it runs no script in dom0 for a disk of another domain.
pub const SEEN: Duration = Duration::from_millis(500);

/// Returns true if `device` has our script: another program may serve it otherwise.
pub async fn is_ours(store: &Store, device: &Device) -> Result<bool, Error> {
    let script = id::read(store, device, "script").await?.unwrap_or_default();
    Ok(script.rsplit('/').next() == Some(SCRIPT))
}

/// Says in the folder of `device` why it is not served, and that its backend has closed. A disk
/// that has had a backend is left to the next one: its guest may be using it.
pub async fn refuse(store: &Store, device: &Device, why: &str) -> Result<(), Error> {
    let folder = device.back_path();
    store
        .transaction(async |tx| {
            if id::read(tx, device, "state").await?.as_deref() != Some(NEW) {
                return Ok(());
            }
            tx.write(&format!("{folder}/hotplug-error"), why.as_bytes()).await?;
            tx.write(&format!("{folder}/state"), State::CLOSED.0.to_string().as_bytes()).await
        })
        .await
}

/// Returns true if the folder of `device` belongs to a backend that was killed, or could not be
/// ended.
pub async fn is_abandoned(store: &Store, device: &Device) -> Result<bool, Error> {
    Ok(id::read(store, device, "state").await?.is_some_and(|state| state != NEW))
}

/// Returns the configuration of a backend of `device`: a disk of xl's may have a frontend that
/// follows the offer of Linux's backend.
pub async fn configure(store: &Store, device: &Device, config: Config) -> Result<Config, Error> {
    let offered = match device.kind.as_str() {
        PHY => id::read(store, device, "multi-queue-max-queues").await?,
        _ => None,
    };
    let queues = offered.and_then(|value| value.parse().ok()).unwrap_or(1);
    let state = id::read(store, device, "state").await?;
    let is_new = state.as_deref() == Some(NEW);
    Ok(config.with(|config| {
        if device.back != DomId(0) && is_new {
            config.offer_time = SEEN;
        }
        config.leave_folders = device.kind != KIND;
        config.queues_max = config.queues_max.max(queues).min(MAX_QUEUES);
    }))
}

/// Most rings of a disk that was another backend's.
const MAX_QUEUES: u32 = 64;

/// Lists the disks that are or were served here: xl's too, once they were adopted.
pub async fn list(store: &Store, back: DomId) -> Result<Vec<Device>, Error> {
    let mut devices = toolstack::list(store, back, KIND).await?;
    for kind in [TAP, PHY] {
        for device in toolstack::list(store, back, kind).await? {
            if id::read(store, &device, id::SERVER).await?.is_some() {
                devices.push(device);
            }
        }
    }
    Ok(devices)
}

/// Returns the disk of a domain that is or was served here, or the one that would be.
pub async fn find(store: &Store, back: DomId, front: DomId, vdev: Vdev) -> Result<Device, Error> {
    let device = |kind: &str| Device { front, back, vdev: vdev.0, kind: kind.into() };
    for kind in KINDS {
        if id::read(store, &device(kind), id::SERVER).await?.is_some() {
            return Ok(device(kind));
        }
    }
    Ok(device(KIND))
}

/// Answers each disk of the kind [`TAP`] that has our script with the state `InitWait`, for which
/// libxl waits before it runs the script. Ends only with an error.
pub async fn welcome(
    store: &Store,
    back: DomId,
    report: impl Fn(&Device),
) -> Result<Infallible, Error> {
    let top = format!("{}/backend/{TAP}", path::of_domain(back));
    let mut watch = store.watch(&top).await?;
    loop {
        let changed = watch.next().await?;
        let one = changed.strip_prefix(&top).and_then(|rest| {
            let mut parts = rest.trim_start_matches('/').split('/');
            let (front, vdev) = (parts.next()?, parts.next()?);
            parse_device(&format!("backend/{TAP}/{front}/{vdev}"), back).ok()
        });
        let devices = match one {
            Some(device) => vec![device],
            None => toolstack::list(store, back, TAP).await?,
        };
        for device in devices {
            if greet(store, &device).await? {
                report(&device);
            }
        }
    }
}

/// Writes what a frontend reads of a backend in the state `InitWait`, and that state. Returns false
/// if the disk is not one that waits for it.
async fn greet(store: &Store, device: &Device) -> Result<bool, Error> {
    let Config { ring_order_max, queues_max, .. } = Config::default();
    let folder = device.back_path();
    store
        .transaction(async |tx| {
            let state = id::read(tx, device, "state").await?;
            if state.as_deref() != Some(NEW) || !is_ours(tx, device).await? {
                return Ok(false);
            }
            for (key, value) in [
                ("max-ring-page-order", ring_order_max),
                ("max-ring-pages", 1 << ring_order_max),
                ("multi-queue-max-queues", queues_max),
                ("state", State::INIT_WAIT.0),
            ] {
                tx.write(&format!("{folder}/{key}"), value.to_string().as_bytes()).await?;
            }
            Ok(true)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_of_xl_is_a_file_or_a_stack() {
        for (kind, params, expected) in [
            (TAP, "aio:/srv/a,b.raw", Ok("file:\"/srv/a,b.raw\"")),
            (TAP, "qcow2:/srv/a", Ok("qcow2:\"/srv/a\"")),
            (TAP, "vhd:/srv/a:b", Ok("vhd:\"/srv/a:b\"")),
            (TAP, "aio:overlay:\"/srv/c\"/file:/srv/a", Ok("overlay:\"/srv/c\"/file:/srv/a")),
            (PHY, "/dev/vg/root", Ok("file:\"/dev/vg/root\"")),
            (PHY, "ram:size=1G", Ok("ram:size=1G")),
            (TAP, "aio:", Err("no target=")),
            (PHY, "", Err("no target=")),
            (TAP, "", Err("no format")),
            (TAP, "qed:/srv/a", Err("there are raw, qcow2 and vhd")),
            (TAP, "qcow2:ram", Err("write format=raw")),
            (PHY, "/srv/a\"b", Err("has a quote")),
        ] {
            match (stack(kind, params), expected) {
                (Ok(stack), Ok(expected)) => assert_eq!(stack, expected),
                (Err(wrong), Err(part)) => assert!(wrong.contains(part), "{params}: {wrong}"),
                (found, _) => panic!("{params}: {found:?}"),
            }
        }
    }

    #[test]
    fn folder_of_a_script_names_the_disk() {
        let device = parse_device("backend/vbd3/7/51712", DomId(0)).unwrap();
        assert_eq!(device.back_path(), "/local/domain/0/backend/vbd3/7/51712");
        for wrong in ["", "backend/vif/7/0", "backend/vbd/7", "backend/vbd/70000/1", "a/vbd/1/2"] {
            assert!(parse_device(wrong, DomId(0)).unwrap_err().text.contains("XENBUS_PATH"));
        }
    }
}
