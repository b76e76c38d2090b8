//! Disks in an object store against the model, cut off at any change to the store.
#![cfg(feature = "object")]

mod common;

use common::{Allowed, Folder, Model, ops};
use proptest::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use xen_disk::storage::Storage;
use xen_disk::storage::object::{CHUNK, Folder as Store, Object, Objects, collect};

/// A little more than one chunk.
const BYTES: u64 = CHUNK as u64 + 24 * 512;

/// A store that is out of reach after so many changes.
struct Cut(Store, Arc<AtomicU64>);

impl Cut {
    fn change(&self) -> io::Result<()> {
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the store is out of reach"))
    }
}

impl Objects for Cut {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.0.get(key)
    }
    fn has(&self, key: &str) -> io::Result<bool> {
        self.0.has(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.change().and_then(|()| self.0.put(key, bytes))
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.change().and_then(|()| self.0.replace(key, bytes, old))
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        self.0.list(prefix)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.0.delete(key)
    }
}

fn open(folder: &Folder, left: u64) -> Object<Cut> {
    let store = Cut(Store::open(folder.as_ref()).unwrap(), Arc::new(AtomicU64::new(left)));
    Object::open(store, "disk", Some(BYTES), 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn it_is_a_disk(ops in ops(BYTES / 512, false)) {
        let folder = Folder::new();
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = open(&folder, u64::MAX);
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        model.run(&open(&folder, 0), &[])?;
    }

    #[test]
    fn what_was_flushed_is_there_after_the_program_was_killed(ops in ops(BYTES / 512, false), left in 1u64..12) {
        let folder = Folder::new();
        let mut allowed = Allowed::of(&[0; BYTES as usize]);
        allowed.run(&open(&folder, left), &ops);
        allowed.check(&open(&folder, 0))?;
    }
}

#[test]
fn the_same_bytes_are_kept_once_and_garbage_is_collected() {
    let folder = Folder::new();
    let store = || Store::open(folder.as_ref()).unwrap();
    let disk = |name: &str| Object::open(store(), name, Some(4 * u64::from(CHUNK)), 1 << 20).unwrap();
    let (one, other) = (disk("one"), disk("other"));
    for disk in [&one, &other] {
        disk.write(0, &vec![7; CHUNK as usize]).unwrap();
        disk.write(u64::from(CHUNK), &vec![7; CHUNK as usize]).unwrap();
        disk.flush().unwrap();
    }
    assert_eq!(store().list("chunks/").unwrap().len(), 1);
    one.write(0, &vec![8; CHUNK as usize]).unwrap();
    one.flush().unwrap();
    one.write(0, &vec![9; CHUNK as usize]).unwrap();
    one.flush().unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    let young = collect(&store(), later, Duration::from_secs(3600)).unwrap();
    assert_eq!((young.disks, young.kept, young.removed), (2, 2, 0));
    assert_eq!(collect(&store(), later, Duration::from_secs(1)).unwrap().removed, 1);
    let mut bytes = vec![0; 2 * CHUNK as usize];
    one.read(0, &mut bytes).unwrap();
    assert!(bytes[..CHUNK as usize].iter().all(|byte| *byte == 9) && bytes[CHUNK as usize] == 7);
}

#[test]
fn the_slower_of_two_programs_fails() {
    let folder = Folder::new();
    let (one, other) = (open(&folder, u64::MAX), open(&folder, u64::MAX));
    one.write(0, &[1; 512]).unwrap();
    other.write(0, &[2; 512]).unwrap();
    one.flush().unwrap();
    let error = other.flush().unwrap_err();
    assert!(error.to_string().contains("served twice"), "{error}");
}

#[test]
fn a_chunk_that_was_changed_in_the_store_is_not_served() {
    let folder = Folder::new();
    let disk = open(&folder, u64::MAX);
    disk.write(0, &[1; 512]).unwrap();
    disk.flush().unwrap();
    let (key, _) = Store::open(folder.as_ref()).unwrap().list("chunks/").unwrap().remove(0);
    std::fs::write(folder.path(&key), vec![2; CHUNK as usize]).unwrap();
    let error = open(&folder, 0).read(0, &mut [0; 512]).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[cfg(feature = "cloud")]
#[test]
fn a_store_behind_a_url_is_one_as_well() {
    use xen_disk::storage::object::Remote;
    let store = Remote::open("memory:///folder").unwrap();
    assert!(store.get("disks/x").unwrap().is_none() && !store.has("chunks/x").unwrap());
    let first = store.replace("disks/x", b"1", None).unwrap();
    let second = store.replace("disks/x", b"2", Some(&first)).unwrap();
    for stale in [None, Some(&*first)] {
        let error = store.replace("disks/x", b"3", stale).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    assert_eq!(store.get("disks/x").unwrap(), Some((b"2".to_vec(), second)));
    store.put("chunks/y", b"4").unwrap();
    assert_eq!(store.list("chunks/").unwrap()[0].0, "chunks/y");
    let old = SystemTime::now() + Duration::from_secs(7200);
    assert!(collect(&store, old, Duration::from_secs(3600)).is_err(), "a manifest that cannot be read");
    store.delete("disks/x").unwrap();
    assert_eq!(collect(&store, old, Duration::from_secs(3600)).unwrap().removed, 1);
    let disk = Object::open(store, "disk", Some(BYTES), 1 << 20).unwrap();
    disk.write(512, &[7; 512]).unwrap();
    disk.flush().unwrap();
    disk.write(512, &[8; 512]).unwrap();
    disk.flush().unwrap();
}
