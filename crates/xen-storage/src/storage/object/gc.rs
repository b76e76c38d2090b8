//! Removing chunks that no disk has any more. Whatever is unclear is kept.

use super::lease::{enter_alone, leave};
use super::manifest::Manifest;
use super::{CHUNKS, DISKS, Objects, chunk_key};
use std::collections::HashSet;
use std::io;
use std::time::{Duration, SystemTime};

/// Counts of the disks and chunks of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collected {
    /// Number of disks.
    pub disks: usize,
    /// Number of chunks that they have.
    pub kept: usize,
    /// Number of chunks that were removed.
    pub removed: usize,
}

/// Removes the chunks that are in no manifest and were put there more than `grace` ago: a store in
/// the network may still be doing what a program that has ended asked for. `now` is this machine's
/// time; the store's own counts if it is earlier. Nothing is removed if a manifest cannot be read,
/// or while disks of the store are in use. With `force`, programs that are said to use it are taken
/// for dead; one that comes back all the same finds its disk replaced, and can write it no more.
pub fn collect(
    objects: &impl Objects,
    now: SystemTime,
    grace: Duration,
    force: bool,
) -> io::Result<Collected> {
    let lease = enter_alone(objects, force)?;
    let collected = collect_alone(objects, now, grace, force);
    leave(objects, lease);
    collected
}

fn collect_alone(
    objects: &impl Objects,
    now: SystemTime,
    grace: Duration,
    force: bool,
) -> io::Result<Collected> {
    let now = objects.time()?.map_or(now, |time| time.min(now));
    let chunks = objects.list(CHUNKS)?;
    let mut used = HashSet::new();
    let disks = objects.list(DISKS)?;
    for (key, _) in &disks {
        let failed = |error: io::Error| {
            let text = format!("{key}: {error}; nothing was removed");
            io::Error::new(error.kind(), text)
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is listed, and not there");
        let (raw, version) =
            objects.get(key).map_err(failed)?.ok_or_else(missing).map_err(failed)?;
        let mut manifest = Manifest::decode(&raw).map_err(failed)?;
        used.extend(manifest.hashes.iter().flatten().map(chunk_key));
        if force {
            manifest.generation += 1;
            objects.replace(key, &manifest.encode(), Some(&version)).map_err(failed)?;
        }
    }
    let is_old = |put: &SystemTime| now.duration_since(*put).is_ok_and(|age| age >= grace);
    let mut removed = 0;
    for (key, _) in chunks.iter().filter(|(key, put)| !used.contains(key) && is_old(put)) {
        objects.delete(key)?;
        removed += 1;
    }
    Ok(Collected { disks: disks.len(), kept: used.len(), removed })
}
