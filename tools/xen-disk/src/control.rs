//! The questions of other processes to the one that serves a disk: a line of JSON each way, over a
//! unix socket.

pub mod service;

use crate::disk::Disk;
use crate::report::Report;
use crate::{Code, Failure, Vdev};
use embedded_io_async::{Read, Write};
use nix::sys::socket::{self as sys, AddressFamily, SockFlag, SockType, UnixAddr};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use xen_blk::toolstack::Device;

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Question {
    /// The counts of the disk.
    Stats,
    /// To unplug it.
    Stop,
    /// To unplug it without waiting for the guest.
    Force,
    /// To give it another length.
    Resize {
        /// Its new length.
        bytes: u64,
        /// Permits it to become shorter.
        shrink: bool,
    },
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done, or begun.
    Done,
    /// The counts of the disk.
    Stats(Box<Report>),
    /// It cannot be done.
    Failed(String),
}

/// The longest question, in bytes.
const LONGEST: usize = 8192;

/// The socket of a disk, in the folder `dir`.
pub fn socket(dir: &Path, device: &Device) -> PathBuf {
    dir.join(format!("{}-{}.sock", device.front, Vdev(device.vdev)))
}

/// Answers one question about `disk`, which has been served for `seconds`.
pub async fn attend(disk: &Disk, seconds: f64, from: impl Read, to: impl Write) {
    let reply = async |line: &[u8]| match serde_json::from_slice(line) {
        Ok(question) => answer(disk, seconds, question).await,
        Err(error) => Answer::Failed(format!("that is no question: {error}")),
    };
    converse(from, to, reply).await;
}

/// Reads a line, and writes the answer to it as another.
pub async fn converse<A: Serialize>(
    mut from: impl Read,
    mut to: impl Write,
    answer: impl AsyncFnOnce(&[u8]) -> A,
) {
    let mut line = Vec::new();
    let mut piece = [0; 256];
    while !line.contains(&b'\n') && line.len() < LONGEST {
        match from.read(&mut piece).await {
            Ok(count @ 1..) => line.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return,
        }
    }
    let answer = answer(&line).await;
    let text = serde_json::to_string(&answer).expect("an answer can be written") + "\n";
    // The asker may have left.
    let _ = to.write_all(text.as_bytes()).await;
}

/// Returns the answer to a question about `disk`, which has been served for `seconds`.
pub async fn answer(disk: &Disk, seconds: f64, question: Question) -> Answer {
    match question {
        Question::Stats => Answer::Stats(Box::new(Report::of(disk, seconds))),
        Question::Stop => {
            disk.handle.stop();
            Answer::Done
        }
        Question::Force => {
            disk.handle.force();
            Answer::Done
        }
        Question::Resize { bytes, shrink } => {
            let info = disk.served.storage_info();
            if bytes < info.bytes && !shrink {
                let text = format!(
                    "the disk has {} bytes: --shrink makes it shorter, and loses what is behind",
                    info.bytes
                );
                return Answer::Failed(text);
            }
            if bytes == 0 || !bytes.is_multiple_of(info.sector_size.into()) {
                return Answer::Failed(format!(
                    "{bytes} bytes are not one or more sectors of {}",
                    info.sector_size
                ));
            }
            match disk.resize(bytes).await {
                Ok(()) => Answer::Done,
                Err(text) => Answer::Failed(text),
            }
        }
    }
}

/// Removes the sockets in `dir` of processes that were killed, and the locks beside them: those of
/// disks that are not in xenstore, and of others if nobody listens there, since a process that has
/// confined itself could not replace them. `known` says which are in xenstore, and is asked once
/// the sockets are known: a disk's folders are there before its socket is.
pub async fn sweep<E>(
    dir: &Path,
    known: impl AsyncFnOnce() -> Result<Vec<Device>, E>,
) -> Result<(), E> {
    let found: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let known: Vec<PathBuf> = known().await?.iter().map(|device| socket(dir, device)).collect();
    for path in found {
        let is_lock = path.extension().is_some_and(|end| end == "lock");
        let socket = if is_lock { path.with_extension("") } else { path.clone() };
        if socket.extension().is_some_and(|end| end == "sock") && !known.contains(&socket) {
            // Another process may have been faster.
            let _ = std::fs::remove_file(path);
        } else if known.contains(&path) {
            let _ = xen_linux::remove_stale_socket(&path);
        }
    }
    Ok(())
}

/// Returns true if a process serves the disk whose socket that is, even one that hangs. A process
/// that may not connect any more learns nothing by this, and looks into xenstore alone.
pub fn is_served(socket: &Path) -> bool {
    match connect(socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Connects to a socket without waiting for a process that accepts nothing any more:
/// [`io::ErrorKind::WouldBlock`] if too many others wait for it already.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let kind = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = sys::socket(AddressFamily::Unix, SockType::Stream, kind, None)?;
    sys::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Asks the process that serves a disk; waits up to `timeout` for the answer.
pub fn ask(socket: &Path, question: Question, timeout: Duration) -> Result<Answer, Failure> {
    let missing = "no xen-disk serves such a disk here: see xen-disk list";
    let question = serde_json::to_string(&question).expect("a question can be written");
    let line = ask_line(socket, &question, timeout, missing)?;
    match serde_json::from_str(&line) {
        Ok(Answer::Failed(why)) => Err(Failure::other(why)),
        Ok(answer) => Ok(answer),
        Err(error) => {
            Err(Failure::other(format!("an answer from another version of xen-disk: {error}")))
        }
    }
}

/// Sends a line to a socket, and returns the line that comes back. `missing` tells that nobody is
/// there.
pub fn ask_line(
    socket: &Path,
    question: &str,
    timeout: Duration,
    missing: &str,
) -> Result<String, Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(Code::Missing, missing)
        }
        io::ErrorKind::WouldBlock => Failure::other(format!(
            "the xen-disk at {} does not answer within {timeout:?}: see its log",
            socket.display()
        )),
        _ => Failure::other(format!("cannot ask at {}: {error}", socket.display())),
    };
    let ask = || {
        let mut stream = connect(socket)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        io::Write::write_all(&mut stream, format!("{question}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    ask().map_err(failed)
}
