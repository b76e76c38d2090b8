//! Disks in an object store against the model, cut off at any change to the store.
#![cfg(feature = "object")]

mod common;

use common::{Allowed, Folder, Model, ops};
use proptest::prelude::*;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use xen_storage::storage::Storage;
use xen_storage::storage::object::{CHUNK, Cached, Folder as Store, Object, Objects, collect};

/// A little more than one chunk.
const BYTES: u64 = CHUNK as u64 + 24 * 512;

/// A store that is out of reach after a number of changes.
struct Cut(Store, Arc<AtomicU64>);

impl Cut {
    fn change(&self) -> io::Result<()> {
        let left =
            self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
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
    fn lock_file(&self) -> io::Result<Option<File>> {
        self.0.lock_file()
    }
}

fn open(folder: &Folder, left: u64) -> Object<Cut> {
    let store = Cut(Store::open(folder.as_ref()).unwrap(), Arc::new(AtomicU64::new(left)));
    Object::open(store, "disk", Some(BYTES), 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn it_is_a_disk(ops in ops(BYTES / 512, true)) {
        let folder = Folder::new();
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = open(&folder, u64::MAX);
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        model.run(&disk, &[])?;
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
    let disk =
        |name: &str| Object::open(store(), name, Some(4 * u64::from(CHUNK)), 1 << 20).unwrap();
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
    let refused = collect(&store(), later, Duration::from_secs(3600), true).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy, "{refused}");
    drop((one, other));
    let young = collect(&store(), later, Duration::from_secs(3600), false).unwrap();
    assert_eq!((young.disks, young.kept, young.removed), (2, 2, 0));
    assert_eq!(collect(&store(), later, Duration::from_secs(1), false).unwrap().removed, 1);
    let mut bytes = vec![0; 2 * CHUNK as usize];
    let one = disk("one");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_new_length_is_kept_or_not(
        ops in ops(BYTES / 512, false),
        sectors in proptest::collection::vec(1..2 * BYTES / 512, 1..4),
        left in 0u64..8,
    ) {
        let folder = Folder::new();
        let mut model = Model::of(&[0; BYTES as usize]);
        let disk = open(&folder, u64::MAX);
        model.run(&disk, &ops)?;
        disk.flush().unwrap();
        drop(disk);
        let disk = open(&folder, left);
        for bytes in sectors.iter().map(|sectors| sectors * 512) {
            if disk.resize(bytes).is_err() {
                break;
            }
            model.0.resize(bytes as usize, Some(0));
        }
        drop(disk);
        let disk = open(&folder, u64::MAX);
        prop_assert_eq!(disk.info().bytes, model.0.len() as u64);
        model.run(&disk, &[])?;
    }
}

#[test]
fn what_is_written_while_the_length_changes_is_kept() {
    let folder = Folder::new();
    let disk = open(&folder, u64::MAX);
    disk.write(BYTES - 512, &[1; 512]).unwrap();
    disk.resize(BYTES + 512).unwrap();
    disk.write(BYTES, &[2; 512]).unwrap();
    disk.resize(BYTES - 512).unwrap();
    assert!(disk.write(BYTES - 512, &[3; 512]).is_err());
    disk.resize(4 * BYTES).unwrap();
    let mut bytes = [9; 1024];
    disk.read(BYTES - 512, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024], "new bytes are zero");
    assert!(
        disk.resize(0).is_err()
            && disk.resize(700).is_err()
            && disk.resize(u64::MAX - 511).is_err()
    );
}

/// A store whose answers are lost: it does what it is told, and says that it failed.
struct Lost(Store, AtomicBool);

impl Objects for Lost {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.0.get(key)
    }
    fn has(&self, key: &str) -> io::Result<bool> {
        self.0.has(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.put(key, bytes)
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        let done = self.0.replace(key, bytes, old)?;
        match self.1.swap(false, Ordering::Relaxed) {
            true => Err(io::Error::other("no answer")),
            false => Ok(done),
        }
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        self.0.list(prefix)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.0.delete(key)
    }
}

#[test]
fn a_flush_whose_answer_was_lost_is_no_other_program() {
    let folder = Folder::new();
    let lost = Arc::new(Lost(Store::open(folder.as_ref()).unwrap(), AtomicBool::new(false)));
    let disk = Object::open(lost.clone(), "disk", Some(BYTES), 1).unwrap();
    for written_meanwhile in [false, true] {
        disk.write(0, &[1 + u8::from(written_meanwhile); 512]).unwrap();
        lost.1.store(true, Ordering::Relaxed);
        assert_eq!(disk.flush().unwrap_err().to_string(), "no answer");
        if written_meanwhile {
            disk.write(512, &[9; 512]).unwrap();
        }
        disk.flush().unwrap();
    }
    let mut bytes = [0; 1024];
    open(&folder, 0).read(0, &mut bytes).unwrap();
    assert!(bytes[..512] == [2; 512] && bytes[512..] == [9; 512]);
    // Another program is still found out.
    let other = open(&folder, u64::MAX);
    other.write(0, &[3; 512]).unwrap();
    other.flush().unwrap();
    disk.write(0, &[4; 512]).unwrap();
    assert!(disk.flush().unwrap_err().to_string().contains("served twice"));
}

fn cached(folder: &Folder, most: u64) -> Object<Cached<Store>> {
    let cached =
        Cached::open(Store::open(folder.as_ref()).unwrap(), &folder.path("cache"), most).unwrap();
    Object::open(cached, "disk", Some(4 * u64::from(CHUNK)), 1).unwrap()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_cache_serves_what_the_store_has_lost_and_is_no_longer_than_it_may_be() {
    let folder = Folder::new();
    let chunk = u64::from(CHUNK);
    let most = 2 * chunk;
    let disk = cached(&folder, most);
    for number in 0..4 {
        disk.write(number * chunk, &[1 + number as u8; 512]).unwrap();
    }
    disk.flush().unwrap();
    assert_eq!(files(&folder.path("cache")).len(), 2);
    let cache_has = |number: u64| {
        let hidden = folder.path("hidden");
        std::fs::rename(folder.path("chunks"), &hidden).unwrap();
        let mut bytes = [0; 512];
        let done = cached(&folder, most).read(number * chunk, &mut bytes);
        std::fs::remove_dir_all(folder.path("chunks")).unwrap();
        std::fs::rename(&hidden, folder.path("chunks")).unwrap();
        assert!(done.is_err() || bytes == [1 + number as u8; 512]);
        done.is_ok()
    };
    assert_eq!([0, 1, 2, 3].map(cache_has), [false, false, true, true]);
    // What is read comes in, and what was not used for longest goes.
    cached(&folder, most).read(0, &mut [0; 512]).unwrap();
    assert_eq!([0, 1].map(cache_has), [true, false]);
    assert_eq!(files(&folder.path("cache")).len(), 2);
    cached(&folder, 0);
    assert_eq!(files(&folder.path("cache")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_cache_may_be_damaged_or_vanish() {
    let folder = Folder::new();
    let disk = cached(&folder, 1 << 30);
    disk.write(0, &[7; 512]).unwrap();
    disk.flush().unwrap();
    let read = |disk: &Object<Cached<Store>>| {
        let mut bytes = [0; 512];
        disk.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 512]);
    };
    let kept = files(&folder.path("cache")).remove(0);
    std::fs::write(&kept, vec![8; CHUNK as usize]).unwrap();
    std::fs::write(folder.path("cache/work-1-2"), [0]).unwrap();
    std::fs::write(folder.path("cache/notes"), [0]).unwrap();
    let open = cached(&folder, 1 << 30);
    assert!(!folder.path("cache/work-1-2").exists() && folder.path("cache/notes").exists());
    read(&open);
    assert_eq!(std::fs::read(&kept).unwrap()[..512], [7; 512]);
    let open = cached(&folder, 1 << 30);
    std::fs::remove_dir_all(folder.path("cache")).unwrap();
    read(&open);
    open.write(512, &[9; 512]).unwrap();
    open.flush().unwrap();
}

#[cfg(feature = "cloud")]
#[test]
fn a_store_behind_a_url_is_one_as_well() {
    use xen_storage::storage::object::Remote;
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
    let gc = |grace| collect(&store, old, Duration::from_secs(grace), false);
    assert!(gc(0).is_err(), "a manifest that cannot be read");
    store.delete("disks/x").unwrap();
    assert_eq!(gc(3600).unwrap().removed, 0, "the store's own clock counts, if it is earlier");
    assert_eq!(gc(0).unwrap().removed, 1);
    let disk = Object::open(store, "disk", Some(BYTES), 1 << 20).unwrap();
    disk.write(512, &[7; 512]).unwrap();
    disk.flush().unwrap();
    disk.write(512, &[8; 512]).unwrap();
    disk.flush().unwrap();
}

/// Names that stores encode: their disks are found, and their chunks stay. In the store that
/// `tests/s3.sh` names, if it does.
#[cfg(feature = "cloud")]
#[test]
fn gc_keeps_the_chunks_of_disks_with_any_name() {
    use xen_storage::storage::object::Remote;
    let url = std::env::var("XEN_DISK_TEST_URL")
        .map_or("memory:///folder".into(), |url| format!("{url}/names-{}", std::process::id()));
    let store = std::sync::Arc::new(Remote::open(&url).unwrap());
    let names = ["b\u{fc}ro", "a#b", "a b", "100%", "%25", "a?b", "a~b", "ab..c"];
    let open = |name: &str| Object::open(store.clone(), name, Some(BYTES), 1 << 20).unwrap();
    for name in names {
        let disk = open(name);
        disk.write(0, &[name.len() as u8 + 1; 512]).unwrap();
        disk.flush().unwrap();
    }
    let collected = collect(&store, SystemTime::now(), Duration::ZERO, false).unwrap();
    assert_eq!((collected.disks, collected.removed), (names.len(), 0));
    let has = |name: &str| {
        let mut bytes = [0; 512];
        open(name).read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [name.len() as u8 + 1; 512], "{name}");
    };
    names.into_iter().for_each(has);

    // A writer that was taken for dead, and comes back.
    let writer = open(names[0]);
    writer.write(0, &[99; 512]).unwrap();
    assert!(collect(&store, SystemTime::now(), Duration::ZERO, false).is_err(), "it is in use");
    collect(&store, SystemTime::now(), Duration::ZERO, true).unwrap();
    let error = writer.flush().unwrap_err().to_string();
    assert!(error.contains("served twice"), "{error}");
    drop(writer);
    names.into_iter().for_each(has);

    // A manifest that cannot be read keeps everything.
    store.put("disks/damaged", b"no manifest").unwrap();
    let error = collect(&store, SystemTime::now(), Duration::ZERO, true).unwrap_err().to_string();
    assert!(error.contains("disks/damaged") && error.contains("nothing was removed"), "{error}");
    names.into_iter().for_each(has);
}

/// In a store in the network; `tests/s3.sh` starts one and says where it is.
#[cfg(feature = "cloud")]
#[test]
fn the_slower_of_two_programs_fails_with_a_bucket_as_well() {
    use xen_storage::storage::object::Remote;
    let Ok(url) = std::env::var("XEN_DISK_TEST_URL") else { return };
    let open = || Object::open(Remote::open(&url).unwrap(), "two", Some(BYTES), 1).unwrap();
    let (one, other) = (open(), open());
    one.write(0, &[1; 512]).unwrap();
    other.write(0, &[2; 512]).unwrap();
    one.flush().unwrap();
    assert!(other.flush().unwrap_err().to_string().contains("served twice"));
    one.write(512, &[3; 512]).unwrap();
    one.flush().unwrap();
    let mut bytes = [0; 1024];
    open().read(0, &mut bytes).unwrap();
    assert!(bytes[..512] == [1; 512] && bytes[512..] == [3; 512]);
}

/// A writer that was taken for dead comes back after its garbage was collected by force: it fails,
/// and does not name chunks that are gone.
#[test]
fn gc_by_force_fences_a_writer_that_comes_back() {
    let folder = Folder::new();
    let open = || Store::open(folder.as_ref()).unwrap();
    drop(Object::open(open(), "disk", Some(BYTES), 1 << 20).unwrap());
    let writer = Object::open(Unlocked(open()), "disk", None, 1 << 20).unwrap();
    writer.write(0, &[1; 512]).unwrap();
    writer.flush().unwrap();
    writer.write(0, &[2; 512]).unwrap();
    let collected = collect(&Unlocked(open()), SystemTime::now(), Duration::ZERO, true).unwrap();
    assert_eq!((collected.disks, collected.removed), (1, 0));
    let error = writer.flush().unwrap_err().to_string();
    assert!(error.contains("served twice"), "{error}");
    let again = Object::open(open(), "disk", None, 1 << 20).unwrap();
    let mut bytes = [0; 512];
    again.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 512]);
}

/// A store without locks, as those in the network are.
struct Unlocked(Store);

impl Objects for Unlocked {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.0.get(key)
    }
    fn has(&self, key: &str) -> io::Result<bool> {
        self.0.has(key)
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.put(key, bytes)
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.0.replace(key, bytes, old)
    }
    fn list(&self, prefix: &str) -> io::Result<Vec<(String, SystemTime)>> {
        self.0.list(prefix)
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.0.delete(key)
    }
}
