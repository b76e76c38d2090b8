//! Collecting the garbage of an object store beside other processes that use it.
#![cfg(feature = "object")]

#[path = "../../../crates/xen-storage/tests/common/mod.rs"]
mod common;

use common::Folder;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use xen_storage::storage::Storage;
use xen_storage::storage::object::{CHUNK, Folder as Store, Object, Objects, collect};

const BYTES: u64 = 2 * CHUNK as u64;
/// Set for the process that uses a store, to the store.
const STORE: &str = "XEN_DISK_TEST_STORE";

/// Runs the program itself.
fn gc(folder: &Folder) -> Output {
    let store = folder.path("");
    Command::new(env!("CARGO_BIN_EXE_xen-disk"))
        .arg("gc")
        .arg(store)
        .args(["--grace", "0"])
        .output()
        .unwrap()
}

/// Only as the process that `user` starts: has a disk until it is killed or its input ends.
#[test]
fn child() {
    let Ok(store) = std::env::var(STORE) else { return };
    let disk = Object::open(Store::open(store.as_ref()).unwrap(), "disk", None, 1 << 20).unwrap();
    println!("\nopen");
    io::stdin().read_line(&mut String::new()).unwrap();
    // What was garbage meanwhile is used again.
    disk.write(0, &vec![1; CHUNK as usize]).unwrap();
    disk.flush().unwrap();
}

fn user(folder: &Folder) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(STORE, folder.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the child ended early");
    // It goes on printing to nobody.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// A store with a disk whose first chunk was something else before: that is garbage.
fn store(folder: &Folder) {
    let disk =
        Object::open(Store::open(folder.as_ref()).unwrap(), "disk", Some(BYTES), 1 << 20).unwrap();
    for byte in [1, 2] {
        disk.write(0, &vec![byte; CHUNK as usize]).unwrap();
        disk.flush().unwrap();
    }
}

fn first_byte(folder: &Folder) -> u8 {
    let disk = Object::open(Store::open(folder.as_ref()).unwrap(), "disk", None, 1 << 20).unwrap();
    let mut bytes = [0; 512];
    disk.read(0, &mut bytes).unwrap();
    bytes[0]
}

#[test]
fn what_another_process_may_use_again_stays() {
    let folder = Folder::new();
    store(&folder);
    let mut user = user(&folder);
    let refused = gc(&folder);
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("in use"),
        "{refused:?}"
    );
    drop(user.stdin.take());
    assert!(user.wait().unwrap().success());
    // The chunk that was garbage is the disk's again, and what it had instead is garbage.
    assert!(String::from_utf8_lossy(&gc(&folder).stdout).contains("1 chunks removed"));
    assert_eq!(first_byte(&folder), 1);
}

#[test]
fn a_process_that_was_killed_is_in_nobodys_way() {
    let folder = Folder::new();
    store(&folder);
    let mut user = user(&folder);
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(String::from_utf8_lossy(&gc(&folder).stdout).contains("1 chunks removed"));
    assert_eq!(first_byte(&folder), 2);
}

#[test]
fn nobody_opens_a_disk_while_garbage_is_collected() {
    let folder = Folder::new();
    store(&folder);
    let lock: File = Store::open(folder.as_ref()).unwrap().lock_file().unwrap().unwrap();
    lock.lock().unwrap();
    let error = Object::open(Store::open(folder.as_ref()).unwrap(), "disk", None, 1).err().unwrap();
    assert!(error.to_string().contains("garbage is being collected"), "{error}");
    drop(lock);
    assert_eq!(first_byte(&folder), 2);
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

#[test]
fn without_locks_users_and_the_collector_see_each_other() {
    let folder = Folder::new();
    store(&folder);
    let unlocked = || Unlocked(Store::open(folder.as_ref()).unwrap());
    let open = || Object::open(unlocked(), "disk", None, 1 << 20);
    let collect = |force| {
        collect(&unlocked(), SystemTime::now() + Duration::from_secs(9), Duration::ZERO, force)
    };
    let disks = [open().unwrap(), open().unwrap()];
    let error = collect(false).unwrap_err().to_string();
    assert!(error.contains("in use 2 times") && error.contains("disk disk, process"), "{error}");
    assert!(unlocked().get("collector").unwrap().is_none(), "a refused collector is none");
    drop(disks);
    // One that was killed is still said to collect.
    unlocked().put("collector", b"process 7 on mars").unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("process 7 on mars"), "{error}");
    assert!(unlocked().list("users/").unwrap().is_empty(), "a refused user is none");
    assert!(collect(false).unwrap_err().to_string().contains("process 7 on mars"));
    unlocked().put("users/disk-9", b"disk disk, process 9 on mars").unwrap();
    assert_eq!(collect(true).unwrap().removed, 1);
    assert!(unlocked().list("users/").unwrap().is_empty() && open().is_ok());
}
