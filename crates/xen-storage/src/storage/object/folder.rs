//! An object store in a folder.

use super::Objects;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A folder whose files are the objects, by their keys.
pub struct Folder {
    path: PathBuf,
    /// Locked while a file is replaced on a condition.
    lock: File,
    written: AtomicU64,
}

/// Folder of files that do not have their name yet.
const WORK: &str = "work";

impl Folder {
    /// Opens the folder, or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        for name in [WORK, "chunks", "disks", "users"] {
            fs::create_dir_all(path.join(name))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(WORK).join("lock"))?;
        Ok(Folder { path: path.to_path_buf(), lock, written: AtomicU64::new(0) })
    }
}

impl Objects for Folder {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        match fs::read(self.path.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let bytes = read?;
                let version = blake3::hash(&bytes).to_hex().to_string();
                Ok(Some((bytes, version)))
            }
        }
    }

    fn has(&self, key: &str) -> io::Result<bool> {
        fs::exists(self.path.join(key))
    }

    /// Under a name of its own first: the key has all of it or nothing.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let work = self.path.join(WORK).join(format!("{}-{number}", std::process::id()));
        let path = self.path.join(key);
        let mut file = File::create(&work)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&work, &path)?;
        File::open(path.parent().unwrap_or(&self.path))?.sync_all()
    }

    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.lock.lock()?;
        let replaced = (|| {
            let now = self.get(key)?.map(|(_, version)| version);
            if now.as_deref() != old {
                let text = format!("{key} was replaced by somebody else: the disk is served twice");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            self.put(key, bytes)
        })();
        self.lock.unlock()?;
        replaced.map(|()| blake3::hash(bytes).to_hex().to_string())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.path.join(prefix))? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((format!("{prefix}{name}"), entry.metadata()?.modified()?));
            }
        }
        Ok(found)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(key))
    }

    fn identity(&self) -> Option<String> {
        Some(fs::canonicalize(&self.path).ok()?.display().to_string())
    }

    fn lock_file(&self) -> io::Result<Option<File>> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join(WORK).join("in-use"))
            .map(Some)
    }
}
