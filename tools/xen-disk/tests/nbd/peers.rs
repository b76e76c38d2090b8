//! Programs that serve and use exports.

use crate::common::Folder;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use xen_disk::stack::{Built, Files, build};

/// Time limit of everything here that should take a moment.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Debian's package of a program.
fn package(program: &str) -> &str {
    match program {
        "nbdinfo" | "nbdcopy" | "nbdfuse" => "libnbd-bin",
        "qemu-img" | "qemu-io" | "qemu-nbd" => "qemu-utils",
        "mkfs.ext4" | "e2fsck" | "debugfs" => "e2fsprogs",
        "fusermount3" => "fuse3",
        other => other,
    }
}

/// A command by its words; those in `{}` are arguments with spaces.
pub fn command(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let program = words.next().expect("a program");
    let found = ["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(program));
    let path = found.into_iter().find(|path| path.exists()).unwrap_or(program.into());
    let mut command = Command::new(path);
    command.args(words).stdin(Stdio::null());
    command
}

pub fn try_run(words: &str) -> Output {
    let program = words.split_whitespace().next().unwrap_or_default();
    command(words)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: apt-get install {}", package(program)))
}

/// Runs a program with success, and returns what it printed.
pub fn run(words: &str) -> String {
    let Output { status, stdout, stderr } = try_run(words);
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{words}: {status}\n{out}{err}");
    out.into_owned()
}

/// A program that serves, killed with the value.
pub struct Serving {
    child: Child,
    said: PathBuf,
    /// Dropped after the child has ended.
    _below: Option<Box<Serving>>,
}

impl Serving {
    fn start(folder: &Folder, mut command: Command, name: &str) -> Self {
        let said = folder.path(&format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&said).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        let child =
            child.unwrap_or_else(|e| panic!("{name}: {e}: apt-get install {}", package(name)));
        Serving { child, said, _below: None }
    }

    /// Keeps the server that this one reads from until this one has ended.
    pub fn over(mut self, below: Serving) -> Self {
        self._below = Some(Box::new(below));
        self
    }

    /// Returns all that it has said.
    pub fn said(&self) -> String {
        let mut text = String::new();
        File::open(&self.said).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until `socket` takes a connection.
    fn listens(mut self, socket: &Path) -> Self {
        let end = Instant::now() + TIMEOUT;
        while UnixStream::connect(socket).is_err() {
            let status = self.child.try_wait().unwrap();
            assert!(status.is_none() && Instant::now() < end, "{status:?}\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
        self
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it in good order.
    pub fn end(mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.said());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `xen-disk export STACK` at the socket `name` of the folder.
pub fn export(folder: &Folder, stack: &str, name: &str, words: &str) -> Serving {
    let socket = folder.path(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_xen-disk"));
    command.args(["export", stack, "--socket"]).arg(&socket).args(words.split_whitespace());
    Serving::start(folder, command, "xen-disk").listens(&socket)
}

/// nbdkit at the socket `name` of the folder.
pub fn nbdkit(folder: &Folder, words: &str, name: &str) -> Serving {
    let socket = folder.path(name);
    let _ = std::fs::remove_file(&socket);
    let command = command(&format!("nbdkit -f -U {} {words}", socket.display()));
    Serving::start(folder, command, "nbdkit").listens(&socket)
}

/// qemu-nbd at the socket `name` of the folder.
pub fn qemu_nbd(folder: &Folder, words: &str, name: &str) -> Serving {
    let socket = folder.path(name);
    let _ = std::fs::remove_file(&socket);
    let command = command(&format!("qemu-nbd -t -e 8 -k {} {words}", socket.display()));
    Serving::start(folder, command, "qemu-nbd").listens(&socket)
}

pub fn uri(folder: &Folder, name: &str) -> String {
    format!("nbd+unix:///?socket={}", folder.path(name).display())
}

/// Opens a stack in this program.
pub fn open(stack: &str) -> Built {
    build(stack, &Files::default()).unwrap_or_else(|error| panic!("{stack}: {error}"))
}

/// Returns the error of a stack that cannot be opened.
pub fn refused(stack: &str) -> String {
    match build(stack, &Files::default()) {
        Ok(_) => panic!("{stack} was opened"),
        Err(error) => error.to_string(),
    }
}

/// Tells the user something that a test that passes would hide.
pub fn tell(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Returns the first place at which two files differ.
pub fn difference(one: &Path, other: &Path) -> Option<usize> {
    let (one, other) = (std::fs::read(one).unwrap(), std::fs::read(other).unwrap());
    if one.len() != other.len() {
        return Some(one.len().min(other.len()));
    }
    one.iter().zip(&other).position(|(one, other)| one != other)
}
