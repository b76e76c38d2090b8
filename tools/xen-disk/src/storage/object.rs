//! `object`: a disk in an object store, as chunks that are named by the hash of what is in them.
//!
//! ```text
//! chunks/<hash>   the bytes of a chunk; the same bytes are kept once, whoever has them
//! disks/<name>    the manifest of a disk: its length, and the hash of each chunk; one of zeros has none
//! ```
//!
//! A chunk never changes. A flush uploads those that were written since, and then replaces the manifest, on the condition
//! that it is still the one that this program wrote last: two programs that serve one disk cannot destroy it, the slower
//! one fails. Whatever happens in between, the manifest is the one of the last flush, and all its chunks are there.

mod folder;
mod gc;
mod manifest;
#[cfg(feature = "cloud")]
mod remote;

pub use folder::Folder;
pub use gc::{Collected, collect};
#[cfg(feature = "cloud")]
pub use remote::Remote;

use super::{Discard, Info, Storage};
use manifest::{Hash, Manifest};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// Bytes of a chunk of a disk that is made here.
pub const CHUNK: u32 = 1 << 20;

/// Where chunks and manifests are kept.
pub trait Objects: Send + Sync {
    /// What is under that key, and its version; `None` if nothing is.
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>>;
    /// Whether there is something under that key.
    fn has(&self, key: &str) -> io::Result<bool>;
    /// Puts something under a key, wholly or not at all, so that it is kept when this returns.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;
    /// The same if what is there is of the version `old`, or nothing is there and that is `None`. The new version, or
    /// [`io::ErrorKind::AlreadyExists`] if somebody else was faster.
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String>;
    /// All keys that begin with `prefix`, which ends with a slash, and when they were put there.
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>>;
    /// Removes what is under a key.
    fn delete(&self, key: &str) -> io::Result<()>;
}

/// More bytes than this are not kept in memory for a guest that does not flush.
const DIRTY_MOST: usize = 256 << 20;

/// Opens the store that is called `place`: the URL of one in the network, or a folder.
pub fn open_store(place: &str) -> io::Result<Box<dyn Objects>> {
    if !place.contains("://") {
        return Ok(Box::new(Folder::open(place.as_ref())?));
    }
    #[cfg(feature = "cloud")]
    return Ok(Box::new(Remote::open(place)?));
    #[cfg(not(feature = "cloud"))]
    Err(io::Error::new(io::ErrorKind::Unsupported, "this xen-disk was built without the feature cloud"))
}

impl<O: Objects + ?Sized> Objects for Box<O> {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        (**self).get(key)
    }
    fn has(&self, key: &str) -> io::Result<bool> {
        (**self).has(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).put(key, bytes)
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        (**self).replace(key, bytes, old)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        (**self).list(prefix)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        (**self).delete(key)
    }
}

type Chunk = Arc<Vec<u8>>;

/// A disk in an object store.
pub struct Object<O> {
    objects: O,
    name: String,
    state: Mutex<State>,
    /// Held by the one flush at a time.
    flushing: Mutex<()>,
}

struct State {
    manifest: Manifest,
    /// Of the manifest in the store.
    version: String,
    /// Chunks that were written and are in no manifest yet.
    dirty: BTreeMap<usize, Chunk>,
    /// Chunks that are in the store, the least used of them to be forgotten when there are too many.
    cache: Cache,
}

impl<O: Objects> Object<O> {
    /// Opens the disk of that name, or makes it with `bytes` if there is none. Up to `cache` bytes of its chunks are kept
    /// in memory beside those that are not flushed.
    pub fn open(objects: O, name: &str, bytes: Option<u64>, cache: u64) -> io::Result<Self> {
        let key = disk_key(name);
        let (manifest, version) = match (objects.get(&key)?, bytes) {
            (Some((raw, version)), _) => (Manifest::decode(&raw)?, version),
            (None, Some(bytes)) => {
                let manifest = Manifest::new(bytes, CHUNK)?;
                let version = objects.replace(&key, &manifest.encode(), None)?;
                (manifest, version)
            }
            (None, None) => {
                let text = format!("there is no disk {name:?} in it: a size makes one");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        };
        let cache = Cache { most: (cache / u64::from(manifest.chunk)).max(1) as usize, ..Cache::default() };
        let state = State { manifest, version, dirty: BTreeMap::new(), cache };
        Ok(Object { objects, name: name.to_string(), state: Mutex::new(state), flushing: Mutex::new(()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The contents of a chunk as it is now.
    fn chunk(&self, state: &mut State, number: usize) -> io::Result<Chunk> {
        if let Some(chunk) = state.dirty.get(&number) {
            return Ok(chunk.clone());
        }
        let len = state.manifest.range(number).count();
        let Some(hash) = state.manifest.hashes[number] else { return Ok(Arc::new(vec![0; len])) };
        if let Some(chunk) = state.cache.get(&hash) {
            return Ok(chunk);
        }
        let key = chunk_key(&hash);
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let (bytes, _) = self.objects.get(&key)?.ok_or_else(|| invalid(format!("{key} is missing from the store")))?;
        if bytes.len() != len || *blake3::hash(&bytes).as_bytes() != hash {
            return Err(invalid(format!("{key} is damaged: it is not what its name says")));
        }
        let chunk = Arc::new(bytes);
        state.cache.add(hash, chunk.clone());
        Ok(chunk)
    }

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
}

impl<O: Objects> Storage for Object<O> {
    fn info(&self) -> Info {
        let Manifest { bytes, chunk, .. } = self.state().manifest;
        let discard = Some(Discard { granularity: chunk, secure: false });
        Info { physical_sector_size: 4096, discard, ..Info::new(bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        let mut state = self.state();
        for (number, within, of_buffer) in pieces(state.manifest.chunk as usize, range) {
            to[of_buffer].copy_from_slice(&self.chunk(&mut state, number)?[within]);
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        let range = self.info().range(at, from.len() as u64)?;
        let mut state = self.state();
        for (number, within, of_buffer) in pieces(state.manifest.chunk as usize, range) {
            let mut chunk = self.chunk(&mut state, number)?;
            // Taken out, so that it is copied only if somebody else has it: a flush, or the cache.
            state.dirty.remove(&number);
            Arc::make_mut(&mut chunk)[within].copy_from_slice(&from[of_buffer]);
            state.dirty.insert(number, chunk);
        }
        let full = state.dirty.len() * state.manifest.chunk as usize > DIRTY_MOST;
        drop(state);
        if full { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        let _one = self.flushing.lock().expect("no holder panics");
        let (dirty, mut manifest, version) = {
            let state = self.state();
            (state.dirty.clone(), state.manifest.clone(), state.version.clone())
        };
        if dirty.is_empty() {
            return Ok(());
        }
        for (number, chunk) in &dirty {
            manifest.hashes[*number] = self.upload(chunk)?;
        }
        manifest.generation += 1;
        let version = self.objects.replace(&disk_key(&self.name), &manifest.encode(), Some(&version))?;
        let mut state = self.state();
        state.version = version;
        state.manifest.generation = manifest.generation;
        for (number, chunk) in dirty {
            let hash = manifest.hashes[number];
            state.manifest.hashes[number] = hash;
            // What was written meanwhile is still to be flushed.
            if state.dirty.get(&number).is_some_and(|now| Arc::ptr_eq(now, &chunk)) {
                state.dirty.remove(&number);
                if let Some(hash) = hash {
                    state.cache.add(hash, chunk);
                }
            }
        }
        Ok(())
    }

    /// Whole chunks become zeros; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        let range = self.info().range(at, len)?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.state();
        for (number, within, _) in pieces(state.manifest.chunk as usize, range) {
            if within == (0..state.manifest.range(number).count()) {
                state.dirty.insert(number, Arc::new(vec![0; within.len()]));
            }
        }
        Ok(())
    }
}

/// The pieces of a range that lie in one chunk each: its number, the range within it, and that of the buffer.
fn pieces(chunk: usize, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
    let start = range.start;
    (start / chunk..range.end.div_ceil(chunk)).map(move |number| {
        let (from, to) = (range.start.max(number * chunk), range.end.min((number + 1) * chunk));
        (number, from - number * chunk..to - number * chunk, from - start..to - start)
    })
}

/// Where all chunks are.
const CHUNKS: &str = "chunks/";
/// Where all manifests are.
const DISKS: &str = "disks/";

fn disk_key(name: &str) -> String {
    format!("{DISKS}{name}")
}

fn chunk_key(hash: &Hash) -> String {
    format!("{CHUNKS}{}", blake3::Hash::from_bytes(*hash).to_hex())
}

/// Chunks that were used lately.
#[derive(Default)]
struct Cache {
    most: usize,
    chunks: HashMap<Hash, (u64, Chunk)>,
    uses: u64,
}

impl Cache {
    fn get(&mut self, hash: &Hash) -> Option<Chunk> {
        self.uses += 1;
        let (used, chunk) = self.chunks.get_mut(hash)?;
        *used = self.uses;
        Some(chunk.clone())
    }

    fn add(&mut self, hash: Hash, chunk: Chunk) {
        self.uses += 1;
        self.chunks.insert(hash, (self.uses, chunk));
        if self.chunks.len() > self.most {
            let oldest = self.chunks.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash);
            oldest.and_then(|hash| self.chunks.remove(&hash));
        }
    }
}
