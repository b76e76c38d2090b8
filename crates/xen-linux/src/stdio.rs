//! Standard input and output as asynchronous streams.
//!
//! Their descriptors may be shared with other programs (a shell, the other end of a pipeline), so
//! they stay in blocking mode. A pipe is opened once more, which gives a descriptor with a mode of
//! its own; a socket can be told for a single call not to block; a regular file never does. For the
//! rest poll(2) says when a read will not block, and a write is kept so short that it does not
//! after poll(2) said that there is room.

use crate::reactor::{os_error, retry};
use crate::{Linux, error, sys};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use rustix::event::PollFlags;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::rc::Rc;
use std::{fmt, future, io};

/// An error of the operating system, as `embedded-io` wants it, which is shown with its cure where
/// it is a limit of this machine's.
#[derive(Debug)]
pub struct IoError(pub io::Error);

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match error::limit_cure(&self.0) {
            Some(cure) => write!(f, "{}; {cure}", self.0),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for IoError {}

impl embedded_io_async::Error for IoError {
    fn kind(&self) -> ErrorKind {
        match self.0.kind() {
            io::ErrorKind::BrokenPipe => ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset => ErrorKind::ConnectionReset,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Other,
        }
    }
}

/// The kind of a descriptor, which decides how it is kept from blocking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Reads and writes take what they take, but not for ever.
    File,
    /// In non-blocking mode, which nobody else shares.
    OwnPipe,
    /// It cannot be opened once more. Writable means room for a page at least (`PIPE_BUF` of
    /// Linux).
    Pipe,
    /// Writable means that fewer than 256 characters wait to go out (`WAKEUP_CHARS`,
    /// drivers/tty/n_tty.c).
    Terminal,
    /// The one kind that can be told not to block for a single call.
    Socket,
}

impl Kind {
    fn of(fd: &File) -> io::Result<Kind> {
        let metadata = fd.metadata()?;
        let kind = metadata.file_type();
        Ok(match () {
            () if kind.is_socket() => Kind::Socket,
            () if kind.is_file() || kind.is_block_device() => Kind::File,
            () if kind.is_char_device() && major(metadata.rdev()) == MEM_MAJOR => Kind::File,
            () if fd.is_terminal() => Kind::Terminal,
            () => Kind::Pipe,
        })
    }

    /// The most bytes for one write.
    fn bytes(self) -> usize {
        match self {
            Kind::File | Kind::OwnPipe | Kind::Socket => 64 * 1024,
            Kind::Pipe => 4096,
            Kind::Terminal => 256,
        }
    }

    /// Returns whether only poll(2) can tell that a call will not block.
    fn asks_first(self) -> bool {
        matches!(self, Kind::Pipe | Kind::Terminal)
    }
}

/// The kind of a descriptor that is owned, and the descriptor for it.
fn prepare(fd: File, again: &OpenOptions) -> io::Result<(Kind, OwnedFd)> {
    let kind = Kind::of(&fd)?;
    if kind == Kind::Pipe && fd.metadata()?.file_type().is_fifo() {
        // Without /proc, or as another user than the pipe's, it stays as it is.
        let opened = again
            .clone()
            .custom_flags(O_NONBLOCK)
            .open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        if let Ok(own) = opened {
            return Ok((Kind::OwnPipe, sys::owned(own)));
        }
    }
    Ok((kind, sys::owned(fd)))
}

/// asm-generic/fcntl.h.
const O_NONBLOCK: i32 = 0o4000;

/// The major number of /dev/null and /dev/zero (`MEM_MAJOR`, linux/major.h).
const MEM_MAJOR: u64 = 1;

/// The major number of a device, as long as it is a small one (`gnu_dev_major`, sys/sysmacros.h).
fn major(device: u64) -> u64 {
    device >> 8 & 0xfff
}

/// A descriptor to read from: a file, a pipe, a terminal or a socket.
pub struct Input {
    linux: Linux,
    fd: Rc<OwnedFd>,
    kind: Kind,
}

impl Input {
    /// Standard input. Another reader of the same terminal may take what was announced; a read then
    /// waits for more and holds up the program.
    pub fn stdin(linux: &Linux) -> io::Result<Self> {
        Self::new(linux, io::stdin().as_fd().try_clone_to_owned()?)
    }

    /// Any descriptor; its mode is left as it is. Fails if the kernel does not say what it is.
    pub fn new(linux: &Linux, fd: impl Into<std::os::fd::OwnedFd>) -> io::Result<Self> {
        let (kind, fd) = prepare(File::from(fd.into()), OpenOptions::new().read(true))?;
        Ok(Input { linux: linux.clone(), fd: Rc::new(fd), kind })
    }
}

impl ErrorType for Input {
    type Error = IoError;
}

impl Read for Input {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, IoError> {
        let reactor = self.linux.reactor();
        if self.kind.asks_first() {
            future::poll_fn(|cx| reactor.poll_ready(&self.fd, PollFlags::IN, cx))
                .await
                .map_err(IoError)?;
        }
        let get = |fd: BorrowedFd<'_>| match self.kind {
            Kind::Socket => {
                rustix::net::recv(fd, &mut *to, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes)
            }
            _ => sys::read(fd, &mut *to),
        };
        retry(reactor, &self.fd, PollFlags::IN, get).await.map_err(IoError)
    }
}

/// A descriptor to write to: a file, a pipe, a terminal or a socket.
pub struct Output {
    linux: Linux,
    fd: Rc<OwnedFd>,
    kind: Kind,
    on_drop: OnDrop,
}

/// The way in which the reader learns that this program writes no more. Closing the descriptor does
/// not tell it if another one of the same file is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OnDrop {
    Close,
    /// The other direction of the same socket stays open.
    ShutDown,
    /// Standard output itself is open, too: it becomes /dev/null.
    Redirect,
}

impl Drop for Output {
    fn drop(&mut self) {
        // A reader that is gone already needs no word of it.
        let _ = match self.on_drop {
            OnDrop::Close => Ok(()),
            OnDrop::ShutDown => rustix::net::shutdown(&*self.fd, Shutdown::Write),
            OnDrop::Redirect => OpenOptions::new()
                .write(true)
                .open("/dev/null")
                .map_err(|_| Errno::IO)
                .and_then(|null| rustix::stdio::dup2_stdout(sys::owned(null))),
        };
    }
}

impl Output {
    /// Standard output, past the standard library's buffer. Dropping it ends standard output for
    /// its reader, too.
    pub fn stdout(linux: &Linux) -> io::Result<Self> {
        let output = Self::new(linux, io::stdout().as_fd().try_clone_to_owned()?)?;
        Ok(output.with(OnDrop::Redirect))
    }

    /// The writing direction of a socket, which is shut down on drop.
    pub(crate) fn of_socket(
        linux: &Linux,
        fd: impl Into<std::os::fd::OwnedFd>,
    ) -> io::Result<Self> {
        Ok(Self::new(linux, fd)?.with(OnDrop::ShutDown))
    }

    fn with(mut self, on_drop: OnDrop) -> Self {
        self.on_drop = on_drop;
        self
    }

    /// Any descriptor; its mode is left as it is. Fails if the kernel does not say what it is.
    pub fn new(linux: &Linux, fd: impl Into<std::os::fd::OwnedFd>) -> io::Result<Self> {
        let (kind, fd) = prepare(File::from(fd.into()), OpenOptions::new().write(true))?;
        Ok(Output { linux: linux.clone(), fd: Rc::new(fd), kind, on_drop: OnDrop::Close })
    }
}

impl ErrorType for Output {
    type Error = IoError;
}

impl Write for Output {
    async fn write(&mut self, from: &[u8]) -> Result<usize, IoError> {
        let from = &from[..from.len().min(self.kind.bytes())];
        let reactor = self.linux.reactor();
        if self.kind.asks_first() {
            future::poll_fn(|cx| reactor.poll_ready(&self.fd, PollFlags::OUT, cx))
                .await
                .map_err(IoError)?;
        }
        let put = |fd: BorrowedFd<'_>| match self.kind {
            Kind::Socket => rustix::net::send(fd, from, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            _ => sys::write(fd, from),
        };
        match retry(reactor, &self.fd, PollFlags::OUT, put).await {
            Ok(0) if !from.is_empty() => Err(IoError(os_error(Errno::IO))),
            done => done.map_err(IoError),
        }
    }

    /// Nothing is held back here.
    async fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
