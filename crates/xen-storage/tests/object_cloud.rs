//! Disks in a store in the network: `tests/cloud/run.sh` starts some, and says where they are.
//! Without, in one in memory.
#![cfg(feature = "cloud")]

mod common;

use common::objects::options;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use std::env;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use xen_storage::storage::Storage;
use xen_storage::storage::object::{
    Collect, Fenced, Make, Object, Objects, OnOutage, Options, Patient, Remote, collect,
};

const MIB: u64 = 1 << 20;

/// Says where the store is: `s3://bucket/folder`.
const URL: &str = "XEN_DISK_TEST_URL";

/// A folder of its own in the store, of this process and name.
fn url(name: &str) -> String {
    let store = env::var(URL).unwrap_or_else(|_| "memory:///".into());
    format!("{store}/{name}-{}", std::process::id())
}

/// A store that waits for the end of outages, and does not any more once its disk is closed: each
/// disk has one.
type Store = Patient<Arc<Remote>>;

/// In memory each client has contents of its own: there is one for all of a test.
fn remote(name: &str) -> Arc<Remote> {
    Arc::new(Remote::open(&url(name)).unwrap())
}

fn patient(remote: &Arc<Remote>) -> Store {
    Patient::new(remote.clone(), OnOutage::default())
}

/// Opens a disk that is there.
fn reopen(remote: &Arc<Remote>, name: &str) -> Object<Store> {
    let options = Options { take_over: true, ..options() };
    Object::open(patient(remote), name, options).unwrap()
}

/// Makes a disk and opens it.
fn open(remote: &Arc<Remote>, name: &str) -> Object<Store> {
    Object::create(&patient(remote), name, &Make::new(8 * MIB)).unwrap();
    Object::open(patient(remote), name, options()).unwrap()
}

/// A name of bytes in a disk.
fn fill(seed: u64, len: u64) -> Vec<u8> {
    let mut x = seed | 1;
    let word = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    std::iter::repeat_with(word).take(len as usize / 8).flatten().collect()
}

#[test]
fn store_behind_a_url_keeps_conditions() {
    let store = patient(&remote("conditions"));
    store.check_conditions().unwrap();
    assert!(store.get("disks/x").unwrap().is_none());
    let first = store.replace("disks/x", b"1", None).unwrap();
    let second = store.replace("disks/x", b"2", Some(&first)).unwrap();
    for stale in [None, Some(&*first)] {
        let error = store.replace("disks/x", b"3", stale).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
    assert_eq!(store.get("disks/x").unwrap(), Some((b"2".to_vec(), second)));
    store.put("chunks/y", b"0123").unwrap();
    assert_eq!(store.get_range("chunks/y", 1..3).unwrap().unwrap(), b"12");
    store.put("logs/a/1", b"5").unwrap();
    let mut found = Vec::new();
    store.list("logs/", &mut |listed| found.push((listed.key, listed.bytes))).unwrap();
    assert_eq!(found, [("logs/a/1".to_string(), 1)]);
    for key in ["disks/x", "chunks/y", "logs/a/1", "logs/a/1"] {
        store.delete(key).unwrap();
    }
}

#[test]
fn threads_that_put_one_record_at_once_are_told_apart() {
    let store = patient(&remote("race"));
    store.check_conditions().unwrap();
    for round in 0..4 {
        let key = format!("logs/r/{round}");
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8u8)
                .map(|n| {
                    let (store, key) = (&store, &key);
                    scope.spawn(move || store.replace(key, &[n], None).is_ok())
                })
                .collect();
            tries.into_iter().map(|t| u32::from(t.join().unwrap())).sum::<u32>()
        });
        assert_eq!(won, 1, "{key}");
    }
}

#[test]
fn disk_is_written_taken_over_and_collected() {
    let store = remote("life");
    let old = open(&store, "disk");
    for round in 0..20u8 {
        old.write(u64::from(round) * 8192, &[round + 1; 4096]).unwrap();
        old.flush().unwrap();
    }
    old.write(2 * MIB, &fill(1, 2 * MIB)).unwrap();
    old.flush().unwrap();
    old.checkpoint().unwrap();
    old.write(0, &[99; 4096]).unwrap();
    let new = reopen(&store, "disk");
    let error = old.flush().unwrap_err();
    assert!(error.get_ref().unwrap().is::<Fenced>(), "{error}");
    new.write(2 * MIB, &fill(2, 2 * MIB)).unwrap();
    new.flush().unwrap();
    new.checkpoint().unwrap();
    // Stores tell their time in whole seconds.
    std::thread::sleep(Duration::from_millis(2100));
    let now = SystemTime::now() + Duration::from_secs(7200);
    let how = Collect { now, settle: Duration::from_secs(1), ..Collect::new(Duration::ZERO) };
    let done = collect(&patient(&store), &how).unwrap();
    assert!(done.disks == 1 && done.removed > 1, "{done:?}");
    let mut bytes = vec![0; 4 * MIB as usize];
    new.read(0, &mut bytes).unwrap();
    assert!(bytes[2 * MIB as usize..] == fill(2, 2 * MIB));
    assert!((0..20).all(|n| bytes[n * 8192..n * 8192 + 4096] == [n as u8 + 1; 4096]));
}

/// Names that stores encode: their disks are found, and their chunks stay.
#[test]
fn gc_keeps_the_chunks_of_disks_with_any_name() {
    let store = remote("names");
    let names = ["b\u{fc}ro", "a#b", "a b", "100%", "%25", "a?b", "a~b", "ab..c"];
    for name in names {
        let disk = open(&store, name);
        disk.write(0, &fill(name.len() as u64, MIB)).unwrap();
        disk.flush().unwrap();
    }
    let how = Collect { settle: Duration::ZERO, ..Collect::new(Duration::ZERO) };
    let collected = collect(&patient(&store), &how).unwrap();
    assert_eq!((collected.disks, collected.removed), (names.len(), 0));
    for name in names {
        let mut bytes = vec![0; MIB as usize];
        reopen(&store, name).read(0, &mut bytes).unwrap();
        assert!(bytes == fill(name.len() as u64, MIB), "{name}");
    }
    // A head that cannot be read keeps everything.
    patient(&store).put("disks/damaged", b"no disk").unwrap();
    let error = collect(&patient(&store), &how).unwrap_err().to_string();
    assert!(error.contains("disk damaged") && error.contains("nothing was removed"), "{error}");
}

/// However faulty the network is: a proxy before the store can make it so.
#[test]
fn disk_is_what_was_written_whatever_the_network_does() {
    let store = remote("faults");
    let disk = open(&store, "disk");
    let mut model = vec![0u8; 8 * MIB as usize];
    let mut runner = TestRunner::new(Config::default());
    for round in 0..30u64 {
        let strategy = (0u64..2000, 1u64..40);
        let (at, blocks) = strategy.new_tree(&mut runner).unwrap().current();
        let bytes = fill(round + 7, blocks * 4096);
        let range = (at * 4096) as usize..(at * 4096) as usize + bytes.len();
        model[range].copy_from_slice(&bytes);
        disk.write(at * 4096, &bytes).unwrap();
        disk.flush().unwrap();
        if round % 10 == 9 {
            disk.checkpoint().unwrap();
        }
    }
    let compare = |disk: &Object<Store>| {
        let mut bytes = vec![0; model.len()];
        disk.read(0, &mut bytes).unwrap();
        assert!(bytes == model);
    };
    compare(&disk);
    drop(disk);
    compare(&reopen(&store, "disk"));
}
