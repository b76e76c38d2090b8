//! The ways out of a process that serves, as the program of an intruder in it would try them.

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid, getppid, setuid};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, thread};

/// Set in the process that is confined: the folder of its disk.
const FOLDER: &str = "XEN_DISK_TEST_ESCAPE";

/// Confines itself in a process of its own, because a process has one user. That one sees a folder
/// with a disk, one beside it, and a socket.
#[test]
fn taken_over_program_reaches_its_disk_and_nothing_else() {
    if let Some(folder) = env::var_os(FOLDER) {
        return try_to_escape(Path::new(&folder));
    }
    let folder = env::temp_dir().join(format!("xen-disk-escape-{}", std::process::id()));
    fs::create_dir_all(folder.join("disk")).unwrap();
    fs::create_dir_all(folder.join("run")).unwrap();
    fs::write(folder.join("disk/image"), [7; 4096]).unwrap();
    fs::write(folder.join("secret"), "secret").unwrap();
    let _listener = UnixListener::bind(folder.join("socket")).unwrap();
    in_own_process("taken_over_program_reaches_its_disk_and_nothing_else", &folder);
    fs::remove_dir_all(&folder).unwrap();
}

/// Runs the test `name` in a process of its own, with `folder` to work in.
fn in_own_process(name: &str, folder: &Path) {
    let done = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("host::privileges::tests::{name}")])
        .args(["--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// One that waits for domains makes the sockets of its disks, and their locks, once it is confined.
#[test]
fn confined_server_makes_the_sockets_of_disks_to_come() {
    if let Some(folder) = env::var_os(FOLDER) {
        let run_dir = PathBuf::from(folder);
        let socket = run_dir.join("1-xvda");
        let reach = Reach {
            files: Some(vec![]),
            reads: vec![],
            run_dir,
            makes_sockets: true,
            network: false,
            servers: vec![],
        };
        keep_files().unwrap();
        reach::restrict(&reach).unwrap();
        become_own(1).unwrap();
        give_up().unwrap();
        confine_with(Sockets { listens: true, network: false, local: false }, None).unwrap();
        let access = xen_linux::SocketAccess::default();
        for _ in 0..2 {
            let made = xen_linux::LocalListener::unix(&xen_linux::Linux::new(), &socket, &access);
            drop(made.unwrap());
        }
        return;
    }
    let folder = env::temp_dir().join(format!("xen-disk-sockets-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    in_own_process("confined_server_makes_the_sockets_of_disks_to_come", &folder);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "sockets and locks are removed");
    fs::remove_dir_all(&folder).unwrap();
}

fn try_to_escape(folder: &Path) {
    let root = geteuid().is_root();
    let (parent, server) = (getppid(), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = server.local_addr().unwrap();
    let reach = Reach {
        files: Some(vec![folder.join("disk/image")]),
        reads: vec![],
        run_dir: folder.join("run"),
        makes_sockets: false,
        network: false,
        servers: vec![],
    };
    keep_files().unwrap();
    let has_landlock = reach::restrict(&reach).unwrap();
    become_own(1).unwrap();
    give_up().unwrap();
    confine_with(Sockets { listens: false, network: false, local: false }, None).unwrap();

    let escape = move |folder: PathBuf| {
        let denied = |done: std::io::Result<()>, what: &str| {
            let error = done.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
        };
        // Its disk.
        let image = File::options().read(true).write(true).open(folder.join("disk/image"));
        image.unwrap().sync_data().unwrap();
        fs::write(folder.join("disk/chunk"), "new").unwrap();
        if root {
            let owner = fs::metadata(folder.join("disk/chunk")).unwrap().uid();
            assert_eq!(owner, 0, "files are root's");
            assert!(!geteuid().is_root(), "it is root");
            kill(parent, Signal::SIGURG).expect_err("a signal to a process of root's");
        }
        // Other files, of root's and in general.
        if has_landlock {
            denied(fs::read(folder.join("secret")).map(drop), "another file is read");
            denied(fs::write(folder.join("new"), "x"), "a file is made elsewhere");
            denied(fs::remove_file(folder.join("secret")), "another file is removed");
            denied(fs::read("/etc/passwd").map(drop), "a file of the system is read");
            denied(File::open("/dev/zero").map(drop), "another device is opened");
            denied(
                File::options().write(true).open("/proc/sys/kernel/core_pattern").map(drop),
                "the kernel is told which program to start",
            );
        } else {
            eprintln!("this kernel has no Landlock: files are not tried");
        }
        // Other programs.
        denied(Command::new("/bin/true").status().map(drop), "a program is started");
        denied(UnixStream::connect(folder.join("socket")).map(drop), "a socket is reached");
        denied(TcpStream::connect(address).map(drop), "a network is reached");
        denied(UnixListener::bind(folder.join("disk/s")).map(drop), "it offers a socket");
        setuid(nix::unistd::Uid::from_raw(0)).expect_err("it becomes root again");
        caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).expect_err("more rights");
        kill(Pid::from_raw(1), Signal::SIGURG).expect_err("a signal to the first process");
    };
    let there = folder.to_path_buf();
    escape(there.clone());
    // Nor is there a way out by a thread.
    thread::spawn(move || escape(there)).join().unwrap();
}
