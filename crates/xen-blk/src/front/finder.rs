//! Which disks there are.

use super::bus::DISKS;
use alloc::vec::Vec;
use xen_store::{Error, Store, Watch};

/// The numbers of the own domain's disks, in ascending order. The toolstack makes and removes them; whether a backend
/// serves them is another question.
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

/// A disk that was plugged in or out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// There is a new disk.
    Come(u32),
    /// The toolstack has removed it.
    Gone(u32),
}

/// Tells of disks that come and go.
pub struct Finder {
    store: Store,
    watch: Watch,
    known: Vec<u32>,
}

impl Finder {
    /// Knows no disk yet: those that are there come first.
    pub async fn new(store: &Store) -> Result<Finder, Error> {
        let watch = store.watch(DISKS).await?;
        Ok(Finder { store: store.clone(), watch, known: Vec::new() })
    }

    /// Waits for the next change. Fails only when the connection to xenstore is over. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            // What was there when the watch was set is seen by its first event.
            let now = list(&self.store).await?;
            if let Some(at) = self.known.iter().position(|disk| !now.contains(disk)) {
                return Ok(Change::Gone(self.known.remove(at)));
            }
            if let Some(&disk) = now.iter().find(|disk| !self.known.contains(disk)) {
                self.known.push(disk);
                return Ok(Change::Come(disk));
            }
            self.watch.next().await?;
        }
    }
}
