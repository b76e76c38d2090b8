//! The servers that are compared.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use xen_nbd::{Socket, handshake};

/// A server, by its words: `DIR` is the folder, `SOCKET` the socket.
pub struct Entry {
    pub name: &'static str,
    /// Servers of the same kind are compared.
    pub kind: &'static str,
    pub is_ours: bool,
    words: &'static str,
}

const fn entry(name: &'static str, kind: &'static str, words: &'static str) -> Entry {
    Entry { name, kind, is_ours: false, words }
}

const fn ours(name: &'static str, kind: &'static str, words: &'static str) -> Entry {
    Entry { name, kind, is_ours: true, words }
}

pub const SERVERS: &[Entry] = &[
    ours("file", "raw", "export file:DIR/raw --socket SOCKET"),
    ours("mmap", "raw", "export mmap:DIR/raw --socket SOCKET"),
    entry("qemu-nbd", "raw", "qemu-nbd -t -e 8 -k SOCKET -f raw --cache=writeback DIR/raw"),
    entry("nbdkit", "raw", "nbdkit -f -U SOCKET file DIR/raw"),
    ours("overlay", "overlay", "export overlay:\"DIR/over\"/file:DIR/base --socket SOCKET"),
    entry("qemu overlay", "overlay", "qemu-nbd -t -e 8 -k SOCKET -f qcow2 DIR/over.qcow2"),
    ours("qcow2", "qcow2", "export qcow2:DIR/image.qcow2 --socket SOCKET"),
    entry("qemu qcow2", "qcow2", "qemu-nbd -t -e 8 -k SOCKET -f qcow2 DIR/image.qcow2"),
    ours("ram", "memory", "export ram:size=256M --socket SOCKET"),
    entry("nbdkit memory", "memory", "nbdkit -f -U SOCKET memory 256M"),
];

fn run(words: &str) {
    let mut parts = words.split_whitespace();
    let program = parts.next().expect("a program");
    let done = Command::new(program).args(parts).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|done| done.success()), "{words}: see testbed/setup.sh test");
}

/// Makes the images: blocks of 4096 bytes that begin with their offset.
pub fn prepare(place: &Path, bytes: u64) {
    let raw = place.join("raw");
    let mut file = BufWriter::new(File::create(&raw).expect("a file can be made"));
    let mut block = [0x5a; 4096];
    for at in (0..bytes).step_by(block.len()) {
        block[..8].copy_from_slice(&at.to_le_bytes());
        file.write_all(&block).expect("there is room");
    }
    file.into_inner().expect("there is room").sync_all().expect("there is room");
    let place = place.display();
    run(&format!("qemu-img convert -f raw -O qcow2 {place}/raw {place}/image.qcow2"));
    run(&format!("cp {place}/raw {place}/base"));
    let over = format!("{place}/over.qcow2");
    run(&format!("qemu-img create -q -f qcow2 -b {place}/base -F raw {over}"));
}

/// Names the file system of a folder.
pub fn file_system(place: &Path) -> String {
    let done = Command::new("stat").args(["-f", "-c", "%T"]).arg(place).output();
    let name = done.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_string());
    name.unwrap_or_default()
}

/// A server that runs, ended with the value.
pub struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    pub fn start(entry: &Entry, place: &Path, program: &Path) -> Server {
        let socket = place.join("socket");
        let _ = std::fs::remove_file(&socket);
        let words = entry.words.replace("DIR", &place.display().to_string());
        let words = words.replace("SOCKET", &socket.display().to_string());
        let mut words = words.split_whitespace();
        let mut command = match entry.is_ours {
            true => Command::new(program),
            false => Command::new(words.next().expect("a program")),
        };
        let command = command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", entry.name));
        let server = Server { child, socket };
        let end = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&server.socket).is_err() {
            assert!(Instant::now() < end, "{} does not start", entry.name);
            std::thread::sleep(Duration::from_millis(2));
        }
        if entry.kind == "memory" {
            server.fill();
        }
        server
    }

    /// Connects, and carries the handshake out.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("it listens");
        let socket = Socket::Unix(stream.try_clone().expect("a socket"));
        let export = handshake::negotiate(&mut &socket, "").expect("it speaks NBD");
        assert!(export.structured);
        stream
    }

    /// Writes the offsets into a disk in memory.
    fn fill(&self) {
        let socket = Socket::Unix(self.connect());
        let export = handshake::negotiate(
            &mut &Socket::Unix(UnixStream::connect(&self.socket).expect("it listens")),
            "",
        );
        let export = export.expect("it speaks NBD");
        let link =
            xen_nbd::client::Connection::new(socket, export.clone(), Duration::from_secs(60));
        let link = link.expect("a connection");
        let mut piece = vec![0x5a; 4 << 20];
        for at in (0..export.bytes).step_by(piece.len()) {
            for (n, block) in piece.chunks_mut(4096).enumerate() {
                block[..8].copy_from_slice(&(at + n as u64 * 4096).to_le_bytes());
            }
            link.write(at, &piece, xen_nbd::wire::CommandFlags::empty()).expect("it takes writes");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
