//! The program itself, as far as it needs no Xen.

mod common;

use common::Folder;
use std::process::{Command, Output};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_xen-disk")).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn wrong_usage_and_help() {
    assert_eq!(run(&["connect"]).0, Some(2));
    let (code, _, text) = run(&["connect", "vm", "--backend", "mmap"]);
    assert_eq!((code, &*text), (Some(2), "xen-disk: the backend mmap needs a path\n"));
    let (code, text, _) = run(&["connect", "--help"]);
    assert!(code == Some(0) && text.contains("throttle") && text.contains("Exit codes:"), "{text}");
}

#[test]
fn an_image_is_copied_and_changes_are_moved() {
    let folder = Folder::new();
    let image = folder.image("image", 1 << 20);
    let copy = format!("file:{}", folder.path("copy").display());
    let (code, _, text) = run(&["convert", &format!("cow:{}", image.display()), &copy]);
    assert_eq!((code, &*text), (Some(0), "1048576 bytes, of which 1048576 were written\n"));
    assert_eq!(std::fs::read(folder.path("copy")).unwrap(), std::fs::read(&image).unwrap());

    let log = folder.path("log");
    std::fs::write(&log, "1 2 write 4096 512 8a3f0021 ok\n5 6 flush 0 0 00000000 ok\n").unwrap();
    let stack = format!("overlay:\"{}\"/{copy}", folder.path("overlay").display());
    assert_eq!(run(&["replay", log.to_str().unwrap(), &stack]).1, "2 requests\n");
    assert_eq!(std::fs::read(folder.path("copy")).unwrap(), std::fs::read(&image).unwrap());
    assert_eq!(run(&["commit", &stack]), (Some(0), "1 clusters moved\n".into(), String::new()));
    assert_ne!(std::fs::read(folder.path("copy")).unwrap(), std::fs::read(&image).unwrap());
    assert_eq!(run(&["revert", "ram"]).0, Some(2));
}

#[test]
fn manual_pages_and_completions_are_generated() {
    let folder = Folder::new();
    let (code, _, text) = run(&["generate", folder.path("").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    for name in ["xen-disk.1", "xen-disk-connect.1", "xen-disk.bash", "_xen-disk", "xen-disk.fish"] {
        assert!(folder.path(name).exists(), "{name}");
    }
}
