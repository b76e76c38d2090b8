//! Files of disks are locked while they are open, and not a moment longer.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use xen_storage::stack::{self, Files};

/// A disk that is closed can be opened at once, even while another thread forks children: each
/// holds a copy of every descriptor for a moment.
#[test]
fn closed_disk_is_free_while_children_are_forked() {
    let folder = std::env::temp_dir().join(format!("xen-storage-locks-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("raw"), [0; 8192]).unwrap();
    let vhd = format!("vhd:{}", path("image.vhd"));
    stack::create(&vhd, 1 << 20).unwrap();
    let mut stacks = vec![
        format!("file:{}", path("raw")),
        format!("mmap:{}", path("raw")),
        vhd,
        format!("overlay:\"{}\"/file:{}", path("changes"), path("raw")),
    ];
    if cfg!(feature = "formats") {
        let qcow2 = format!("qcow2:{}", path("image.qcow2"));
        stack::create(&qcow2, 1 << 20).unwrap();
        stacks.push(qcow2);
    }
    let done = AtomicBool::new(false);
    let reopened = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().unwrap().success());
                }
            });
        }
        let reopen = |text: &String| {
            (0..1000).try_for_each(|_| stack::build(text, &Files::default()).map(drop))
        };
        let reopened = stacks.iter().try_for_each(reopen);
        done.store(true, Ordering::Relaxed);
        reopened
    });
    fs::remove_dir_all(&folder).unwrap();
    reopened.unwrap();
}

/// QEMU refuses what is open here, and what QEMU has open is refused here. Needs `qemu-io`
/// (Debian's qemu-utils).
#[test]
fn file_is_locked_against_qemu_and_qemus_file_is_refused() {
    let folder = std::env::temp_dir().join(format!("xen-storage-qemu-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let raw = folder.join("raw");
    fs::write(&raw, [0; 8192]).unwrap();
    let stack = |options: &str| format!("file:{}{options}", raw.display());
    let copy = || {
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "raw"]).arg(&raw).arg(folder.join("copy"));
        convert.output().unwrap()
    };
    let write = || {
        let args = ["-f", "raw", "-c", "write 0 512"];
        Command::new("qemu-io").args(args).arg(&raw).output().unwrap().status.success()
    };
    let disk = stack::build(&stack(""), &Files::default()).unwrap();
    let said = String::from_utf8(copy().stderr).unwrap();
    assert!(said.contains("lock"), "{said}");
    assert!(!write(), "it is written by QEMU");
    drop(disk);
    let reader = stack::build(&stack(",ro"), &Files::default()).unwrap();
    assert!(copy().status.success() && !write(), "others may read, and not write");
    drop(reader);
    assert!(write());

    let mut qemu = Command::new("qemu-io")
        .args(["-f", "raw"])
        .arg(&raw)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its prompt says that it has the file.
    let mut prompt = [0; 8];
    std::io::Read::read_exact(qemu.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    for options in ["", ",ro"] {
        let error = stack::build(&stack(options), &Files::default()).err().unwrap().to_string();
        assert!(error.contains("QEMU"), "{error}");
    }
    drop(qemu.stdin.take());
    qemu.wait().unwrap();
    stack::build(&stack(""), &Files::default()).unwrap();
    fs::remove_dir_all(&folder).unwrap();
}
