//! Chunks kept in a folder on this machine.

use super::{CHUNKS, Listed, Objects};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

/// An object store whose chunks are kept in a folder as well, once they were read or written.
///
/// Each file has a hash, which is looked at whenever it is read: what others do to the folder can
/// make reading slower, and nothing else. It can be removed at any time, and several
/// programs can have the same; each sees to it that its own part is not longer than it may be. A
/// folder that is full or cannot be written is as good as none.
pub struct Cached<O> {
    objects: O,
    folder: PathBuf,
    most: u64,
    kept: Mutex<Kept>,
    written: AtomicU64,
}

/// Contents of the folder, as far as this program knows.
#[derive(Default)]
struct Kept {
    /// The length of each chunk, and when it was used.
    chunks: HashMap<String, (u64, u64)>,
    /// The same by time, the oldest first.
    by_use: BTreeMap<u64, String>,
    bytes: u64,
    uses: u64,
}

impl Kept {
    fn used(&mut self, name: &str, bytes: u64) {
        self.forget(name);
        self.uses += 1;
        self.bytes += bytes;
        self.chunks.insert(name.to_string(), (bytes, self.uses));
        self.by_use.insert(self.uses, name.to_string());
    }

    fn forget(&mut self, name: &str) {
        if let Some((bytes, at)) = self.chunks.remove(name) {
            self.by_use.remove(&at);
            self.bytes -= bytes;
        }
    }

    /// The chunk that was not used for longest, if there are more bytes than `most`.
    fn too_much(&mut self, most: u64) -> Option<String> {
        let (_, name) = self.by_use.first_key_value().filter(|_| self.bytes > most)?;
        let name = name.clone();
        self.forget(&name);
        Some(name)
    }
}

impl<O: Objects> Cached<O> {
    /// Keeps up to `most` bytes of chunks of `objects` in `folder`, which is made if it is missing.
    /// Those that are there already are used; what is no chunk is left alone.
    pub fn open(objects: O, folder: &Path, most: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // One that goes in this moment is not there.
            let (Ok(name), Ok(about)) = (entry.file_name().into_string(), entry.metadata()) else {
                continue;
            };
            if is_hash(&name) {
                found.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), name, about.len()));
            } else if name.starts_with(WORK) {
                // Of a program that was killed; if it is at work, it goes without.
                let _ = fs::remove_file(entry.path());
            }
        }
        found.sort();
        let mut kept = Kept::default();
        found.iter().for_each(|(_, name, bytes)| kept.used(name, *bytes));
        let cached = Cached {
            objects,
            folder: folder.to_path_buf(),
            most,
            kept: Mutex::new(kept),
            written: AtomicU64::new(0),
        };
        cached.shorten();
        Ok(cached)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder panics")
    }

    fn shorten(&self) {
        let surplus = || self.kept().too_much(self.most);
        // The files are removed without the lock: a slow disk stops nobody who looks for a chunk.
        while let Some(name) = surplus() {
            // Another program may have been faster.
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    /// Bytes that are in the folder, and are what was put there.
    fn find(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).ok();
        match bytes.and_then(|bytes| checked(name, bytes)) {
            Some(bytes) => {
                self.kept().used(name, (bytes.len() + SUM) as u64);
                Some(bytes)
            }
            None => {
                self.kept().forget(name);
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Keeps bytes. They have their name only once they are whole, as far as that is known without
    /// waiting for the disk.
    fn keep(&self, name: &str, bytes: &[u8]) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let work = self.folder.join(format!("{WORK}{}-{number}", std::process::id()));
        let write = || {
            let mut file = fs::File::create(&work)?;
            file.write_all(bytes)?;
            file.write_all(&sum(name, bytes))?;
            fs::rename(&work, self.folder.join(name))
        };
        match write() {
            Ok(()) => self.kept().used(name, (bytes.len() + SUM) as u64),
            Err(_) => drop(fs::remove_file(&work)),
        }
        self.shorten();
    }
}

/// Bytes of the hash at the end of each file.
const SUM: usize = 32;

fn sum(name: &str, bytes: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(bytes);
    hasher.finalize().into()
}

/// Returns the bytes of a file without their hash, if that is right.
fn checked(name: &str, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let at = bytes.len().checked_sub(SUM)?;
    let found = bytes.split_off(at);
    (found == sum(name, &bytes)).then_some(bytes)
}

/// Beginning of the names of files that are being written.
const WORK: &str = "work-";

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the name of a file with bytes of a chunk, if the key is that of one.
fn file_of(key: &str, range: &Range<u64>) -> Option<String> {
    key.strip_prefix(CHUNKS).filter(|name| is_hash(name))?;
    let text = format!("{key} {} {}", range.start, range.end);
    Some(blake3::hash(text.as_bytes()).to_hex().to_string())
}

impl<O: Objects> Objects for Cached<O> {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.objects.get(key)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some(name) = file_of(key, &range) else { return self.objects.get_range(key, range) };
        if let Some(bytes) = self.find(&name) {
            return Ok(Some(bytes));
        }
        let found = self.objects.get_range(key, range)?;
        if let Some(bytes) = &found {
            self.keep(&name, bytes);
        }
        Ok(found)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.objects.put(key, bytes)?;
        if let Some(name) = file_of(key, &(0..bytes.len() as u64)) {
            self.keep(&name, bytes);
        }
        Ok(())
    }

    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.objects.replace(key, bytes, old)
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        self.objects.list(prefix, found)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.objects.delete(key)
    }

    fn time(&self) -> io::Result<Option<SystemTime>> {
        self.objects.time()
    }

    fn identity(&self) -> Option<String> {
        self.objects.identity()
    }

    fn lock_file(&self) -> io::Result<Option<fs::File>> {
        self.objects.lock_file()
    }

    fn check_conditions(&self) -> io::Result<()> {
        self.objects.check_conditions()
    }

    fn give_up(&self) {
        self.objects.give_up();
    }
}
