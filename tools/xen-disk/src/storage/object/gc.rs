//! Removing chunks that no disk has any more.

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

/// Removes the chunks that are in no manifest and were put there more than `grace` before `now`: younger ones may be part
/// of a flush that is under way. Nothing is removed if a manifest cannot be read.
///
/// Disks must not be written meanwhile: a flush may use an old chunk again that is garbage until its manifest is there.
pub fn collect(objects: &impl Objects, now: SystemTime, grace: Duration) -> io::Result<Collected> {
    // Chunks first: what is put there later is not looked at.
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
