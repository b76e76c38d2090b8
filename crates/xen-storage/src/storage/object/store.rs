//! The functions of an object store.

use super::Folder;
#[cfg(feature = "cloud")]
use super::Remote;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

/// A store of chunks and manifests.
pub trait Objects: Send + Sync {
    /// Returns the contents of a key, and their version; `None` if there is nothing.
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>>;
    /// Returns true if there is something under that key.
    fn has(&self, key: &str) -> io::Result<bool>;
    /// Puts something under a key, wholly or not at all, so that it is kept when this returns.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;
    /// The same if what is there is of the version `old`, or nothing is there and that is `None`.
    /// The new version, or [`io::ErrorKind::AlreadyExists`] if somebody else was faster.
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String>;
    /// All keys that begin with `prefix`, which ends with a slash, and when they were put there.
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>>;
    /// Removes what is under a key.
    fn delete(&self, key: &str) -> io::Result<()>;
    /// Returns the time by the clock of the store, if that is not this machine's.
    fn time(&self) -> io::Result<Option<SystemTime>> {
        Ok(None)
    }
    /// Names the store, for the identity of its disks.
    fn identity(&self) -> Option<String> {
        None
    }
    /// Opens the file that all users of this store can lock, if there is one: anew, so that each
    /// lock is another's.
    fn lock_file(&self) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// Opens the store that is called `place`: the URL of one in the network, or a folder.
pub fn open_store(place: &str) -> io::Result<Box<dyn Objects>> {
    if !place.contains("://") {
        return Ok(Box::new(Folder::open(place.as_ref())?));
    }
    #[cfg(feature = "cloud")]
    return Ok(Box::new(Remote::open(place)?));
    #[cfg(not(feature = "cloud"))]
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this xen-disk was built without the feature cloud",
    ))
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
    fn time(&self) -> io::Result<Option<SystemTime>> {
        (**self).time()
    }
    fn identity(&self) -> Option<String> {
        (**self).identity()
    }
    fn lock_file(&self) -> io::Result<Option<File>> {
        (**self).lock_file()
    }
}

impl<O: Objects + ?Sized> Objects for Arc<O> {
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
    fn time(&self) -> io::Result<Option<SystemTime>> {
        (**self).time()
    }
    fn identity(&self) -> Option<String> {
        (**self).identity()
    }
    fn lock_file(&self) -> io::Result<Option<File>> {
        (**self).lock_file()
    }
}
