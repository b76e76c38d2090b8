//! Collecting the garbage of an object store beside other processes that use it.
#![cfg(feature = "object")]

#[path = "../../../crates/xen-storage/tests/common/mod.rs"]
mod common;

use common::Folder;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use xen_storage::storage::Storage;
use xen_storage::storage::object::{
    CHUNK, Collect, Folder as Store, Make, Object, Objects, Options, collect,
};

const BYTES: u64 = 2 * CHUNK as u64;
/// Set for the process that uses a store, to the store.
const STORE: &str = "XEN_DISK_TEST_STORE";

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xen-disk")).args(args).output().unwrap()
}

/// Runs the program itself, and returns what it prints.
fn prints(args: &[&str]) -> String {
    let done = run(args);
    assert!(done.status.success(), "{args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn text(folder: &Folder) -> String {
    folder.path("store").display().to_string()
}

fn open(folder: &Folder, name: &str) -> io::Result<Object<Store>> {
    let store = Store::open(&folder.path("store")).unwrap();
    Object::create(&store, name, &Make::new(BYTES)).unwrap();
    Object::open(store, name, Options::default())
}

/// Only as the process that `user` starts: has a disk until it is killed or its input ends.
#[test]
fn child() {
    let Ok(store) = std::env::var(STORE) else { return };
    let store = Store::open(store.as_ref()).unwrap();
    let disk = Object::open(store, "disk", Options::default()).unwrap();
    println!("\nopen");
    io::stdin().read_line(&mut String::new()).unwrap();
    // What was garbage meanwhile is used again.
    disk.write(0, &vec![1; CHUNK as usize]).unwrap();
    disk.flush().unwrap();
}

fn user(folder: &Folder) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(STORE, folder.path("store"))
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
fn fill(folder: &Folder) {
    let disk = open(folder, "disk").unwrap();
    for byte in [1, 2] {
        disk.write(0, &vec![byte; CHUNK as usize]).unwrap();
        disk.flush().unwrap();
    }
    disk.checkpoint().unwrap();
}

fn first_byte(disk: &dyn Storage) -> u8 {
    let mut bytes = [0; 512];
    disk.read(0, &mut bytes).unwrap();
    bytes[0]
}

#[test]
fn garbage_is_collected_while_another_process_has_a_disk() {
    let folder = Folder::new();
    fill(&folder);
    let mut user = user(&folder);
    let store = Store::open(&folder.path("store")).unwrap();
    // The process sees the collector when it flushes: no long wait is needed for it here.
    let settle = Duration::from_millis(100);
    let now = SystemTime::now() + Duration::from_secs(9);
    let how = Collect { now, settle, ..Collect::new(Duration::ZERO) };
    assert_eq!(collect(&store, &how).unwrap().removed, 1);
    drop(user.stdin.take());
    assert!(user.wait().unwrap().success());
    assert_eq!(first_byte(&open(&folder, "disk").unwrap()), 1);
}

#[test]
fn process_that_was_killed_is_in_nobodys_way() {
    let folder = Folder::new();
    fill(&folder);
    let mut user = user(&folder);
    let error = open(&folder, "disk").err().unwrap().to_string();
    assert!(error.contains(&format!("in use by process {}", user.id())), "{error}");
    let stack = format!("object:{}", text(&folder));
    let refused = run(&["convert", "ram:size=1M", &stack]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && error.contains("in use by process"), "{error}");
    user.kill().unwrap();
    user.wait().unwrap();
    assert_eq!(first_byte(&open(&folder, "disk").unwrap()), 2);
    assert!(prints(&["gc", &text(&folder), "--grace", "0"]).contains("chunks removed"));
    assert_eq!(first_byte(&open(&folder, "disk").unwrap()), 2);
}

#[test]
fn gc_of_a_path_that_does_not_exist_fails_and_creates_nothing() {
    let folder = Folder::new();
    for command in [&["gc"][..], &["store", "list"], &["store", "usage"]] {
        let store = text(&folder);
        let refused = run(&[command, &[&store]].concat());
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && error.contains("no object store"), "{error}");
    }
    assert!(!folder.path("store").exists());
}

#[test]
fn nobody_opens_a_disk_while_one_collects_alone() {
    let folder = Folder::new();
    fill(&folder);
    let lock = Store::open(&folder.path("store")).unwrap().lock_file().unwrap().unwrap();
    lock.lock().unwrap();
    let error = open(&folder, "disk").err().unwrap();
    assert!(error.to_string().contains("garbage is being collected"), "{error}");
    drop(lock);
    assert_eq!(first_byte(&open(&folder, "disk").unwrap()), 2);
}

#[test]
fn disks_of_a_store_are_listed_copied_and_removed() {
    let folder = Folder::new();
    fill(&folder);
    let store = text(&folder);
    let served = open(&folder, "disk").unwrap();
    prints(&["store", "snapshot", &store, "disk", "before"]);
    served.write(0, &vec![3; CHUNK as usize]).unwrap();
    served.flush().unwrap();
    prints(&["store", "clone", &store, "disk@before", "copy"]);
    let listed = prints(&["store", "list", &store]);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[1].starts_with("copy ") && lines[2].starts_with("disk "), "{listed}");
    assert!(lines[2].contains("process") && lines[3].contains("snapshot"), "{listed}");
    let usage = prints(&["store", "usage", &store, "--json"]);
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
    assert_eq!(usage["disks"][0]["logical"], CHUNK);
    assert!(usage["disks"][0]["shared"].as_u64().unwrap() >= CHUNK.into(), "{usage}");
    assert!(usage["disks"][1]["unique"].as_u64().unwrap() >= CHUNK.into(), "{usage}");

    let refused = run(&["store", "rollback", &store, "disk", "before"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("in use by process"));
    let refused = run(&["store", "remove", &store, "disk"]);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("in use by process"));
    assert_eq!(first_byte(&served), 3);
    drop(served);
    assert!(open(&folder, "disk@before").is_err(), "it is not written");
    prints(&["store", "rollback", &store, "disk", "before"]);
    let disk = open(&folder, "disk").unwrap();
    assert_eq!(first_byte(&disk), 2);
    disk.write(0, &[4; 512]).unwrap();
    disk.flush().unwrap();
    let copy = open(&folder, "copy").unwrap();
    assert_eq!((first_byte(&copy), first_byte(&disk)), (2, 4));
    drop((copy, disk));
    assert_eq!(first_byte(&open(&folder, "disk").unwrap()), 4);
    let taken = run(&["store", "clone", &store, "disk", "copy"]);
    assert!(String::from_utf8(taken.stderr).unwrap().contains("there is a disk copy already"));
    for name in ["copy", "disk", "disk@before"] {
        prints(&["store", "remove", &store, name]);
    }
    assert!(prints(&["gc", &store, "--grace", "0"]).starts_with("0 disks with 0 chunks"));
    assert_eq!(std::fs::read_dir(folder.path("store/chunks")).unwrap().count(), 0);
}
