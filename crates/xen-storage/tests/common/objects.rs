//! Object stores in memory, whose clients are cut off after a number of requests.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use xen_storage::storage::object::{LeaseTimes, Listed, Objects, Options};

/// An object, its version and when it was put.
type Held = (Vec<u8>, u64, SystemTime);

/// A store in memory. Clones are the same store.
#[derive(Clone, Default)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Held>>>,
    versions: Arc<AtomicU64>,
    /// Bytes that were put.
    pub put_bytes: Arc<AtomicU64>,
    /// Number of requests.
    pub requests: Arc<AtomicU64>,
}

/// A client of a store, which is cut off after a number of requests: the last one is carried out,
/// and nobody is told; or it is not.
#[derive(Clone)]
pub struct Client {
    pub store: Memory,
    left: Arc<AtomicU64>,
    last_is_done: bool,
    pub over_quota: Arc<AtomicBool>,
    /// Set once it has been found out in which form conditions are taken: before that, none is kept
    /// to, as in a store of Ceph's.
    checked: Arc<AtomicBool>,
}

impl Memory {
    /// Returns a client that is never cut off.
    pub fn client(&self) -> Client {
        self.cut(u64::MAX, false)
    }

    /// Returns a client that is cut off after `left` requests.
    pub fn cut(&self, left: u64, last_is_done: bool) -> Client {
        let left = Arc::new(AtomicU64::new(left));
        let (over_quota, checked) = (Arc::default(), Arc::default());
        Client { store: self.clone(), left, last_is_done, over_quota, checked }
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    pub fn len(&self, prefix: &str) -> u64 {
        let objects = self.objects.lock().unwrap();
        let found = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(_, (bytes, ..))| bytes.len() as u64).sum()
    }

    /// Changes an object behind the back of its users.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.objects.lock().unwrap().get_mut(key).unwrap().0);
    }

    /// The same to one that may not be there.
    pub fn change_if(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(held) = self.objects.lock().unwrap().get_mut(key) {
            change(&mut held.0);
        }
    }

    fn put(&self, key: &str, bytes: &[u8]) -> String {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        self.put_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let held = (bytes.to_vec(), version, SystemTime::now());
        self.objects.lock().unwrap().insert(key.to_string(), held);
        version.to_string()
    }
}

impl Client {
    fn off() -> io::Error {
        io::Error::other("the store is out of reach")
    }

    fn ask<T>(&self, ask: impl FnOnce(&Memory) -> io::Result<T>) -> io::Result<T> {
        self.store.requests.fetch_add(1, Ordering::Relaxed);
        let left =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        match left {
            Err(_) => Err(Client::off()),
            Ok(1) => {
                if self.last_is_done {
                    let _ = ask(&self.store);
                }
                Err(Client::off())
            }
            Ok(_) => ask(&self.store),
        }
    }

    fn may_put(&self) -> io::Result<()> {
        match self.over_quota.load(Ordering::Relaxed) {
            true => Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the quota is exceeded")),
            false => Ok(()),
        }
    }
}

impl Objects for Client {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.ask(|store| {
            let objects = store.objects.lock().unwrap();
            Ok(objects.get(key).map(|(bytes, version, _)| (bytes.clone(), version.to_string())))
        })
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.may_put()?;
        self.ask(|store| {
            store.put(key, bytes);
            Ok(())
        })
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.may_put()?;
        self.ask(|store| {
            let now = store.objects.lock().unwrap().get(key).map(|held| held.1.to_string());
            let understood = old.is_none() || self.checked.load(Ordering::Relaxed);
            match now.as_deref() == old && understood {
                true => Ok(store.put(key, bytes)),
                false => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it was replaced")),
            }
        })
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        self.ask(|store| {
            for (key, (bytes, _, put)) in &*store.objects.lock().unwrap() {
                if key.starts_with(prefix) {
                    found(Listed { key: key.clone(), put: *put, bytes: bytes.len() as u64 });
                }
            }
            Ok(())
        })
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.ask(|store| {
            store.objects.lock().unwrap().remove(key);
            Ok(())
        })
    }
    fn identity(&self) -> Option<String> {
        Some("memory".into())
    }
    fn check_conditions(&self) -> io::Result<()> {
        self.may_put()?;
        self.checked.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// Options for tests: little is kept in memory, and the dead are known soon.
pub fn options() -> Options {
    let times = LeaseTimes { renew: Duration::from_secs(3600), dead: Duration::from_millis(50) };
    Options { memory: 1, times, ..Options::default() }
}
