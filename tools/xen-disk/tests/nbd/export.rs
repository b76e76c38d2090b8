//! `xen-disk export` and the clients of others.

use crate::common::{Folder, pattern};
use crate::peers::*;
use nix::sys::signal::Signal;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const BYTES: u64 = 8 << 20;

/// A file with data, holes, and data that are zero.
fn sparse(folder: &Folder, name: &str) -> std::path::PathBuf {
    let path = folder.path(name);
    let mut bytes = vec![0; BYTES as usize];
    let data = pattern(BYTES);
    for range in [0..70_000, 1 << 20..(1 << 20) + 4096, (5 << 20) + 512..6 << 20] {
        bytes[range.clone()].copy_from_slice(&data[range]);
    }
    std::fs::write(&path, &bytes).unwrap();
    run(&format!("fallocate --dig-holes {}", path.display()));
    path
}

/// Stacks, with `DIR` for the folder and with an image of `BYTES` called `raw` in it.
const STACKS: &[&str] = &[
    "file:DIR/raw",
    "file:DIR/raw,direct",
    "file:DIR/raw,sector=4096",
    "mmap:DIR/raw",
    "cow:DIR/raw",
    "ram:size=8M",
    "vhd:DIR/new.vhd",
    "overlay:\"DIR/over\"/file:DIR/raw",
    "verify/file:DIR/raw",
    "delay:200us/file:DIR/raw",
    "throttle:iops=100000/ram:size=8M",
    "fault:op=write,p=0/file:DIR/raw",
    "log:\"DIR/log\"/file:DIR/raw",
    "powercut/file:DIR/raw",
    #[cfg(feature = "formats")]
    "qcow2:DIR/new.qcow2",
    #[cfg(feature = "formats")]
    "overlay:\"DIR/over\"/qcow2:DIR/new.qcow2",
    #[cfg(feature = "object")]
    "object:DIR/store,size=8M",
];

/// Makes what a stack needs.
fn prepare(folder: &Folder, stack: &str) -> String {
    let stack = stack.replace("DIR", folder.path("").to_str().unwrap().trim_end_matches('/'));
    std::fs::File::create(folder.path("raw")).unwrap().set_len(BYTES).unwrap();
    for image in ["vhd:new.vhd", "qcow2:new.qcow2"] {
        let (kind, name) = image.split_once(':').unwrap();
        if stack.contains(name) {
            let place = format!("{kind}:{}", folder.path(name).display());
            assert!(xen_disk::stack::create(&place, BYTES).unwrap().is_some());
        }
    }
    stack
}

#[test]
fn export_of_every_storage_and_layer_keeps_what_others_copy_there() {
    for stack in STACKS {
        let folder = Folder::new();
        let source = sparse(&folder, "source");
        let stack = prepare(&folder, stack);
        let serving = export(&folder, &stack, "socket", "--name disk");
        let uri = uri(&folder, "socket");
        assert_eq!(run(&format!("nbdinfo --size {uri}")).trim(), BYTES.to_string(), "{stack}");
        run(&format!("nbdcopy --flush {} {uri}", source.display()));
        let back = folder.path("back");
        run(&format!("nbdcopy {uri} {}", back.display()));
        assert_eq!(difference(&source, &back), None, "{stack}");
        run(&format!("qemu-img compare -f raw -F raw {} {uri}", source.display()));
        // What is told to be a hole is one.
        run(&format!("qemu-img convert -f raw -O raw {uri} {}", back.display()));
        assert_eq!(difference(&source, &back), None, "{stack}, by its map");
        serving.end();
        assert!(!folder.path("socket").exists(), "{stack}");
    }
}

#[cfg(feature = "formats")]
#[test]
fn export_of_an_image_that_is_only_read_is_read_by_others() {
    let folder = Folder::new();
    let source = sparse(&folder, "source");
    let image = folder.path("image.vmdk");
    let (from, to) = (source.display(), image.display());
    run(&format!("qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat {from} {to}"));
    let serving = export(&folder, &format!("vmdk:{to},trusted"), "socket", "");
    let uri = uri(&folder, "socket");
    assert!(run(&format!("nbdinfo {uri}")).contains("is_read_only: true"));
    run(&format!("qemu-img compare -f raw -F raw {from} {uri}"));
    serving.end();
}

#[test]
fn export_tells_holes_and_zeros_that_are_written_are_holes() {
    let folder = Folder::new();
    let source = sparse(&folder, "source");
    let full = folder.image("raw", BYTES);
    let kib = |path: &Path| std::fs::metadata(path).unwrap().blocks() / 2;
    let before = kib(&full);
    let serving = export(&folder, &format!("file:{}", full.display()), "socket", "");
    let uri = uri(&folder, "socket");
    run(&format!("nbdcopy --flush {} {uri}", source.display()));
    assert!(kib(&full) < before / 2, "{} of {before} KiB", kib(&full));
    let map = run(&format!("nbdinfo --map {uri}"));
    assert!(map.contains("hole,zero") && map.contains("data"), "{map}");
    let back = folder.path("back");
    run(&format!("nbdcopy {uri} {}", back.display()));
    assert!(difference(&source, &back).is_none() && kib(&back) < before / 2);
    serving.end();
    assert_eq!(difference(&source, &full), None);
}

#[test]
fn requests_of_qemu_with_every_flag_do_what_they_say() {
    let folder = Folder::new();
    let raw = folder.path("raw");
    std::fs::write(&raw, vec![9; BYTES as usize]).unwrap();
    let serving = export(&folder, &format!("file:{}", raw.display()), "socket", "");
    let uri = uri(&folder, "socket");
    let mut io = command("qemu-io -f raw -d unmap -t none");
    for words in [
        "write -f -P 1 0 64k",
        "write -P 2 64k 3M",
        "write -z 1M 64k",
        "write -z -u 2M 64k",
        "aio_write -P 3 4M 1M",
        "aio_write -P 4 5M 512",
        "aio_flush",
        "write -P 5 513 1000",
        "discard 6M 1M",
        "flush",
        "read -P 1 1536 62k",
        "read -P 2 64k 960k",
        "read -P 0 1M 64k",
        "read -P 0 2M 64k",
        "read -P 3 4M 1M",
        "read -P 4 5M 512",
        "read -P 5 513 1000",
        "read -P 9 5243392 100k",
    ] {
        io.args(["-c", words]);
    }
    let done = io.arg(&uri).output().expect("apt-get install qemu-utils");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && !said.contains("failed"), "{done:?}");
    serving.end();
    let bytes = std::fs::read(&raw).unwrap();
    assert_eq!((bytes[0], bytes[100 << 10], bytes[2 << 20], bytes[4 << 20]), (1, 2, 0, 3));
}

#[test]
fn fio_verifies_what_it_writes_at_depth() {
    let folder = Folder::new();
    for stack in ["file:DIR/raw", "overlay:\"DIR/over\"/mmap:DIR/raw", "delay:100us/ram:size=8M"] {
        let stack = prepare(&folder, stack);
        let serving = export(&folder, &stack, "socket", "");
        let uri = uri(&folder, "socket");
        for (bs, depth) in [("4k", 32), ("64k", 8), ("512", 4)] {
            let words = "--ioengine=nbd --name=x --rw=randrw --size=4M --verify=crc32c --fsync=64";
            let said = run(&format!(
                "fio {words} --verify_state_save=0 --uri={uri} --bs={bs} --iodepth={depth}"
            ));
            assert!(said.contains("err= 0"), "{stack}: {said}");
        }
        serving.end();
    }
}

#[test]
fn file_system_that_is_made_elsewhere_is_whole_after_a_round_trip() {
    let folder = Folder::new();
    let tree = folder.path("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/file"), pattern(300_000)).unwrap();
    let made = folder.path("made");
    let (tree, made) = (tree.display(), made.display());
    run(&format!("truncate -s 32M {made}"));
    run(&format!("mkfs.ext4 -q -F -d {tree} {made}"));
    let stack = format!("overlay:\"{0}\"/file:{0}.raw", folder.path("disk").display());
    run(&format!("truncate -s 32M {}", folder.path("disk.raw").display()));
    let serving = export(&folder, &stack, "socket", "");
    let uri = uri(&folder, "socket");
    run(&format!("nbdcopy --flush {made} {uri}"));
    serving.end();
    // A server that has nothing in its memory.
    let serving = export(&folder, &stack, "socket", "--read-only");
    let back = folder.path("back");
    run(&format!("nbdcopy {uri} {}", back.display()));
    serving.end();
    run(&format!("e2fsck -fn {}", back.display()));
    let dumped = folder.path("dumped");
    let mut dump = command("debugfs -R");
    dump.arg(format!("dump /a/b/file {}", dumped.display())).arg(&back);
    assert!(dump.output().unwrap().status.success());
    assert_eq!(std::fs::read(&dumped).unwrap(), pattern(300_000));
}

#[test]
fn file_system_is_made_and_checked_on_a_mounted_export() {
    if !Path::new("/dev/fuse").exists() {
        return tell("NOT TRIED: nbdfuse, since this machine has no /dev/fuse");
    }
    let folder = Folder::new();
    run(&format!("truncate -s 32M {}", folder.path("raw").display()));
    let serving = export(&folder, &format!("mmap:{}", folder.path("raw").display()), "socket", "");
    let mounted = folder.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let words = format!("nbdfuse {} {}", mounted.display(), uri(&folder, "socket"));
    let mut fuse = command(&words).spawn().expect("apt-get install libnbd-bin fuse3");
    let disk = mounted.join("nbd");
    let end = std::time::Instant::now() + TIMEOUT;
    while !disk.exists() {
        let gone = fuse.try_wait().unwrap();
        assert!(gone.is_none() && std::time::Instant::now() < end, "nbdfuse: {gone:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let checked = std::panic::catch_unwind(|| {
        run(&format!("mkfs.ext4 -q -F {}", disk.display()));
        run(&format!("e2fsck -fn {}", disk.display()));
    });
    run(&format!("fusermount3 -u {}", mounted.display()));
    fuse.wait().unwrap();
    checked.unwrap();
    serving.end();
    run(&format!("e2fsck -fn {}", folder.path("raw").display()));
}

#[test]
fn several_clients_read_and_write_at_the_same_time() {
    let folder = Folder::new();
    let source = folder.image("source", 4 << 20);
    run(&format!("truncate -s 4M {}", folder.path("raw").display()));
    let serving = export(&folder, &format!("file:{}", folder.path("raw").display()), "socket", "");
    let uri = uri(&folder, "socket");
    // All write the same, so that the last one is right.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| run(&format!("nbdcopy {} {uri}", source.display())));
        }
    });
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (back, uri) = (folder.path(&format!("back{n}")), &uri);
            let source = &source;
            scope.spawn(move || {
                run(&format!("nbdcopy {uri} {}", back.display()));
                assert_eq!(difference(source, &back), None);
            });
        }
    });
    serving.end();
}

#[test]
fn export_over_tcp_has_a_name_and_a_mode() {
    let folder = Folder::new();
    let raw = folder.image("raw", 1 << 20);
    let mut command = Command::new(env!("CARGO_BIN_EXE_xen-disk"));
    command.arg("export").arg(format!("file:{}", raw.display()));
    command.args(["--listen", "127.0.0.1:0", "--name", "a b", "--read-only"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let uri = line.trim().strip_prefix("Serving ").unwrap();
    assert!(uri.starts_with("nbd://127.0.0.1:") && uri.ends_with("/a%20b"), "{uri}");
    let info = run(&format!("nbdinfo {uri}"));
    assert!(info.contains("is_read_only: true") && info.contains("a b"), "{info}");
    run(&format!("qemu-img compare -f raw -F raw {} {uri}", raw.display()));
    assert!(!try_run(&format!("nbdinfo {uri}x")).status.success(), "another name is served");
    let write = try_run(&format!("nbdcopy {} {uri}", raw.display()));
    assert!(!write.status.success());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn export_that_cannot_be_is_refused_with_the_reason() {
    let folder = Folder::new();
    let raw = folder.image("raw", 1 << 20);
    let file = format!("file:{}", raw.display());
    let socket = folder.path("socket");
    let socket = socket.to_str().unwrap();
    let serving = export(&folder, &file, "socket", "");
    let other = folder.path("other").display().to_string();
    for (words, code, part) in [
        (vec![&*file], 2, "--socket"),
        (vec![&*file, "--listen", "0.0.0.0:0"], 2, "can be reached from other machines"),
        (vec!["floppy", "--socket", &other], 2, "no storage or layer"),
        (vec!["file:/nowhere", "--socket", &other], 1, "No such file"),
        (vec![&*file, "--socket", &other], 1, "another program serves it"),
        (vec!["ram:size=1M", "--socket", socket], 1, "Address already in use"),
        (vec!["ram:size=1M", "--socket", "/nowhere/socket"], 1, "No such file"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_xen-disk")).arg("export").args(&words).output();
        let done = done.unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(code) && said.contains(part), "{words:?}: {done:?}");
    }
    // The socket of a server that was killed is in nobody's way.
    serving.kill();
    export(&folder, &file, "socket", "").end();
}

#[test]
fn signal_ends_an_export_in_good_order_while_clients_write() {
    let folder = Folder::new();
    let source = folder.image("source", 32 << 20);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        run(&format!("truncate -s 32M {}", folder.path("raw").display()));
        let stack = format!("throttle:rate=16M/file:{}", folder.path("raw").display());
        let mut serving = export(&folder, &stack, "socket", "--verbose");
        let words = format!("nbdcopy {} {}", source.display(), uri(&folder, "socket"));
        let mut copying = command(&words).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        serving.signal(signal);
        let status = serving.wait();
        let said = serving.said();
        assert!(status.success() && said.contains("ending the export"), "{said}");
        assert!(said.contains("clients") && !folder.path("socket").exists(), "{said}");
        assert!(!copying.wait().unwrap().success(), "the copy was faster than the signal");
    }
}
