//! Removing chunks that no disk has any more.

use super::lease::{enter_alone, leave};
use super::manifest::Manifest;
use super::{CHUNKS, DISKS, Objects, chunk_key};
use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime};

/// What was found and removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collected {
    /// How many disks there are.
    pub disks: usize,
    /// How many chunks they have.
    pub kept: usize,
    /// How many were removed.
    pub removed: usize,
}

/// Removes the chunks that are in no manifest and were put there more than `grace` before `now`: a store in the network may
/// still be doing what a program that has ended asked for. Nothing is removed if a manifest cannot be read, or while disks
/// of the store are in use; with `force`, those who are said to use it are known to be dead.
pub fn collect(objects: &impl Objects, now: SystemTime, grace: Duration, force: bool) -> io::Result<Collected> {
    let lease = enter_alone(objects, force)?;
    let collected = collect_alone(objects, now, grace);
    leave(objects, lease);
    collected
}

fn collect_alone(objects: &impl Objects, now: SystemTime, grace: Duration) -> io::Result<Collected> {
    let chunks = objects.list(CHUNKS)?;
    let mut used = HashSet::new();
    let disks = objects.list(DISKS)?;
    for (key, _) in &disks {
        let Some((raw, _)) = objects.get(key)? else { continue };
        let manifest = Manifest::decode(&raw).map_err(|error| io::Error::other(format!("{key}: {error}")))?;
        used.extend(manifest.hashes.iter().flatten().map(chunk_key));
    }
    let is_old = |put: &SystemTime| now.duration_since(*put).is_ok_and(|age| age > grace);
    let mut removed = 0;
    for (key, _) in chunks.iter().filter(|(key, put)| !used.contains(key) && is_old(put)) {
        objects.delete(key)?;
        removed += 1;
    }
    Ok(Collected { disks: disks.len(), kept: used.len(), removed })
}
