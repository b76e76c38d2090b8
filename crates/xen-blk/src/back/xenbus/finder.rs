//! Discovery of the disks that a toolstack wants a domain to serve.

use crate::toolstack::{self, Device};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::xenbus::State;
use xen_platform::{DomId, Platform, sleep};
use xen_store::{Error, ErrorKind, Store, Watch};

/// Time after which a look that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Watches for the folders of backends that a toolstack makes for a domain: for a driver domain,
/// which makes none itself.
pub struct Finder<P> {
    platform: P,
    store: Store,
    back: DomId,
    kind: String,
    watch: Watch,
    /// Disks that were reported and not forgotten.
    known: Vec<Device>,
    /// Disks of backends that were killed are reported, too.
    abandoned: bool,
}

impl<P: Platform> Finder<P> {
    /// Watches for disks of that kind that the domain `back` is to serve. Those that are there come
    /// first.
    pub async fn new(
        platform: &P,
        store: &Store,
        back: DomId,
        kind: &str,
    ) -> Result<Finder<P>, Error> {
        let watch = store.watch(&toolstack::kind_path(back, kind)).await?;
        let (platform, store, kind) = (platform.clone(), store.clone(), kind.into());
        Ok(Finder { platform, store, back, kind, watch, known: Vec::new(), abandoned: false })
    }

    /// Reports also disks that have had a backend which did not close them, in whatever state.
    pub fn with_abandoned(self) -> Finder<P> {
        Finder { abandoned: true, ..self }
    }

    /// Waits for a disk that no backend has had yet. Fails only when the connection to xenstore is
    /// over. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Device, Error> {
        loop {
            match self.look().await {
                Ok(Some(device)) => {
                    self.known.push(device.clone());
                    return Ok(device);
                }
                Ok(None) => self.watch.next().await.map(drop)?,
                Err(error) if error.is_closed() => return Err(error),
                Err(error) => {
                    log::warn!("cannot look for disks, and will try again: {error}");
                    sleep(&self.platform, RETRY_AFTER).await;
                }
            }
        }
    }

    /// Forgets a disk that is not served any more: a folder of that name is a new disk's.
    pub fn forget(&mut self, device: &Device) {
        self.known.retain(|known| known != device);
    }

    async fn look(&self) -> Result<Option<Device>, Error> {
        for device in toolstack::list(&self.store, self.back, &self.kind).await? {
            if !self.known.contains(&device) && self.is_free(&device).await? {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    async fn is_free(&self, device: &Device) -> Result<bool, Error> {
        let state = self.store.read_number(&format!("{}/state", device.back_path())).await;
        match state {
            Ok(state) => Ok(match State(state) {
                State::INITIALISING => true,
                State::CLOSING | State::CLOSED => false,
                _ => self.abandoned,
            }),
            Err(error) => match error.kind {
                ErrorKind::NoEntry | ErrorKind::NotNumber(_) | ErrorKind::NotText => Ok(false),
                _ => Err(error),
            },
        }
    }
}
