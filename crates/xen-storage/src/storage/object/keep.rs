//! A flush: chunks first, then the manifest that names them.

use super::manifest::{Hash, Manifest};
use super::{Chunk, Object, Objects, chunk_key, disk_key};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Manifests that are remembered after they were sent without an answer.
const SENT_MOST: usize = 64;

impl<O: Objects> Object<O> {
    /// Uploads a chunk that is not there yet, and says what it is called; one of zeros is not kept.
    fn upload(&self, chunk: &Chunk) -> io::Result<Option<Hash>> {
        if chunk.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let hash = *blake3::hash(chunk).as_bytes();
        let key = chunk_key(&hash);
        if !self.objects.has(&key)? {
            self.objects.put(&key, chunk)?;
        }
        Ok(Some(hash))
    }

    /// Uploads everything, as a disk of `bytes` if that is given, and replaces the manifest.
    pub(super) fn keep(&self, bytes: Option<u64>) -> io::Result<()> {
        let mut sent = self.sent.lock().expect("no holder panics");
        let (mut dirty, mut manifest, version) = {
            let state = self.state();
            (state.dirty.clone(), state.manifest.clone(), state.version.clone())
        };
        if let Some(bytes) = bytes {
            manifest = manifest.resized(bytes)?;
            dirty.retain(|number, _| *number < manifest.hashes.len());
            self.fit_last(&mut dirty, &manifest)?;
        } else if dirty.is_empty() {
            return Ok(());
        }
        for (number, chunk) in &dirty {
            manifest.hashes[*number] = self.upload(chunk)?;
        }
        manifest.generation += 1;
        let version = self.publish(&manifest.encode(), &version, &mut sent)?;
        let mut state = self.state();
        state.version = version;
        for (number, chunk) in &dirty {
            // What was written meanwhile is still to be flushed.
            if state.dirty.get(number).is_some_and(|now| Arc::ptr_eq(now, chunk)) {
                state.dirty.remove(number);
                if let Some(hash) = manifest.hashes[*number] {
                    state.recent.add(hash, chunk.clone());
                }
            }
        }
        state.dirty.retain(|number, _| *number < manifest.hashes.len());
        state.dirty.iter_mut().for_each(|(number, chunk)| fit(chunk, &manifest, *number));
        state.manifest = manifest;
        Ok(())
    }

    /// Adds the last chunk that the disk has now to those that are uploaded, if it has another
    /// length in `manifest`.
    fn fit_last(&self, dirty: &mut BTreeMap<usize, Chunk>, manifest: &Manifest) -> io::Result<()> {
        let last = {
            let state = self.state();
            let last = state.manifest.hashes.len().min(manifest.hashes.len()) - 1;
            if state.manifest.range(last) == manifest.range(last) {
                return Ok(());
            }
            last
        };
        let (state, mut chunk) = self.chunk(last)?;
        drop(state);
        fit(&mut chunk, manifest, last);
        dirty.insert(last, chunk);
        Ok(())
    }

    /// Replaces the manifest of the version `old`, and returns its new version. What a store in the
    /// network reports as failed may have been done, or be done later: a manifest that was sent is
    /// known again when it turns up.
    fn publish(&self, manifest: &[u8], old: &str, sent: &mut Vec<Hash>) -> io::Result<String> {
        let key = disk_key(&self.name);
        let hash = *blake3::hash(manifest).as_bytes();
        if !sent.contains(&hash) {
            sent.truncate(SENT_MOST - 1);
            sent.insert(0, hash);
        }
        let refused = match self.objects.replace(&key, manifest, Some(old)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => error,
            done => return done.inspect(|_| sent.clear()),
        };
        let Some((now, version)) = self.objects.get(&key)? else { return Err(refused) };
        let now = *blake3::hash(&now).as_bytes();
        let done = match now == hash {
            true => Ok(version),
            false if sent.contains(&now) => self.objects.replace(&key, manifest, Some(&version)),
            false => Err(refused),
        };
        done.inspect(|_| sent.clear())
    }
}

/// Gives a chunk the length that it has in `manifest`.
fn fit(chunk: &mut Chunk, manifest: &Manifest, number: usize) {
    let len = manifest.range(number).count();
    if chunk.len() != len {
        Arc::make_mut(chunk).resize(len, 0);
    }
}
