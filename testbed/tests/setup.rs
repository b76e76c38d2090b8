//! Runs `testbed/setup.sh` on machines that lack one thing or another.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Programs that every machine has, taken from this one.
const BASE: &[&str] = &["sh", "env", "mktemp", "cat", "rm", "touch", "chmod", "dirname"];

/// Programs that the script looks for before `make test`.
const NEEDED: &[&str] = &[
    "cargo",
    "gcc",
    "objcopy",
    "qemu-system-x86_64",
    "setpriv",
    "xz",
    "qemu-img",
    "qemu-io",
    "qemu-nbd",
    "nbdinfo",
    "nbdcopy",
    "nbdfuse",
    "nbdkit",
    "fio",
    "mkfs.ext4",
    "fusermount3",
];

/// apt-get on a machine whose lists are old until they are updated. It brings qemu-utils.
const APT: &str = r#"here=$(dirname "$0")
echo "$*" >>"$here/log"
case " $* " in
*' update '*) touch "$here/fresh" ;;
*' install '*)
    [ -e "$here/fresh" ] || { echo "E: 404 Not Found" >&2; exit 100; }
    for name in qemu-img qemu-io; do echo '#!/bin/sh' >"$here/$name"; chmod 755 "$here/$name"; done ;;
esac"#;

/// A machine: a folder that is all of its PATH.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(lacks: &[&str]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        for name in BASE {
            let real = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
            let real = real.into_iter().find(|path| path.exists()).unwrap();
            symlink(real, machine.0.path().join(name)).unwrap();
        }
        NEEDED.iter().filter(|name| !lacks.contains(name)).for_each(|name| machine.add(name, ""));
        machine
            .add("cc", if lacks.contains(&"libc.a") { "echo libc.a" } else { "echo /lib/libc.a" });
        machine.add("id", "echo 0");
        machine
    }

    fn add(&self, name: &str, script: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn with_apt(lacks: &[&str]) -> Machine {
        let machine = Machine::new(lacks);
        machine.add("apt-get", APT);
        machine.add("apt-cache", "");
        machine.add("dpkg-deb", "");
        machine
    }

    fn set_up(&self, purpose: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup.sh");
        Command::new(script)
            .arg(purpose)
            .env("PATH", self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn apt_calls(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn complete_machine_is_left_alone_in_silence() {
    let machine = Machine::with_apt(&[]);
    for purpose in ["build", "test"] {
        let output = machine.set_up(purpose);
        assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    }
    assert_eq!(machine.apt_calls(), "");
}

#[test]
fn missing_program_is_announced_and_installed_despite_old_lists() {
    let machine = Machine::with_apt(&["qemu-img", "qemu-io"]);
    assert_eq!(said(&machine.set_up("build")), "");
    let output = machine.set_up("test");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).ends_with("what comes after it: qemu-utils\n"), "{}", said(&output));
    let calls = machine.apt_calls();
    let update = calls.lines().position(|call| call.ends_with(" update")).unwrap();
    assert_eq!((update, calls.lines().count()), (1, 3), "{calls}");
    assert_eq!(said(&machine.set_up("test")), "");
}

#[test]
fn package_that_does_not_bring_its_program_is_an_error() {
    let output = Machine::with_apt(&["xz"]).set_up("test");
    assert!(!output.status.success());
    assert!(said(&output).contains("what xz-utils should bring is not found"), "{}", said(&output));
}

#[test]
fn other_distributions_are_told_their_own_names() {
    for (tool, words) in [
        ("dnf", "sudo dnf install gcc glibc-static qemu-img"),
        ("pacman", "sudo pacman -S gcc qemu-img"),
        ("zypper", "sudo zypper install gcc glibc-devel-static qemu-tools"),
        ("nix-shell", "nix-shell -p gcc glibc.static qemu-utils"),
        ("nothing", "install what Debian calls gcc libc6-dev qemu-utils"),
    ] {
        let machine = Machine::new(&["libc.a", "qemu-img"]);
        machine.add(tool, "");
        let output = machine.set_up("test");
        assert!(!output.status.success());
        assert!(said(&output).contains(words), "{tool}: {}", said(&output));
    }
}

#[test]
fn emulated_host_without_apt_is_refused_and_a_build_is_not() {
    let machine = Machine::new(&[]);
    assert!(machine.set_up("build").status.success());
    let output = machine.set_up("test");
    assert!(!output.status.success());
    assert!(said(&output).contains("'make' alone works here"), "{}", said(&output));
}

#[test]
fn user_without_sudo_is_told_what_root_must_run() {
    let machine = Machine::with_apt(&["qemu-io"]);
    machine.add("id", "echo 1000");
    let output = machine.set_up("test");
    assert!(!output.status.success());
    let words = "as root, run: apt-get install --no-install-recommends qemu-utils";
    assert!(said(&output).contains(words), "{}", said(&output));
    assert_eq!(machine.apt_calls(), "");
}
