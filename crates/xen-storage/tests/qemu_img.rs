//! Images beside QEMU's own tools: what those write is read here, and what is written here is read
//! and checked by them. Needs `qemu-img` and `qemu-io` (Debian's qemu-utils).
#![cfg(feature = "formats")]

mod common;

use common::{Folder, Model, Op, pattern};
use std::path::Path;
use std::process::Command;
use xen_storage::stack::{Files, build, create};
use xen_storage::storage::Storage;

/// Several clusters and blocks, and less than a whole one at the end.
const BYTES: u64 = (5 << 20) + 7 * 512;

/// Runs one of QEMU's tools in `folder`, with success.
fn qemu(folder: &Folder, words: &str) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).current_dir(folder.path("")).output();
    let done =
        done.unwrap_or_else(|error| panic!("{}: {error}: apt-get install qemu-utils", words[0]));
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Returns the bytes that QEMU finds in the image `name`.
fn raw(folder: &Folder, format: &str, name: &str) -> Vec<u8> {
    qemu(folder, &format!("qemu-img convert -f {format} -O raw {name} {name}.raw"));
    std::fs::read(folder.path(&format!("{name}.raw"))).unwrap()
}

/// A disk with data, holes, and data that are zero.
fn source(folder: &Folder) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    for (from, to) in [
        (0, 1024),
        (200_704, 400_896),
        (2 << 20, (2 << 20) + 512),
        (BYTES as usize - 512, BYTES as usize),
    ] {
        bytes[from..to].copy_from_slice(&pattern(BYTES)[from..to]);
    }
    std::fs::write(folder.path("source"), &bytes).unwrap();
    bytes
}

fn open(path: &Path, stack: &str) -> Result<std::sync::Arc<dyn Storage>, String> {
    let stack = stack.replace("PATH", path.to_str().unwrap());
    build(&stack, &Files::default()).map_err(|error| error.to_string())
}

/// Checks that the disk has these bytes and then nothing but zeros.
fn holds(disk: &dyn Storage, bytes: &[u8]) {
    let mut found = vec![9; disk.info().bytes as usize];
    disk.read(0, &mut found).unwrap();
    let first = found.iter().zip(bytes).position(|(found, want)| found != want);
    assert_eq!(first, None, "the first byte that differs");
    assert!(
        found.len() >= bytes.len() && found[bytes.len()..].iter().all(|byte| *byte == 0),
        "what is behind"
    );
}

/// Kinds of images: QEMU's name and options, and ours.
const QCOW2: [(&str, &str); 5] = [
    ("qcow2 -o cluster_size=512", "qcow2:PATH"),
    ("qcow2 -o cluster_size=4096,compat=0.10", "qcow2:PATH"),
    ("qcow2 -o cluster_size=65536,lazy_refcounts=on", "qcow2:PATH"),
    ("qcow2 -o cluster_size=2097152,refcount_bits=64", "qcow2:PATH"),
    ("qcow2 -o preallocation=metadata", "qcow2:PATH"),
];
const VHD: [(&str, &str); 2] = [
    ("vpc -o subformat=dynamic,force_size=on", "vhd:PATH"),
    ("vpc -o subformat=fixed,force_size=on", "vhd:PATH"),
];
const READ_ONLY: [(&str, &str); 4] = [
    ("qcow2 -c", "qcow2:PATH"),
    ("qcow2 -c -o compression_type=zlib,cluster_size=4096", "qcow2:PATH"),
    ("vmdk -o subformat=monolithicFlat", "vmdk:PATH,trusted"),
    ("vmdk -o subformat=twoGbMaxExtentFlat", "vmdk:PATH,trusted"),
];

#[test]
fn what_qemu_writes_is_read() {
    let folder = Folder::new();
    let bytes = source(&folder);
    for (format, stack) in QCOW2.iter().chain(&VHD).chain(&READ_ONLY) {
        println!("{format}");
        let _ = std::fs::remove_file(folder.path("image"));
        qemu(&folder, &format!("qemu-img convert -f raw -O {format} source image"));
        holds(&*open(&folder.path("image"), stack).unwrap(), &bytes);
    }
    // What cannot be read is said to be so.
    for (format, stack, words) in [
        ("vmdk", "vmdk:PATH,trusted", "sparse"),
        ("qcow2 -o extended_l2=on,cluster_size=131072", "qcow2:PATH", "extended_l2=off"),
        ("qcow2 -c -o compression_type=zstd", "qcow2:PATH", "compression_type=zlib"),
        ("qcow2", "vhd:PATH", "no VHD image"),
        ("vpc", "qcow2:PATH", "no qcow2 image"),
    ] {
        let _ = std::fs::remove_file(folder.path("image"));
        qemu(&folder, &format!("qemu-img convert -f raw -O {format} source image"));
        let error = open(&folder.path("image"), stack).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_is_written_into_qemus_images_is_read_by_qemu() {
    let folder = Folder::new();
    let bytes = source(&folder);
    for (format, stack) in QCOW2.iter().chain(&VHD) {
        println!("{format}");
        let name = format.split(' ').next().unwrap();
        qemu(&folder, &format!("qemu-img convert -f raw -O {format} source image"));
        changed(&folder, name, &*open(&folder.path("image"), stack).unwrap(), &bytes);
    }
}

#[test]
fn the_images_that_are_made_here_are_qemus_too() {
    for (stack, name) in [("qcow2:PATH", "qcow2"), ("vhd:PATH", "vpc")] {
        let folder = Folder::new();
        let path = folder.path("image");
        assert!(create(&stack.replace("PATH", path.to_str().unwrap()), BYTES).unwrap().is_some());
        let disk = open(&path, stack).unwrap();
        if name == "qcow2" {
            disk.resize(BYTES + (64 << 20)).unwrap();
            disk.resize(BYTES + 512).unwrap();
        }
        changed(&folder, name, &*disk, &vec![0; disk.info().bytes as usize]);
    }
}

/// Writes to a disk of these bytes in "image", and has QEMU find what was written.
fn changed(folder: &Folder, format: &str, disk: &dyn Storage, bytes: &[u8]) {
    let sectors = BYTES / 512;
    let mut model = Model::of(bytes);
    // QEMU rounds the length of some images up.
    model.0.resize(disk.info().bytes as usize, Some(0));
    let write = |at, count, byte| Op::Write { at, sectors: count, byte };
    let discard = |at, sectors| Op::Discard { at, sectors, secure: false };
    let mut ops =
        vec![write(3, 200, 1), write(4096, 1, 2), write(sectors - 1, 1, 3), write(0, 1, 4)];
    if disk.info().discard.is_some() {
        ops.extend([discard(256, 1024), discard(1, 5), write(600, 9, 5)]);
    }
    model.run(disk, &ops).unwrap();
    disk.flush().unwrap();
    let mut all = vec![0; disk.info().bytes as usize];
    disk.read(0, &mut all).unwrap();
    // The image as it is after a power failure must be whole, too: it is still open here.
    if format == "qcow2" {
        let said = qemu(folder, "qemu-img check --force-share -f qcow2 image");
        assert!(said.contains("No errors were found"), "{said}");
    }
    let found = raw(folder, &format!("{format} --force-share"), "image");
    assert_eq!(found.len(), all.len(), "the length that QEMU sees");
    assert!(found == all, "QEMU reads something else");
}

#[test]
fn an_image_on_top_of_others_is_read_and_written_if_it_is_trusted() {
    let folder = Folder::new();
    source(&folder);
    qemu(&folder, "qemu-img convert -f raw -O qcow2 source bottom");
    qemu(&folder, "qemu-img create -q -f qcow2 -b bottom -F qcow2 middle");
    let write = ["-f", "qcow2", "-c", "write -P 7 200k 100k"];
    let written = Command::new("qemu-io").args(write).arg(folder.path("middle")).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    qemu(&folder, "qemu-img create -q -f qcow2 -o cluster_size=4096 -b middle -F qcow2 image");
    let before = std::fs::read(folder.path("middle")).unwrap();
    let bytes = raw(&folder, "qcow2", "image");
    let error = open(&folder.path("image"), "qcow2:PATH").err().unwrap();
    assert!(error.contains("\"middle\"") && error.contains("trusted"), "{error}");
    let disk = open(&folder.path("image"), "qcow2:PATH,trusted").unwrap();
    holds(&*disk, &bytes);
    changed(&folder, "qcow2", &*disk, &bytes);
    assert!(std::fs::read(folder.path("middle")).unwrap() == before, "what is below was written");
}

#[test]
fn images_that_stand_on_each_other_are_refused() {
    let folder = Folder::new();
    qemu(&folder, "qemu-img create -q -f qcow2 one 1M");
    qemu(&folder, "qemu-img create -q -f qcow2 -b one -F qcow2 two");
    qemu(&folder, "qemu-img rebase -u -f qcow2 -b two -F qcow2 one");
    let error = open(&folder.path("one"), "qcow2:PATH,trusted").err().unwrap();
    assert!(error.contains("or on itself"), "{error}");
    qemu(&folder, "qemu-img create -q -f qcow2 itself 1M");
    qemu(&folder, "qemu-img rebase -u -f qcow2 -b itself -F qcow2 itself");
    assert!(open(&folder.path("itself"), "qcow2:PATH,trusted").is_err());
}
