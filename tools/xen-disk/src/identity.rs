//! The identity of a served disk, in xenstore: a server takes a disk over from a killed one only if
//! it is the same disk.

use crate::disk::KIND;
use crate::storage::Storage;
use crate::{Code, Failure, Vdev};
use std::fmt;
use xen_blk::toolstack::Device;
use xen_store::Store;

/// Key in the backend's folder: the stack of a disk that the toolstack knows by other words.
pub const STACK: &str = "disk-stack";
/// Further keys there.
const STORAGE: &str = "disk-identity";
const BYTES: &str = "disk-bytes";
const SECTOR_SIZE: &str = "disk-sector-size";

/// A disk as it is given to a guest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The storage, as users write it.
    pub stack: String,
    /// Name of the storage that no other has: [`Storage::identity`].
    pub storage: Option<String>,
    /// Possible lengths in bytes: two while a resize is under way.
    pub bytes: Vec<u64>,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Set if the guest must not write it.
    pub read_only: bool,
    /// Set if what was written outlasts the server: [`Storage::outlives`].
    pub outlives: bool,
}

impl Identity {
    /// Returns the identity of `storage`, which the user wrote as `stack`.
    pub fn of(storage: &dyn Storage, stack: &str, read_only: bool) -> Self {
        let info = storage.info();
        Identity {
            stack: stack.into(),
            storage: storage.identity(),
            bytes: vec![info.bytes],
            sector_size: info.sector_size,
            read_only: read_only || info.read_only,
            outlives: storage.outlives(),
        }
    }

    /// Returns the keys that tell it to the next server.
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let mut keys =
            vec![(BYTES, bytes_value(&self.bytes)), (SECTOR_SIZE, self.sector_size.to_string())];
        keys.extend(self.storage.clone().map(|storage| (STORAGE, storage)));
        keys
    }

    /// Returns true if it is kept where `recorded`, which a server left, was.
    pub fn is_of(&self, recorded: &Recorded) -> bool {
        match (&self.storage, &recorded.storage) {
            (Some(own), Some(other)) => own == other,
            _ => self.stack == recorded.stack,
        }
    }

    /// Refuses to go on with a disk that is not this one in every respect, or whose last writes
    /// went with its server.
    pub fn check(&self, device: &Device, recorded: &Recorded) -> Result<(), Failure> {
        let name = Vdev(device.vdev);
        let tool = if device.kind == KIND { "xen-disk disconnect" } else { "xl block-detach" };
        let cure = format!("{tool} {} {name} takes the disk away", device.front);
        let refuse = |code, text: String| Err(Failure::new(code, format!("{text}: {cure}")));
        if self.is_of(recorded) && !self.outlives && !self.read_only {
            let text = format!("what the guest wrote to {name} is gone with the killed server");
            return refuse(Code::Storage, text);
        }
        let mut wrong = Vec::new();
        if !self.is_of(recorded) {
            wrong.push("another storage".to_string());
        }
        if self.storage.is_none() {
            wrong.push("a storage that does not say which one it is".to_string());
        }
        let lengths = &recorded.bytes;
        if !lengths.is_empty() && !lengths.contains(&self.bytes[0]) {
            wrong.push(format!("{} bytes and not {}", self.bytes[0], lengths[0]));
        }
        if recorded.sector_size.is_some_and(|size| size != self.sector_size) {
            let size = recorded.sector_size.unwrap_or_default();
            wrong.push(format!("sectors of {} bytes and not {size}", self.sector_size));
        }
        if recorded.read_only != self.read_only {
            let mode = |read_only| if read_only { "read-only" } else { "writable" };
            wrong.push(format!("{} and not {}", mode(self.read_only), mode(recorded.read_only)));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let text = format!(
            "disk {name} of domain {} is {recorded}, whose server was killed, and its guest may be \
             using it; {} is not the same disk ({}). Connect {} again as it was, or",
            device.front,
            self.stack,
            wrong.join(", "),
            recorded.stack,
        );
        refuse(Code::Usage, text)
    }
}

/// The identity of a disk that another server left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    stack: String,
    storage: Option<String>,
    bytes: Vec<u64>,
    sector_size: Option<u32>,
    read_only: bool,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stack)?;
        match self.bytes.first() {
            Some(bytes) => write!(f, " of {bytes} bytes"),
            None => Ok(()),
        }
    }
}

/// Reads the identity of `device`.
pub async fn recorded(store: &Store, device: &Device) -> Result<Recorded, xen_store::Error> {
    let key = async |name: &str| read(store, device, name).await;
    let bytes = key(BYTES).await?.unwrap_or_default();
    Ok(Recorded {
        stack: stack(store, device).await?.unwrap_or_default(),
        storage: key(STORAGE).await?,
        bytes: bytes.split(' ').filter_map(|number| number.parse().ok()).collect(),
        sector_size: key(SECTOR_SIZE).await?.and_then(|number| number.parse().ok()),
        read_only: key("mode").await?.as_deref() == Some("r"),
    })
}

/// Reads the stack of `device`, as it was served.
pub async fn stack(store: &Store, device: &Device) -> Result<Option<String>, xen_store::Error> {
    match read(store, device, STACK).await? {
        None => read(store, device, "params").await,
        stack => Ok(stack),
    }
}

/// Key of the process that serves a disk: its number, and when it was started.
pub const SERVER: &str = "server";

/// Returns the value of [`SERVER`] for this process.
pub fn this_process() -> String {
    let pid = std::process::id();
    format!("{pid} {}", started(pid).unwrap_or_default())
}

/// Returns the number of the process that serves `device`, if it lives: of whatever program, with
/// whatever folder for its sockets. This process does not count.
pub async fn server(store: &Store, device: &Device) -> Result<Option<u32>, xen_store::Error> {
    let recorded = read(store, device, SERVER).await?;
    Ok(recorded.and_then(|value| living(&value)).filter(|pid| *pid != std::process::id()))
}

/// Makes this process the one that serves `device`, unless another one that lives is. Of two that
/// try at the same time, one is told so.
pub async fn claim(store: &Store, device: &Device) -> Result<bool, xen_store::Error> {
    let path = format!("{}/{SERVER}", device.back_path());
    let (me, mine) = (std::process::id(), this_process());
    let claimed = store.transaction(async |tx| {
        let recorded = match tx.read(&path).await {
            Err(error) if error.is_not_found() => Vec::new(),
            found => found?,
        };
        let other = living(&String::from_utf8_lossy(&recorded));
        if other.is_some_and(|pid| pid != me) {
            return Ok(false);
        }
        tx.write(&path, mine.as_bytes()).await.map(|()| true)
    });
    claimed.await
}

/// Returns the number of the process that a value of [`SERVER`] names, if it lives.
fn living(value: &str) -> Option<u32> {
    let (pid, since) = value.split_once(' ').unwrap_or((value, ""));
    // Numbers of processes come again.
    pid.parse().ok().filter(|pid| started(*pid).is_some_and(|started| started == since))
}

/// Returns the time when a process was started, in ticks since the machine was, if it lives.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of its program comes first, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    fields.nth(18).filter(|_| !is_dead).map(str::to_string)
}

/// Reads a key of the backend's folder, if it is there.
pub async fn read(
    store: &Store,
    device: &Device,
    name: &str,
) -> Result<Option<String>, xen_store::Error> {
    match store.read_string(&format!("{}/{name}", device.back_path())).await {
        Err(error) if error.is_not_found() => Ok(None),
        found => found.map(Some),
    }
}

/// Writes down the lengths that the disk may have from now on.
pub async fn record_bytes(
    store: &Store,
    device: &Device,
    bytes: &[u64],
) -> Result<(), xen_store::Error> {
    let path = format!("{}/{BYTES}", device.back_path());
    store.write(&path, bytes_value(bytes).as_bytes()).await
}

fn bytes_value(bytes: &[u64]) -> String {
    bytes.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}
