//! Discovery of disks.

use super::device::DISKS;
use super::keys::{read, write};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use xen_platform::{Platform, deadline};
use xen_store::{Error, Store, Watch};

/// Key that a finder writes into the folder of each disk that it knows. A folder without it was
/// made anew.
const MARK: &str = "frontend-found";

/// Time after which a look that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Lists the numbers of the own domain's disks, in ascending order: those that the toolstack has
/// made, served by a backend or not.
pub async fn list(store: &Store) -> Result<Vec<u32>, Error> {
    let names = match store.directory(DISKS).await {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        names => names?,
    };
    let mut disks = Vec::new();
    for disk in names.iter().filter_map(|name| name.parse().ok()) {
        if let Err(at) = disks.binary_search(&disk) {
            disks.insert(at, disk);
        }
    }
    Ok(disks)
}

/// Reads the keys of the backend of the own domain's disk `vdev`, with their values.
pub async fn backend_keys(store: &Store, vdev: u32) -> Result<Vec<(String, String)>, Error> {
    let back = store.read_string(&format!("{DISKS}/{vdev}/backend")).await?;
    let mut keys = Vec::new();
    for key in store.directory(&back).await? {
        // A key may be gone by now, or not be text.
        let value = store.read(&format!("{back}/{key}")).await.unwrap_or_default();
        let text = |byte: u8| match byte.is_ascii() {
            true => byte.into(),
            false => char::REPLACEMENT_CHARACTER,
        };
        keys.push((key, value.into_iter().map(text).collect()));
    }
    Ok(keys)
}

/// A disk that was plugged in or out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A disk is new.
    Added(u32),
    /// The toolstack has removed a disk.
    Removed(u32),
}

/// Watches for disks that are plugged in and out.
///
/// A disk that was unplugged and plugged in again is reported as removed and added, even if both
/// happened between two looks. What xenstore refuses is reported once and tried again.
pub struct Finder<P: Platform> {
    platform: P,
    store: Store,
    watch: Option<Watch>,
    known: Vec<Known>,
    /// Count of the domain's resumes, after which all folders are new ones for the same disks.
    resumes: u32,
    /// The refusal that was reported last.
    refused: Option<Error>,
}

/// A disk that was reported as added.
struct Known {
    disk: u32,
    /// Its folder has the mark, as far as xenstore took it.
    marked: bool,
}

impl<P: Platform> Finder<P> {
    /// Creates a finder that knows no disk yet: those that are there come first.
    pub fn new(platform: &P, store: &Store) -> Finder<P> {
        Finder {
            platform: platform.clone(),
            store: store.clone(),
            watch: None,
            known: Vec::new(),
            resumes: platform.resumes().count(),
            refused: None,
        }
    }

    /// Waits for the next change. Fails only when the connection to xenstore is over. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            match self.look().await {
                Ok(Some(change)) => {
                    self.refused = None;
                    return Ok(change);
                }
                Ok(None) => {
                    self.refused = None;
                    self.changed(None).await?;
                }
                Err(error) if error.is_closed() => return Err(error),
                Err(error) => {
                    if self.refused.as_ref() != Some(&error) {
                        log::warn!("cannot look for disks, and will try again: {error}");
                        self.refused = Some(error);
                    }
                    self.changed(Some(RETRY_AFTER)).await?;
                }
            }
        }
    }

    /// Waits for an event of the watch, or for the time `at_most`.
    async fn changed(&mut self, at_most: Option<Duration>) -> Result<(), Error> {
        let until = at_most.map(|time| self.platform.now() + time);
        match &mut self.watch {
            Some(watch) => match deadline(&self.platform, until, watch.next()).await {
                Ok(event) => event.map(drop),
                Err(_) => Ok(()),
            },
            None => {
                xen_platform::sleep(&self.platform, at_most.unwrap_or(RETRY_AFTER)).await;
                Ok(())
            }
        }
    }

    /// Looks for a change. Changes that came before the watch was set are seen by its first event.
    async fn look(&mut self) -> Result<Option<Change>, Error> {
        if self.watch.is_none() {
            self.watch = Some(self.store.watch(DISKS).await?);
        }
        let now = list(&self.store).await?;
        let resumes = self.platform.resumes().count();
        if resumes != self.resumes {
            self.resumes = resumes;
            for known in &mut self.known {
                known.marked = now.contains(&known.disk) && mark(&self.store, known.disk).await?;
            }
        }
        for at in 0..self.known.len() {
            let Known { disk, marked } = self.known[at];
            if !now.contains(&disk) || marked && !is_marked(&self.store, disk).await? {
                self.known.remove(at);
                return Ok(Some(Change::Removed(disk)));
            }
        }
        let new = now.iter().find(|disk| self.known.iter().all(|known| known.disk != **disk));
        let Some(&disk) = new else { return Ok(None) };
        let marked = mark(&self.store, disk).await?;
        self.known.push(Known { disk, marked });
        Ok(Some(Change::Added(disk)))
    }
}

fn folder(disk: u32) -> String {
    format!("{DISKS}/{disk}")
}

/// Marks the folder of a disk; tells if xenstore took that.
async fn mark(store: &Store, disk: u32) -> Result<bool, Error> {
    let folder = folder(disk);
    match write(store, &folder, MARK, "1".into()).await {
        Ok(()) => {}
        Err(error) if error.is_closed() => return Err(error),
        Err(error) => {
            log::debug!("a new disk in the place of this one would not be noticed: {error}");
            return Ok(false);
        }
    }
    if read(store, &folder, "backend").await?.is_none() {
        // The toolstack has just removed the folder, and the mark has made it again.
        store.rm(&folder).await?;
    }
    Ok(true)
}

async fn is_marked(store: &Store, disk: u32) -> Result<bool, Error> {
    Ok(read(store, &folder(disk), MARK).await?.is_some())
}
