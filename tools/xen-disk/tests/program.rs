//! The program itself, as far as it needs no Xen.

#[path = "../../../crates/xen-storage/tests/common/mod.rs"]
mod common;

use common::Folder;
use std::process::{Command, Output};

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_xen-disk")).args(args).output().unwrap();
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
    for name in ["xen-disk.8", "xen-disk.bash", "_xen-disk", "xen-disk.fish"] {
        assert!(folder.path(name).exists(), "{name}");
    }
    for name in [
        "connect",
        "serve",
        "hotplug",
        "list",
        "stats",
        "metrics",
        "order",
        "disconnect",
        "resize",
        "convert",
        "replay",
        "export",
    ] {
        let page = std::fs::read_to_string(folder.path(&format!("xen-disk-{name}.8"))).unwrap();
        for part in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
            assert!(page.contains(part), "{name}: {part}");
        }
        let examples = page.split(".SH EXAMPLES").nth(1).unwrap();
        assert!(examples.contains("nf\nxen\\-disk ") && !page.contains("EXTRA"), "{examples}");
    }
}

#[test]
fn wrong_arguments_are_told_before_xen_is_looked_for() {
    let folder = Folder::new();
    let missing = folder.path("missing").display().to_string();
    let config = folder.path("xen-disk.toml");
    std::fs::write(&config, "[[disk]]\nvm = \"a\"\nvdev = \"xvdb\"\nstack = \"delay/ram\"\n")
        .unwrap();
    let connect = ["connect", "vm1"];
    for (words, code, part) in [
        (&["--path", &missing][..], 1, "No such file"),
        (&["--path", &missing, "--backend", "cow"], 1, "No such file"),
        (&["--stack", "floppy"], 2, "there is no storage or layer"),
        (&["--stack", "throttle:iops=x/ram"], 2, "is no number"),
        (&["--backend", "ram", "--size", "1000"], 2, "whole sectors"),
    ] {
        let (found, _, text) = run(&[&connect[..], words].concat());
        assert!(found == Some(code) && text.contains(part), "{words:?}: {found:?} {text}");
    }
    let (code, _, text) = run(&["serve", config.to_str().unwrap()]);
    assert!(code == Some(2) && text.contains("how long?"), "{code:?} {text}");
}

#[test]
fn machine_without_xen_is_told_at_once() {
    if ["/proc/xen", "/run/xenstored/socket"].iter().any(|p| std::path::Path::new(p).exists()) {
        return; // A Xen domain.
    }
    for args in [
        &["connect", "vm1", "--backend", "ram"][..],
        &["list"],
        &["disconnect", "vm1", "xvdb"],
        &["stats", "vm1", "xvdb"],
        &["resize", "vm1", "xvdb", "2G"],
    ] {
        let (code, _, text) = run(args);
        let told = "xen-disk: this is no Xen domain: there is no /proc/xen; \
                    `make run` boots an emulated one\n";
        assert_eq!((code, &*text), (Some(1), told), "{args:?}");
    }
}
