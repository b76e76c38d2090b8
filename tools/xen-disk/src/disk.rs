//! One disk of one domain, from its creation to its end.

use crate::identity::{self as id, Identity};
use crate::served::Served;
use crate::{Code, Failure, Vdev};
use std::io;
use std::time::Duration;
use xen_blk::back::{self, Config, End, Handle};
use xen_blk::toolstack::{self, Attributes, Device};
use xen_platform::{DomId, Platform, deadline};
use xen_store::{ErrorKind, Store};

/// The kind of our backends in xenstore: one that no other program serves.
pub const KIND: &str = "xen-disk";

/// Time limit of the last flush: a cache of gigabytes may have to reach a slow device.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);

/// A disk that is plugged in, and what serves it.
pub struct Disk {
    /// Its domains and number.
    pub device: Device,
    /// The storage, as users write it.
    pub stack: String,
    /// The storage.
    pub served: Served,
    /// Stops it and tells what it does.
    pub handle: Handle,
    /// Its folders are there.
    pub store: Store,
}

/// Origin of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plugged {
    /// It is new to the domain.
    New,
    /// It was there, and its server was killed: its guest may be using it.
    TakenOver,
}

/// Makes a disk's folders in xenstore, or takes over those of the same disk that nobody serves any
/// more: of `vdev`, if that is given, or else of the same storage. `is_served` tells whether
/// somebody serves a disk.
pub async fn plug(
    store: &Store,
    back: DomId,
    front: DomId,
    vdev: Option<Vdev>,
    identity: &Identity,
    is_served: impl Fn(&Device) -> bool,
) -> Result<(Device, Plugged), Failure> {
    let device = |vdev| Device { front, back, vdev, kind: KIND.into() };
    for known in
        toolstack::list(store, back, KIND).await?.into_iter().filter(|known| known.front == front)
    {
        let recorded = id::recorded(store, &known).await?;
        let same = match vdev {
            Some(vdev) => vdev.0 == known.vdev,
            None => identity.is_of(&recorded),
        };
        if !same || is_served(&known) || id::server(store, &known).await?.is_some() {
            continue;
        }
        identity.check(&known, &recorded)?;
        // Another process may take it over at the same time.
        if id::claim(store, &known).await? {
            return Ok((known, Plugged::TakenOver));
        }
    }
    let mut extra = identity.keys();
    extra.push((id::SERVER, id::this_process()));
    let attributes = Attributes {
        read_only: identity.read_only,
        params: identity.stack.clone(),
        extra,
        ..Attributes::default()
    };
    loop {
        let number = match vdev {
            Some(vdev) => vdev.0,
            None => toolstack::free_vdev(store, front)
                .await?
                .ok_or_else(|| Failure::other("it has too many disks"))?,
        };
        match toolstack::create(store, &device(number), &attributes).await {
            Ok(()) => return Ok((device(number), Plugged::New)),
            // Somebody else was faster: the next is free.
            Err(error) if error.kind == ErrorKind::Exists && vdev.is_none() => {}
            Err(error) if error.kind == ErrorKind::Exists => {
                let text = format!(
                    "domain {front} has a disk {} already: see xen-disk list and xl block-list",
                    Vdev(number)
                );
                return Err(Failure::new(Code::Usage, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the storage of a disk as it is written in xenstore.
pub async fn params(store: &Store, device: &Device) -> Result<Option<String>, xen_store::Error> {
    id::stack(store, device).await
}

impl Disk {
    /// Serves it until one side ends it, and flushes its storage. Removes its folders, unless the
    /// toolstack made them.
    pub async fn serve<P: Platform>(
        &self,
        platform: &P,
        store: &Store,
        config: &Config,
    ) -> Result<End, Failure> {
        let end =
            back::serve(platform, store, &self.device, &self.served, config, &self.handle).await;
        // Whatever happened: first what was written, then what would hinder the next.
        let flushed =
            deadline(platform, Some(platform.now() + FLUSH_TIMEOUT), self.served.close()).await;
        let flushed = flushed.unwrap_or_else(|_| {
            self.served.abandon();
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {FLUSH_TIMEOUT:?}"),
            ))
        });
        let removed = match config.leave_folders {
            true => Ok(()),
            false => toolstack::remove(store, &self.device).await,
        };
        let end = end?;
        flushed.map_err(|error| {
            let text = format!("{}: what was written last may not be kept: {error}", self.name());
            Failure::new(Code::Storage, text)
        })?;
        removed?;
        Ok(end)
    }

    /// Makes it `bytes` long. Whatever happens meanwhile, the next server knows it again.
    pub async fn resize(&self, bytes: u64) -> Result<(), String> {
        let record = async |lengths: &[u64]| {
            let done = id::record_bytes(&self.store, &self.device, lengths).await;
            done.map_err(|error| error.to_string())
        };
        let old = self.served.storage_info().bytes;
        record(&[bytes, old]).await?;
        match self.served.resize(bytes).await {
            Ok(()) => record(&[bytes]).await,
            Err(error) => {
                record(&[self.served.storage_info().bytes]).await?;
                Err(error.to_string())
            }
        }
    }

    /// Returns its name for users.
    pub fn name(&self) -> String {
        format!("disk {} of domain {}", Vdev(self.device.vdev), self.device.front)
    }
}

/// Turns the end of a disk into the result of the command that served it.
pub fn verdict(disk: &str, end: End) -> Result<(), Failure> {
    match end {
        End::Stopped | End::Closed => Ok(()),
        End::Forced => Err(Failure::new(
            Code::Forced,
            format!("{disk} was taken away while its guest held it"),
        )),
        End::Removed => {
            Err(Failure::new(Code::Gone, format!("{disk} was removed by somebody else")))
        }
        End::Gone => Err(Failure::new(
            Code::Gone,
            format!("{disk} is gone: its domain has ended, or let it go"),
        )),
    }
}
