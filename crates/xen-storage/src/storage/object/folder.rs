//! An object store in a folder.

use super::{Listed, Objects};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder whose files are the objects, by their keys.
pub struct Folder {
    path: PathBuf,
    /// Locked while a file is replaced on a condition: against other programs, and threads.
    lock: Mutex<File>,
    written: AtomicU64,
}

/// Folder of files that do not have their name yet.
const WORK: &str = "work";

impl Folder {
    /// Opens the folder, or makes it.
    pub fn open(path: &Path) -> io::Result<Self> {
        for name in [WORK, "chunks", "disks", "logs"] {
            fs::create_dir_all(path.join(name))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(WORK).join("lock"))?;
        Ok(Folder { path: path.to_path_buf(), lock: Mutex::new(lock), written: AtomicU64::new(0) })
    }

    /// Opens the folder, if it is an object store.
    pub fn find(path: &Path) -> io::Result<Self> {
        if !path.join("disks").is_dir() {
            let text = "there is no object store: it has no folder disks";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Folder::open(path)
    }

    fn list_folder(&self, key: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        let entries = match fs::read_dir(self.path.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = match entry.metadata() {
                // One that goes in this moment is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                about => about?,
            };
            let key = format!("{key}{name}");
            if about.is_dir() {
                self.list_folder(&format!("{key}/"), found)?;
            } else {
                found(Listed { key, put: about.modified()?, bytes: about.len() });
            }
        }
        Ok(())
    }

    /// Makes the folder of a key's file, if it is missing.
    fn create(&self, work: &Path, path: &Path) -> io::Result<()> {
        match fs::rename(work, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(&self.path);
                fs::create_dir_all(folder)?;
                File::open(folder.parent().unwrap_or(&self.path))?.sync_all()?;
                fs::rename(work, path)
            }
            done => done,
        }
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

    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(Some(bytes))
    }

    /// Under a name of its own first: the key has all of it or nothing.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let work = self.path.join(WORK).join(format!("{}-{number}", std::process::id()));
        let path = self.path.join(key);
        let mut file = File::create(&work)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        self.create(&work, &path)?;
        File::open(path.parent().unwrap_or(&self.path))?.sync_all()
    }

    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        let lock = self.lock.lock().expect("no holder panics");
        lock.lock()?;
        let replaced = (|| {
            let now = self.get(key)?.map(|(_, version)| version);
            if now.as_deref() != old {
                let text = format!("{key} was replaced by another program");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            self.put(key, bytes)
        })();
        lock.unlock()?;
        replaced.map(|()| blake3::hash(bytes).to_hex().to_string())
    }

    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        self.list_folder(prefix, found)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
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
