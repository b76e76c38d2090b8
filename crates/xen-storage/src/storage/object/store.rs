//! The functions of an object store.

use super::Folder;
#[cfg(feature = "cloud")]
use super::Remote;
use super::outage::{OnOutage, Patient};
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::SystemTime;

/// An object that was listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// The time at which it was put there, by the store's clock.
    pub put: SystemTime,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A store of chunks and disks. Any thread may call any function, also several at once.
pub trait Objects: Send + Sync {
    /// Returns the contents of a key, and their version; `None` if there is nothing.
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>>;
    /// Returns bytes of what is under a key; `None` if there is nothing.
    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        let Some((bytes, _)) = self.get(key)? else { return Ok(None) };
        let range = range.start as usize..range.end as usize;
        let part = bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(part.to_vec()))
    }
    /// Puts something under a key, wholly or not at all, so that it is kept when this returns.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;
    /// The same if what is there is of the version `old`, or nothing is there and that is `None`.
    /// Returns the new version, or [`io::ErrorKind::AlreadyExists`] if another was faster.
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String>;
    /// Calls `found` with all objects whose keys begin with `prefix`, which ends with a slash.
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()>;
    /// Removes what is under a key, if there is something.
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
    /// Fails, unless the store keeps to conditions of puts. Called before the first of them.
    fn check_conditions(&self) -> io::Result<()> {
        Ok(())
    }
    /// From now on no outage is waited out: the disk is being closed. A store that waits for
    /// outages belongs to one disk.
    fn give_up(&self) {}
}

/// Opens the store that is called `place`: the URL of one in the network, or a folder, which must
/// be there unless it is to be made.
pub fn open_store(place: &str, make: bool, outage: OnOutage) -> io::Result<Box<dyn Objects>> {
    if !place.contains("://") {
        let folder = if make { Folder::open(place.as_ref()) } else { Folder::find(place.as_ref()) };
        return Ok(Box::new(folder?));
    }
    #[cfg(feature = "cloud")]
    return Ok(Box::new(Patient::new(Remote::open(place)?, outage)));
    #[cfg(not(feature = "cloud"))]
    {
        let _ = outage;
        let _: Option<Patient<Folder>> = None;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this xen-disk was built without the feature cloud",
        ))
    }
}

/// A store behind a pointer is one as well.
macro_rules! forward {
    ($($pointer:ty)*) => {$(
        impl<O: Objects + ?Sized> Objects for $pointer {
            fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
                self.deref().get(key)
            }
            fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
                self.deref().get_range(key, range)
            }
            fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
                self.deref().put(key, bytes)
            }
            fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
                self.deref().replace(key, bytes, old)
            }
            fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
                self.deref().list(prefix, found)
            }
            fn delete(&self, key: &str) -> io::Result<()> {
                self.deref().delete(key)
            }
            fn time(&self) -> io::Result<Option<SystemTime>> {
                self.deref().time()
            }
            fn identity(&self) -> Option<String> {
                self.deref().identity()
            }
            fn lock_file(&self) -> io::Result<Option<File>> {
                self.deref().lock_file()
            }
            fn check_conditions(&self) -> io::Result<()> {
                self.deref().check_conditions()
            }
            fn give_up(&self) {
                self.deref().give_up()
            }
        }
    )*};
}

forward!(Box<O> Arc<O> &O);
