//! The storage `nbd` and the servers of others.

use crate::common::{Folder, Model, Op, ops, pattern};
use crate::peers::*;
use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use xen_disk::storage::Storage;

const SECTORS: u64 = 2048;
const BYTES: u64 = SECTORS * 512;

/// Does some hundreds of operations, the same in each run, and compares all that comes back.
fn exercise(disk: &dyn Storage, name: &str) {
    let unit = u64::from(disk.info().sector_size);
    let mut runner = TestRunner::deterministic();
    let mut bytes = vec![0; disk.info().bytes as usize];
    disk.read(0, &mut bytes).unwrap();
    let mut model = Model::of(&bytes);
    for _ in 0..6 {
        let ops: Vec<Op> = ops(BYTES / unit, false).new_tree(&mut runner).unwrap().current();
        model.run(disk, &ops).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn fill(disk: &dyn Storage) {
    disk.write(0, &pattern(BYTES)).unwrap();
    disk.flush().unwrap();
}

#[test]
fn server_of_every_kind_keeps_what_is_written() {
    let folder = Folder::new();
    let raw = folder.image("raw", BYTES);
    let raw = raw.display();
    let image = folder.path("image");
    let image = image.display();
    run(&format!("qemu-img convert -f raw -O qcow2 {raw} {image}.qcow2"));
    let secret = "--object secret,id=key,data=ringside";
    let luks = format!("-f luks -O luks {secret} -o key-secret=key,iter-time=10");
    let create = format!("qemu-img create {} {image}.luks 1M", luks.replace("-O luks ", ""));
    // It measures the processor for its key, and says now and then that it could not.
    let created = (0..20).any(|_| try_run(&create).status.success());
    assert!(created, "{create}: {:?}", try_run(&create));
    let opened = format!("driver=luks,key-secret=key,file.filename={image}.luks");
    type Start<'a> = Box<dyn Fn() -> Serving + 'a>;
    let servers: Vec<(&str, Start<'_>)> = vec![
        ("nbdkit memory", Box::new(|| nbdkit(&folder, "memory 1M", "socket"))),
        ("nbdkit file", Box::new(|| nbdkit(&folder, &format!("file {raw}"), "socket"))),
        ("simple replies", Box::new(|| nbdkit(&folder, &format!("--no-sr file {raw}"), "socket"))),
        (
            "no zeroes",
            Box::new(|| {
                nbdkit(&folder, &format!("--filter=nozero file {raw} zeromode=none"), "socket")
            }),
        ),
        (
            "no multi-conn",
            Box::new(|| {
                let words = "--filter=multi-conn memory 1M multi-conn-mode=disable";
                nbdkit(&folder, words, "socket")
            }),
        ),
        (
            "small requests",
            Box::new(|| {
                let words = "--filter=blocksize-policy memory 1M blocksize-maximum=64K";
                nbdkit(&folder, words, "socket")
            }),
        ),
        (
            "sectors of 4096",
            Box::new(|| {
                let words = "--filter=blocksize-policy memory 1M blocksize-minimum=4096";
                nbdkit(&folder, words, "socket")
            }),
        ),
        (
            "slow",
            Box::new(|| {
                nbdkit(&folder, "--filter=delay memory 1M delay-read=3ms delay-write=3ms", "socket")
            }),
        ),
        ("qemu-nbd raw", Box::new(|| qemu_nbd(&folder, &format!("-f raw {raw}"), "socket"))),
        (
            "qemu-nbd qcow2",
            Box::new(|| {
                qemu_nbd(&folder, &format!("--discard=unmap -f qcow2 {image}.qcow2"), "socket")
            }),
        ),
        (
            "qemu-nbd LUKS",
            Box::new(|| qemu_nbd(&folder, &format!("{secret} --image-opts {opened}"), "socket")),
        ),
        ("ours", Box::new(|| export(&folder, &format!("mmap:{raw}"), "socket", ""))),
        (
            "ours of qemu-nbd's",
            Box::new(|| {
                let inner = qemu_nbd(&folder, &format!("-f raw {raw}"), "inner");
                export(&folder, &uri(&folder, "inner"), "socket", "").over(inner)
            }),
        ),
    ];
    for (name, start) in servers {
        let serving = start();
        let stack = uri(&folder, "socket");
        let disk = open(&stack);
        assert_eq!(disk.info().bytes, BYTES, "{name}");
        exercise(&*disk, name);
        fill(&*disk);
        drop(disk);
        // Another connection, and a program of others, find it.
        let disk = open(&stack);
        let mut found = vec![0; BYTES as usize];
        disk.read(0, &mut found).unwrap();
        assert!(found == pattern(BYTES), "{name}");
        drop(disk);
        run(&format!("qemu-img compare -f raw -F raw {raw} {stack}"));
        let sector = if name == "sectors of 4096" { 4096 } else { 512 };
        assert_eq!(open(&stack).info().sector_size, sector, "{name}");
        if name.starts_with("ours") {
            serving.end();
        } else {
            serving.kill();
        }
    }
}

#[test]
fn server_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = Folder::new();
    for (words, part) in [
        ("-o memory 1M", "oldstyle"),
        ("--mask-handshake=0 memory 1M", "fixed newstyle"),
        (
            "--filter=blocksize-policy memory 1M blocksize-minimum=64K blocksize-preferred=64K blocksize-maximum=32M",
            "least block has 65536",
        ),
        ("memory 1000", "has 1000 bytes"),
        ("--filter=exportname memory 1M exportname=x exportname-strict=true", "no such export"),
    ] {
        let serving = nbdkit(&folder, words, "socket");
        let error = refused(&uri(&folder, "socket"));
        assert!(error.contains(part), "{words}: {error}");
        serving.kill();
    }
    assert!(refused("nbd://127.0.0.1:1").contains("refused"));
}

#[test]
fn read_only_server_serves_a_read_only_disk() {
    let folder = Folder::new();
    let raw = folder.image("raw", BYTES);
    let _serving = nbdkit(&folder, &format!("-r file {}", raw.display()), "socket");
    let disk = open(&uri(&folder, "socket"));
    assert!(disk.info().read_only && disk.info().discard.is_none());
    assert_eq!(disk.write(0, &[1; 512]).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    let mut found = vec![0; BYTES as usize];
    disk.read(0, &mut found).unwrap();
    assert!(found == pattern(BYTES));
    disk.flush().unwrap();
}

#[test]
fn errors_of_a_server_are_errors_of_the_disk_and_no_more() {
    let folder = Folder::new();
    let words = "--filter=error memory 1M error=ENOSPC error-pwrite-rate=50% error-pread=EIO \
                 error-pread-rate=30%";
    let _serving = nbdkit(&folder, words, "socket");
    let disk = open(&uri(&folder, "socket"));
    let (mut written, mut read) = ([0, 0], [0, 0]);
    for n in 0..200u64 {
        let bytes = [n as u8 | 1; 512];
        let done = disk.write(n * 512, &bytes);
        written[usize::from(done.is_ok())] += 1;
        if let Err(error) = &done {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
        let mut found = [0; 512];
        match disk.read(n * 512, &mut found) {
            Ok(()) => {
                read[1] += 1;
                assert!(done.is_err() || found == bytes, "sector {n}");
            }
            Err(error) => {
                read[0] += 1;
                assert!(error.to_string().contains("EIO"), "{error}");
            }
        }
    }
    assert!(written.iter().chain(&read).all(|count| *count > 20), "{written:?} {read:?}");
}

#[test]
fn requests_to_a_slow_server_run_side_by_side() {
    let folder = Folder::new();
    let words = "--filter=delay memory 1M rdelay=200ms";
    let _serving = nbdkit(&folder, words, "socket");
    for connections in [1, 4] {
        let disk = open(&format!("{},connections={connections}", uri(&folder, "socket")));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for n in 0..16 {
                let disk = &disk;
                scope.spawn(move || disk.read(n * 4096, &mut [0; 4096]).unwrap());
            }
        });
        let time = start.elapsed();
        assert!(time < Duration::from_millis(200 * 8), "{connections}: {time:?}");
    }
}

#[test]
fn copy_from_and_to_a_server_keeps_holes() {
    let folder = Folder::new();
    let raw = folder.path("raw");
    run(&format!("truncate -s 64M {}", raw.display()));
    let file = std::fs::File::options().write(true).open(&raw).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &pattern(1 << 20), 40 << 20).unwrap();
    let serving = nbdkit(&folder, &format!("file {}", raw.display()), "socket");
    let convert = |from: &str, to: &str| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_xen-disk"))
            .args(["convert", from, to])
            .output()
            .unwrap();
        assert!(done.status.success(), "{from} {to}: {done:?}");
    };
    let copy = folder.path("copy");
    convert(&uri(&folder, "socket"), &format!("file:{}", copy.display()));
    let kib = |path: &std::path::Path| std::fs::metadata(path).unwrap().blocks() / 2;
    assert_eq!(difference(&raw, &copy), None);
    assert!(kib(&copy) < 2048, "{} KiB", kib(&copy));
    serving.kill();
    // A disk that was full gets the holes as well.
    let full = folder.image("full", 64 << 20);
    let serving = nbdkit(&folder, &format!("file {}", full.display()), "socket");
    convert(&format!("file:{}", copy.display()), &uri(&folder, "socket"));
    serving.kill();
    assert_eq!(difference(&raw, &full), None);
    assert!(kib(&full) < 2048, "{} KiB", kib(&full));
}

#[test]
fn disk_follows_the_length_of_its_export() {
    let folder = Folder::new();
    let raw = folder.image("raw", BYTES);
    let _serving = nbdkit(&folder, &format!("file {}", raw.display()), "socket");
    let disk = open(&uri(&folder, "socket"));
    let error = disk.resize(2 * BYTES).unwrap_err().to_string();
    assert!(error.contains("make it longer there first"), "{error}");
    run(&format!("truncate -s {} {}", 2 * BYTES, raw.display()));
    disk.resize(2 * BYTES).unwrap();
    assert_eq!(disk.info().bytes, 2 * BYTES);
    disk.write(2 * BYTES - 512, &[7; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(std::fs::read(&raw).unwrap().last(), Some(&7));
}

#[test]
fn stalled_server_delays_no_longer_than_it_may_and_writes_nothing_late() {
    let folder = Folder::new();
    let raw = folder.image("raw", BYTES);
    let serving = export(&folder, &format!("file:{}", raw.display()), "socket", "");
    let disk = open(&format!("{},timeout=1s,outage=2s", uri(&folder, "socket")));
    disk.write(0, &[1; 4096]).unwrap();
    serving.signal(Signal::SIGSTOP);
    // Each of its threads stops when it gets to that.
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    assert!(disk.write(0, &[2; 4096]).is_err());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // The old write may still be carried out: nothing newer passes it.
    let error = disk.write(0, &[3; 4096]).unwrap_err().to_string();
    assert!(error.contains("may still write"), "{error}");
    serving.signal(Signal::SIGCONT);
    let end = Instant::now() + TIMEOUT;
    while disk.write(0, &[4; 4096]).is_err() {
        assert!(Instant::now() < end);
    }
    disk.flush().unwrap();
    serving.end();
    assert_eq!(std::fs::read(&raw).unwrap()[..4096], [4; 4096]);
}
