//! `vchan serve` as a daemon of systemd's: its readiness, its reload and its end, with a xenstored
//! that knows only dom0.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vchan-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Answers the requests of one client (io/xs_wire.h) until it leaves.
fn serve(mut stream: UnixStream) {
    let mut header = [0; 16];
    while stream.read_exact(&mut header).is_ok() {
        let mut payload = vec![0; usize::from(header[12])];
        stream.read_exact(&mut payload).unwrap();
        // DIRECTORY is 1, WATCH 4, UNWATCH 5, GET_DOMAIN_PATH 10, IS_DOMAIN_INTRODUCED 17.
        let answer: &[u8] = match header[0] {
            1 if payload == b"/local/domain\0" => b"0\0",
            4 | 5 => b"OK\0",
            10 => b"/local/domain/0\0",
            17 if payload == b"0\0" => b"T\0",
            17 => b"F\0",
            _ => {
                header[0] = 16; // ERROR
                b"ENOENT\0"
            }
        };
        header[12] = answer.len() as u8;
        if stream.write_all(&[&header, answer].concat()).is_err() {
            return;
        }
    }
}

/// Starts the daemon with the configuration `config` in `folder`, and a xenstored for it.
fn start(folder: &Path, config: &str) -> Child {
    fs::write(folder.join("vchan.toml"), config).unwrap();
    let listener = UnixListener::bind(folder.join("xenstored")).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vchan"));
    command.args(["serve", "--config"]).arg(folder.join("vchan.toml"));
    command.env("XENSTORED_PATH", folder.join("xenstored"));
    command.env("NOTIFY_SOCKET", folder.join("notify"));
    command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Takes the next message to systemd.
fn next(notify: &UnixDatagram) -> String {
    let mut message = [0; 200];
    let count = notify.recv(&mut message).unwrap();
    String::from_utf8_lossy(&message[..count]).trim_end().to_string()
}

#[test]
fn systemd_learns_of_readiness_reload_and_end() {
    let folder = Folder::new("daemon");
    let notify = UnixDatagram::bind(folder.0.join("notify")).unwrap();
    let service = "domains = [\"vm1\"]\ncommand = [\"/no/such/program\"]\n";
    let child = start(&folder.0, &format!("[service.sh]\n{service}"));
    assert_eq!(next(&notify), "READY=1");
    for config in ["[service.sh]\n", &format!("[service.sh]\n{service}[service.log]\n{service}")] {
        fs::write(folder.0.join("vchan.toml"), config).unwrap();
        signal(&child, "HUP");
        assert!(next(&notify).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(&notify), "READY=1");
    }
    signal(&child, "TERM");
    assert_eq!(next(&notify), "STOPPING=1");
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!(status.code(), Some(143));
    let said = String::from_utf8(stderr).unwrap();
    for part in [
        "vchan: service sh: cannot run /no/such/program: there is no such program\n",
        "Serving sh\n",
        "missing field `domains`",
        "; the services stay as they were\n",
        "Serving log, sh\n",
    ] {
        assert!(said.contains(part), "without {part:?}: {said}");
    }
}

#[test]
fn configuration_that_is_wrong_ends_it_with_2() {
    let folder = Folder::new("daemon-wrong");
    let child = start(&folder.0, "[service.\"a/b\"]\ndomains = \"all\"\ncommand = [\"cat\"]\n");
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("vchan.toml: service a/b: "), "{said}");
}
