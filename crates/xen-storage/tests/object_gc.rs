//! Collecting the garbage of a store whose disks are written meanwhile.
#![cfg(feature = "object")]

mod common;

use common::objects::{Client, Memory, options};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use xen_storage::storage::Storage;
use xen_storage::storage::object::{Collect, Listed, Make, Object, Objects, Unavailable, collect};

/// A client that something else happens before, or whose requests fail.
struct Hooked<F> {
    client: Client,
    /// Is told of a request and its key.
    before: F,
}

impl<F: Fn(&str, &str) -> io::Result<()> + Send + Sync> Objects for Hooked<F> {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        (self.before)("get", key)?;
        self.client.get(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        (self.before)("put", key)?;
        self.client.put(key, bytes)
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        (self.before)("put", key)?;
        self.client.replace(key, bytes, old)
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        self.client.list(prefix, found)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.client.delete(key)
    }
    fn check_conditions(&self) -> io::Result<()> {
        (self.before)("put", "trials/1")?;
        self.client.check_conditions()
    }
}

fn how() -> Collect {
    Collect { settle: Duration::ZERO, ..Collect::new(Duration::ZERO) }
}

/// A writer that makes checkpoints faster than its log is read does not hold the collector up.
#[test]
fn gc_beside_a_fast_writer_ends() {
    let store = Memory::default();
    Object::create(&store.client(), "disk", &Make::new(1 << 20)).unwrap();
    let disk = Object::open(store.client(), "disk", options()).unwrap();
    let count = AtomicU64::new(0);
    let flush = || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        disk.write(number % 256 * 4096, &[number as u8 + 1; 4096]).unwrap();
        disk.flush().unwrap();
        if number.is_multiple_of(16) {
            disk.checkpoint().unwrap();
        }
    };
    (0..80).for_each(|_| flush());
    let reads = AtomicU64::new(0);
    let before = |_: &str, key: &str| {
        if !key.starts_with("logs/") {
            return Ok(());
        }
        // While one record is read, another one is written.
        flush();
        match reads.fetch_add(1, Ordering::Relaxed) {
            ..5000 => Ok(()),
            _ => Err(io::Error::other("the collector has read 5000 records")),
        }
    };
    let client = Hooked { client: store.client(), before };
    let done = collect(&client, &how()).unwrap();
    assert!(done.disks == 1 && done.removed > 0, "{done:?}");
    let written = count.load(Ordering::Relaxed);
    drop(disk);
    let disk = Object::open(store.client(), "disk", options()).unwrap();
    for number in written.saturating_sub(256)..written {
        let mut block = [0; 4096];
        disk.read(number % 256 * 4096, &mut block).unwrap();
        assert_eq!(block, [number as u8 + 1; 4096]);
    }
}

/// SeaweedFS answers so when a bucket is over its quota, and does not say why.
#[test]
fn gc_in_a_store_that_takes_nothing_needs_no_put() {
    let store = Memory::default();
    Object::create(&store.client(), "disk", &Make::new(4 << 20)).unwrap();
    let disk = Object::open(store.client(), "disk", options()).unwrap();
    for round in 1..=2 {
        disk.write(0, &vec![round; 1 << 20]).unwrap();
        disk.flush().unwrap();
    }
    disk.checkpoint().unwrap();
    let before = |request: &str, _: &str| match request {
        "put" => Err(Unavailable::error(io::ErrorKind::ResourceBusy, "it answers 500")),
        _ => Ok(()),
    };
    let client = Hooked { client: store.client(), before };
    let done = collect(&client, &how()).unwrap();
    assert_eq!((done.disks, done.removed), (1, 1));
    let mut bytes = vec![0; 1 << 20];
    disk.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 2));
    // The next one, when there is room, begins and ends as usual.
    collect(&store.client(), &how()).unwrap();
    assert_eq!(store.keys("gc").len(), 1);
}

#[test]
fn gc_where_there_is_no_store_fails_and_makes_nothing() {
    let store = Memory::default();
    let error = collect(&store.client(), &how()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    assert_eq!(store.keys(""), Vec::<String>::new());
    // Once there was a disk, there is one.
    Object::create(&store.client(), "disk", &Make::new(4096)).unwrap();
    store.client().delete("disks/disk").unwrap();
    assert_eq!(collect(&store.client(), &how()).unwrap().disks, 0);
}
