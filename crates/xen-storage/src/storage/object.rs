//! `object`: a disk in an object store, as chunks that are named by the hash of what is in them.
//!
//! ```text
//! chunks/<hash>   the bytes of a chunk; the same bytes are kept once for all disks
//! disks/<name>    the manifest of a disk: its length, and the hash of each chunk that is not zero
//! users/<name>    a program that uses the store, where files cannot be locked
//! collector       the program that removes garbage
//! ```
//!
//! A chunk never changes. A flush uploads those that were written since, and then replaces the
//! manifest, on the condition that it is still the one that this program wrote last: two programs
//! that serve one disk cannot destroy it, the slower one fails. Whatever happens in between, the
//! manifest is the one of the last flush, and all its chunks are there.

mod cache;
mod folder;
mod gc;
mod keep;
mod lease;
mod manifest;
mod recent;
#[cfg(feature = "cloud")]
mod remote;
mod store;

pub use cache::Cached;
pub use folder::Folder;
pub use gc::{Collected, collect};
#[cfg(feature = "cloud")]
pub use remote::Remote;
pub use store::{Objects, open_store};

use super::{Discard, Info, Storage};
use lease::Lease;
use manifest::{Hash, Manifest};
use recent::Recent;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of a chunk, unless somebody wants another length.
pub const CHUNK: u32 = 1 << 20;

/// More bytes than this are not kept in memory for a guest that does not flush.
const MAX_DIRTY_BYTES: usize = 256 << 20;

type Chunk = Arc<Vec<u8>>;

/// A disk in an object store.
pub struct Object<O: Objects> {
    objects: O,
    /// Taken out when this is dropped.
    lease: Option<Lease>,
    name: String,
    state: Mutex<State>,
    /// Held by the one flush at a time: hashes of the manifests that were sent to the store since
    /// one was kept for sure.
    sent: Mutex<Vec<Hash>>,
}

struct State {
    manifest: Manifest,
    /// Of the manifest in the store.
    version: String,
    /// Chunks that were written and are in no manifest yet.
    dirty: BTreeMap<usize, Chunk>,
    /// Chunks that are in the store, the least used of them to be forgotten when there are too
    /// many.
    recent: Recent,
}

impl<O: Objects> Object<O> {
    /// Opens the disk of that name, or makes it with `bytes` if there is none. Up to `memory` bytes
    /// of its chunks are kept in memory beside those that are not flushed.
    pub fn open(objects: O, name: &str, bytes: Option<u64>, memory: u64) -> io::Result<Self> {
        let lease = lease::enter(&objects, name)?;
        match find_or_make(&objects, &disk_key(name), bytes) {
            Ok((manifest, version)) => {
                let recent = Recent::new((memory / u64::from(manifest.chunk)).max(1) as usize);
                let state = Mutex::new(State { manifest, version, dirty: BTreeMap::new(), recent });
                Ok(Object {
                    objects,
                    lease: Some(lease),
                    name: name.to_string(),
                    state,
                    sent: Mutex::default(),
                })
            }
            Err(error) => {
                lease::leave(&objects, lease);
                Err(error)
            }
        }
    }

    /// Makes a disk of zeros in chunks of `chunk` bytes, and returns whether there was none of that
    /// name.
    pub fn create(objects: &O, name: &str, bytes: u64, chunk: u32) -> io::Result<bool> {
        let manifest = Manifest::new(bytes, chunk)?;
        if objects.has(&disk_key(name))? {
            return Ok(false);
        }
        match objects.replace(&disk_key(name), &manifest.encode(), None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// Returns a range of the disk, and the length of its chunks.
    fn range(&self, at: u64, len: usize) -> io::Result<(Range<usize>, usize)> {
        let state = self.state();
        Ok((state.info().range(at, len as u64)?, state.manifest.chunk as usize))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Returns the contents of a chunk, with the state in which they are these. The state is not
    /// held while the store is asked.
    fn chunk(&self, number: usize) -> io::Result<(MutexGuard<'_, State>, Chunk)> {
        loop {
            let mut state = self.state();
            let Some(hash) = state.manifest.hashes.get(number).copied() else {
                let text = "the disk has become shorter meanwhile";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            let len = state.manifest.range(number).count();
            if let Some(chunk) = state.dirty.get(&number).cloned() {
                return Ok((state, chunk));
            }
            let Some(hash) = hash else { return Ok((state, Arc::new(vec![0; len]))) };
            if let Some(chunk) = state.recent.get(&hash) {
                return Ok((state, chunk));
            }
            drop(state);
            let chunk = self.fetch(&hash, len)?;
            let mut state = self.state();
            state.recent.add(hash, chunk.clone());
            let same = state.manifest.hashes.get(number) == Some(&Some(hash))
                && state.manifest.range(number).count() == len
                && !state.dirty.contains_key(&number);
            if same {
                return Ok((state, chunk));
            }
        }
    }

    /// Reads a chunk from the store.
    fn fetch(&self, hash: &Hash, len: usize) -> io::Result<Chunk> {
        let key = chunk_key(hash);
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let (bytes, _) = self
            .objects
            .get(&key)?
            .ok_or_else(|| invalid(format!("{key} is missing from the store")))?;
        if bytes.len() != len || blake3::hash(&bytes).as_bytes() != hash {
            return Err(invalid(format!("{key} is damaged: it is not what its name says")));
        }
        Ok(Arc::new(bytes))
    }
}

impl<O: Objects> Storage for Object<O> {
    fn info(&self) -> Info {
        self.state().info()
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let (range, len) = self.range(at, to.len())?;
        for (number, within, of_buffer) in pieces(len, range) {
            let (state, chunk) = self.chunk(number)?;
            drop(state);
            to[of_buffer].copy_from_slice(part(&chunk, within)?);
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let (range, len) = self.range(at, from.len())?;
        let mut full = false;
        for (number, within, of_buffer) in pieces(len, range) {
            let (mut state, mut chunk) = self.chunk(number)?;
            part(&chunk, within.clone())?;
            // Taken out, so that it is copied only if somebody else has it: a flush, or the cache.
            state.dirty.remove(&number);
            Arc::make_mut(&mut chunk)[within].copy_from_slice(&from[of_buffer]);
            state.dirty.insert(number, chunk);
            full = state.dirty.len() * len > MAX_DIRTY_BYTES;
        }
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        self.keep(None)
    }

    /// Whole chunks become zeros; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.state();
        let range = state.info().range(at, len)?;
        for (number, within, _) in pieces(state.manifest.chunk as usize, range) {
            if within == (0..state.manifest.range(number).count()) {
                state.dirty.insert(number, Arc::new(vec![0; within.len()]));
            }
        }
        Ok(())
    }

    /// The new length is kept at once, with all that was written so far.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.keep(Some(bytes))
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        let State { manifest, dirty, .. } = &*self.state();
        let chunk = u64::from(manifest.chunk);
        let there = |n: &usize| manifest.hashes[*n].is_some() || dirty.contains_key(n);
        let first = ((at / chunk) as usize..manifest.hashes.len()).find(there);
        Ok(first.map(|n| manifest.range(n).start.max(at)..manifest.range(n).end))
    }

    fn identity(&self) -> Option<String> {
        Some(format!("disk {} of {}", self.name, self.objects.identity()?))
    }

    /// The manifest, if all that was written is in it.
    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        self.flush()?;
        Ok(self.state().version.clone().into_bytes())
    }
}

impl State {
    fn info(&self) -> Info {
        let Manifest { bytes, chunk, .. } = self.manifest;
        let discard = Some(Discard { granularity: chunk, secure: false });
        Info { physical_sector_size: 4096, discard, ..Info::new(bytes) }
    }
}

impl<O: Objects> Drop for Object<O> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease::leave(&self.objects, lease);
        }
    }
}

/// The manifest under `key`, and its version; or that of a new disk of `bytes`.
fn find_or_make(
    objects: &impl Objects,
    key: &str,
    bytes: Option<u64>,
) -> io::Result<(Manifest, String)> {
    match (objects.get(key)?, bytes) {
        (Some((raw, version)), _) => Ok((Manifest::decode(&raw)?, version)),
        (None, Some(bytes)) => {
            let manifest = Manifest::new(bytes, CHUNK)?;
            let version = objects.replace(key, &manifest.encode(), None)?;
            Ok((manifest, version))
        }
        (None, None) => {
            let text = "there is no such disk in it: size=SIZE makes one";
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
    }
}

/// Returns a part of a chunk, unless that was cut off meanwhile.
fn part(chunk: &[u8], range: Range<usize>) -> io::Result<&[u8]> {
    chunk.get(range).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the disk has become shorter meanwhile")
    })
}

/// The pieces of a range that lie in one chunk each: its number, the range within it, and that of
/// the buffer.
fn pieces(
    chunk: usize,
    range: Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let start = range.start;
    (start / chunk..range.end.div_ceil(chunk)).map(move |number| {
        let (from, to) = (range.start.max(number * chunk), range.end.min((number + 1) * chunk));
        (number, from - number * chunk..to - number * chunk, from - start..to - start)
    })
}

/// Prefix of the keys of chunks.
const CHUNKS: &str = "chunks/";
/// Prefix of the keys of manifests.
const DISKS: &str = "disks/";

fn disk_key(name: &str) -> String {
    format!("{DISKS}{name}")
}

fn chunk_key(hash: &Hash) -> String {
    format!("{CHUNKS}{}", blake3::Hash::from_bytes(*hash).to_hex())
}
