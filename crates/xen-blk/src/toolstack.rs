//! A virtual disk's folders in xenstore, as a toolstack makes and removes them.
//!
//! Each end of a disk has a folder of its own, which it alone writes and the other only reads;
//! nobody else can see either. They come and go together, in one transaction.
//!
//! For a domain that libxl made, libxl gets an entry as well (`/libxl/DOMID/device/vbd/N`, the keys
//! of libxl_disk.c): so `xl block-list` shows the disk, and `xl block-attach` gives its number to
//! no other disk. The type in it is the backend's kind. If that is none of libxl's own, `xl
//! block-detach` says so and leaves the disk alone.

use crate::protocol::vdev;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xen_abi::xenbus::State;
use xen_platform::DomId;
use xen_store::{Access, Error, ErrorKind, Permissions, Store, path};

/// The kind of backend that Linux's own serves; others need another, or both would serve a disk.
pub const VBD: &str = "vbd";

/// A disk of a domain, served by another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// The domain that has the disk.
    pub front: DomId,
    /// The domain that serves it.
    pub back: DomId,
    /// The disk's number: see [`vdev::name`].
    pub vdev: u32,
    /// The backend's kind: a part of its folder's path.
    pub kind: String,
}

impl Device {
    /// Returns the frontend's folder.
    pub fn front_path(&self) -> String {
        format!("{}/{}", vbds(self.front), self.vdev)
    }

    /// Returns the backend's folder.
    pub fn back_path(&self) -> String {
        format!("{}/{}", self.backs_path(), self.vdev)
    }

    /// Returns libxl's entry for it.
    fn libxl_path(&self) -> String {
        format!("{}/device/vbd/{}", libxl(self.front), self.vdev)
    }

    /// Returns the folder of all backends of that kind for that domain.
    fn backs_path(&self) -> String {
        format!("{}/{}", kind_path(self.back, &self.kind), self.front)
    }
}

fn vbds(front: DomId) -> String {
    format!("{}/device/vbd", path::of_domain(front))
}

/// Returns libxl's folder of a domain.
fn libxl(front: DomId) -> String {
    format!("/libxl/{front}")
}

pub(crate) fn kind_path(back: DomId, kind: &str) -> String {
    format!("{}/backend/{kind}", path::of_domain(back))
}

/// Properties of a disk that the toolstack decides on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// It must not be written, whatever the storage permits.
    pub read_only: bool,
    /// It is a CD-ROM drive.
    pub cdrom: bool,
    /// Its medium can be taken out.
    pub removable: bool,
    /// The frontend may discard.
    pub discard: bool,
    /// Location of the data, for lists of disks.
    pub params: String,
    /// Further keys of the backend's folder, for the program that serves the disk.
    pub extra: Vec<(&'static str, String)>,
}

impl Default for Attributes {
    fn default() -> Self {
        Attributes {
            read_only: false,
            cdrom: false,
            removable: false,
            discard: true,
            params: String::new(),
            extra: Vec::new(),
        }
    }
}

/// Makes both folders, with both ends initialising. Fails with [`ErrorKind::Exists`] if the
/// frontend's domain has a disk of that number, and with [`ErrorKind::NoEntry`] if there is no such
/// domain.
pub async fn create(store: &Store, device: &Device, attributes: &Attributes) -> Result<(), Error> {
    let (front_path, back_path) = (device.front_path(), device.back_path());
    store
        .transaction(async |tx| {
            tx.directory(&path::of_domain(device.front)).await?;
            if exists(tx, &front_path).await? {
                return Err(Error::new(xen_store::Op::Mkdir, &front_path, ErrorKind::Exists));
            }
            folder(tx, &front_path, device.front, device.back, &front_keys(device, attributes))
                .await?;
            folder(tx, &back_path, device.back, device.front, &back_keys(device, attributes))
                .await?;
            if exists(tx, &libxl(device.front)).await? {
                let entry = device.libxl_path();
                tx.rm(&entry).await.or_else(unless_missing)?;
                // It inherits that nobody else sees it.
                write_all(tx, &entry, &libxl_keys(device, attributes)).await?;
            }
            Ok(())
        })
        .await
}

fn front_keys(device: &Device, attributes: &Attributes) -> Vec<(&'static str, String)> {
    [
        ("backend", device.back_path()),
        ("backend-id", device.back.to_string()),
        ("state", State::INITIALISING.0.to_string()),
        ("virtual-device", device.vdev.to_string()),
        ("device-type", kind_of_device(attributes).into()),
    ]
    .into()
}

fn back_keys(device: &Device, attributes: &Attributes) -> Vec<(&'static str, String)> {
    let flag = |set: bool| u8::from(set).to_string();
    [
        ("frontend", device.front_path()),
        ("frontend-id", device.front.to_string()),
        ("online", flag(true)),
        ("removable", flag(attributes.removable)),
        ("bootable", flag(false)),
        ("state", State::INITIALISING.0.to_string()),
        ("dev", vdev::name(device.vdev)),
        ("mode", if attributes.read_only { "r" } else { "w" }.into()),
        ("device-type", kind_of_device(attributes).into()),
        ("discard-enable", flag(attributes.discard)),
        ("params", attributes.params.clone()),
        ("hotplug-status", "connected".into()),
    ]
    .into_iter()
    .chain(attributes.extra.iter().cloned())
    .collect()
}

/// Returns the keys that libxl reads; if it misses one, it shows no disk of the domain at all.
fn libxl_keys(device: &Device, attributes: &Attributes) -> Vec<(&'static str, String)> {
    let mut keys = back_keys(device, attributes);
    keys.retain(|(key, _)| !matches!(*key, "state" | "hotplug-status"));
    keys.extend([("backend", device.back_path()), ("type", device.kind.clone())]);
    keys
}

fn kind_of_device(attributes: &Attributes) -> &'static str {
    if attributes.cdrom { "cdrom" } else { "disk" }
}

/// Makes a folder that `owner` can write and `reader` can read; what is made in it inherits that.
async fn folder(
    store: &Store,
    path: &str,
    owner: DomId,
    reader: DomId,
    keys: &[(&str, String)],
) -> Result<(), Error> {
    store.rm(path).await.or_else(unless_missing)?;
    store.mkdir(path).await?;
    store.set_permissions(path, &Permissions::shared_with(owner, reader, Access::Read)).await?;
    write_all(store, path, keys).await
}

async fn write_all(store: &Store, path: &str, keys: &[(&str, String)]) -> Result<(), Error> {
    for (key, value) in keys {
        store.write(&format!("{path}/{key}"), value.as_bytes()).await?;
    }
    Ok(())
}

/// Removes both folders and libxl's entry, and the folders above the backend's that are empty then.
/// Folders that are missing already are no error.
pub async fn remove(store: &Store, device: &Device) -> Result<(), Error> {
    store
        .transaction(async |tx| {
            for path in [device.front_path(), device.back_path(), device.libxl_path()] {
                tx.rm(&path).await.or_else(unless_missing)?;
            }
            remove_empty(tx, device).await
        })
        .await
}

/// Removes the folders above a backend's that are empty.
async fn remove_empty(store: &Store, device: &Device) -> Result<(), Error> {
    for path in [device.backs_path(), kind_path(device.back, &device.kind)] {
        if names(store, &path).await?.is_empty() {
            store.rm(&path).await.or_else(unless_missing)?;
        }
    }
    Ok(())
}

/// Removes the folder of a disk whose backend has closed, and those above it that are empty then,
/// if the own domain may: libxl makes them dom0's. It is the part of a driver domain, which may not
/// touch the frontend's folder, and libxl waits for it. Returns false, with nothing removed, if
/// there is no folder or the toolstack has made it anew.
pub async fn withdraw(store: &Store, device: &Device) -> Result<bool, Error> {
    let path = device.back_path();
    let closed = State::CLOSED.0.to_string();
    let removed = store.transaction(async |tx| {
        match tx.read(&format!("{path}/state")).await {
            Ok(state) if state == closed.as_bytes() => {}
            Ok(_) => return Ok(false),
            Err(error) => return unless_missing(error).map(|()| false),
        }
        tx.rm(&path).await.map(|()| true)
    });
    let removed = removed.await?;
    match store.transaction(async |tx| remove_empty(tx, device).await).await {
        Err(error) if error.kind != ErrorKind::Access => Err(error),
        _ => Ok(removed),
    }
}

/// Returns a number for one more disk of `front`, the one behind its last; `None` if there is none.
pub async fn free_vdev(store: &Store, front: DomId) -> Result<Option<u32>, Error> {
    let names = names(store, &vbds(front)).await?;
    let next = names
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter_map(place)
        .max()
        .map_or(0, |last| last + 1);
    Ok(match next {
        0..16 => Some(202 << 8 | next << 4),
        16..PLACES => Some(1 << 28 | next << 8),
        _ => None,
    })
}

/// Number of whole disks that there are numbers for.
const PLACES: u32 = 1 << 20;

/// Returns the disk's place in the row a, b, c..., by the scheme of docs/man/xen-vbd-interface.7.
fn place(vdev: u32) -> Option<u32> {
    match (vdev >> 28, vdev >> 8) {
        (1, _) => Some((vdev & 0x0fff_ffff) >> 8),
        (_, 202 | 8) => Some((vdev & 0xff) >> 4),
        (_, 3) => Some((vdev & 0xff) >> 6),
        (_, 22) => Some(((vdev & 0xff) >> 6) + 2),
        _ => None,
    }
}

/// Lists the disks of that kind for which `back` has folders, served or not.
pub async fn list(store: &Store, back: DomId, kind: &str) -> Result<Vec<Device>, Error> {
    let top = kind_path(back, kind);
    let mut devices = Vec::new();
    for front in names(store, &top).await? {
        let Ok(id) = front.parse() else { continue };
        for vdev in names(store, &format!("{top}/{front}")).await? {
            let Ok(vdev) = vdev.parse() else { continue };
            devices.push(Device { front: DomId(id), back, vdev, kind: kind.into() });
        }
    }
    Ok(devices)
}

/// Removes the remains of disks of that kind whose frontend is gone: no domain, or no folder in it.
/// Returns those disks.
pub async fn sweep(store: &Store, back: DomId, kind: &str) -> Result<Vec<Device>, Error> {
    let mut swept = Vec::new();
    for device in list(store, back, kind).await? {
        let alive = store.is_domain_introduced(device.front).await?
            && exists(store, &device.front_path()).await?;
        if !alive {
            remove(store, &device).await?;
            swept.push(device);
        }
    }
    Ok(swept)
}

/// Lists the names in a folder; none if it is missing.
async fn names(store: &Store, path: &str) -> Result<Vec<String>, Error> {
    store.directory(path).await.or_else(|error| unless_missing(error).map(|()| Vec::new()))
}

async fn exists(store: &Store, path: &str) -> Result<bool, Error> {
    store.directory(path).await.map(|_| true).or_else(|error| unless_missing(error).map(|()| false))
}

fn unless_missing(error: Error) -> Result<(), Error> {
    if error.is_not_found() { Ok(()) } else { Err(error) }
}
