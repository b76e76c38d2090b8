//! An overlay notices that what it stands on was changed, over every storage, by the contents.

mod common;

use common::Folder;
use std::fs::File;
use std::path::Path;
use std::time::SystemTime;
use xen_storage::stack::{self, Files, build};
use xen_storage::storage::Storage;

const BYTES: u64 = 8 << 20;
/// Places of changes that are noticed: the beginning, and the last sector.
const PLACES: [u64; 2] = [0, BYTES - 512];

/// The storages that can lie below an overlay, and be written.
fn bases(folder: &Folder) -> Vec<(String, Vec<&'static str>)> {
    let path = |name: &str| folder.path(name).display().to_string();
    let mut bases = vec![
        (format!("file:{}", path("raw")), vec!["raw"]),
        (format!("mmap:{}", path("mapped")), vec!["mapped"]),
        (format!("vhd:{}", path("vhd")), vec!["vhd"]),
        (format!("verify/file:{}", path("layered")), vec!["layered"]),
    ];
    if cfg!(feature = "formats") {
        bases.push((format!("qcow2:{}", path("qcow2")), vec!["qcow2"]));
    }
    if cfg!(feature = "object") {
        bases.push((format!("object:{},name=disk,size={BYTES}", path("store")), vec![]));
    }
    bases
}

fn open(stack: &str) -> Result<std::sync::Arc<dyn Storage>, String> {
    build(stack, &Files::default()).map_err(|error| error.to_string())
}

fn write(stack: &str, at: u64, byte: u8) {
    let disk = open(stack).unwrap();
    disk.write(at, &[byte; 512]).unwrap();
    disk.flush().unwrap();
}

fn read(stack: &str, at: u64) -> u8 {
    let mut bytes = [0; 512];
    open(stack).unwrap().read(at, &mut bytes).unwrap();
    bytes[0]
}

/// Does `change`, and gives the files the times that they had before, as a device has none.
fn unseen(folder: &Folder, files: &[&str], change: impl FnOnce()) {
    let open = |name: &&str| File::options().write(true).open(folder.path(name)).unwrap();
    let times: Vec<SystemTime> =
        files.iter().map(|name| open(name).metadata().unwrap().modified().unwrap()).collect();
    change();
    files.iter().zip(times).for_each(|(name, time)| open(name).set_modified(time).unwrap());
}

#[test]
fn changed_base_is_refused_over_every_storage_until_rebase() {
    let folder = Folder::new();
    for (number, (base, files)) in bases(&folder).into_iter().enumerate() {
        let made = stack::create(base.trim_start_matches("verify/"), BYTES).unwrap();
        assert!(made.is_some() || base.starts_with("object"), "{base}");
        write(&base, 1 << 20, 5);
        let changes = folder.path(&format!("changes-{number}"));
        let stack = format!("overlay:\"{}\"/{base}", changes.display());
        write(&stack, 4 << 20, 6);
        open(&stack).unwrap_or_else(|error| panic!("unchanged: {error}"));
        for (n, at) in PLACES.into_iter().enumerate() {
            unseen(&folder, &files, || write(&base, at, 7 + n as u8));
            let refused = open(&stack).err().unwrap_or_else(|| panic!("{base}: change at {at}"));
            assert!(refused.contains("rebase"), "{base}: {refused}");
            assert!(stack::commit(&stack).is_err(), "{base}: the changes were moved into another");
            stack::rebase(&stack).unwrap();
            assert_eq!((read(&stack, at), read(&stack, 4 << 20)), (7 + n as u8, 6), "{base}");
        }
    }
}

/// A file whose time alone tells of a change in a place that is no sample.
#[test]
fn changed_file_is_refused_by_its_time_as_well() {
    let folder = Folder::new();
    let raw = folder.path("raw");
    File::create(&raw).unwrap().set_len(1 << 32).unwrap();
    let stack = format!("overlay:\"{}\"/file:{}", folder.path("changes").display(), raw.display());
    write(&stack, 0, 1);
    let touch = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    touch(&raw);
    let refused = open(&stack).err().unwrap();
    assert!(refused.contains("rebase"), "{refused}");
    stack::rebase(&stack).unwrap();
    assert_eq!(read(&stack, 0), 1);
}
