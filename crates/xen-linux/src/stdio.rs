//! Standard input and output as asynchronous streams.
//!
//! Their descriptors may be shared with other programs (a shell, the other end of a pipeline), so they stay in blocking
//! mode. poll(2) says when a read will not block; a write is kept so short that it does not after poll(2) said that
//! there is room.

use crate::reactor::{os_error, retry};
use crate::{Linux, sys};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;
use std::{fmt, future, io};

/// An error of the operating system, as `embedded-io` wants it.
#[derive(Debug)]
pub struct IoError(pub io::Error);

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// A descriptor to read from: a file, a pipe, a terminal or a socket.
pub struct Input {
    linux: Linux,
    fd: Rc<OwnedFd>,
}

impl Input {
    /// Standard input. Another reader of the same description may take what was announced; a read then waits for more
    /// and holds up the program.
    pub fn stdin(linux: &Linux) -> io::Result<Self> {
        Ok(Self::new(linux, io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Any descriptor; its mode is left as it is.
    pub fn new(linux: &Linux, fd: impl Into<std::os::fd::OwnedFd>) -> Self {
        Input { linux: linux.clone(), fd: Rc::new(sys::owned(fd)) }
    }
}

impl ErrorType for Input {
    type Error = IoError;
}

impl Read for Input {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, IoError> {
        let reactor = self.linux.reactor();
        future::poll_fn(|cx| reactor.poll_ready(&self.fd, PollFlags::IN, cx)).await.map_err(IoError)?;
        retry(reactor, &self.fd, PollFlags::IN, |fd| rustix::io::read(fd, &mut *to)).await.map_err(IoError)
    }
}

/// What a descriptor for output is: it decides how much may be written at once.
#[derive(Clone, Copy)]
enum Sink {
    /// Writes take what they take, but not for ever.
    File,
    /// Writable means room for a page at least (`PIPE_BUF` of Linux).
    Pipe,
    /// Writable means that fewer than 256 characters wait to go out (`WAKEUP_CHARS`, drivers/tty/n_tty.c).
    Terminal,
    /// The one kind that can be told not to block for a single write.
    Socket,
}

impl Sink {
    fn of(fd: &File) -> io::Result<Sink> {
        let kind = fd.metadata()?.file_type();
        Ok(match () {
            () if kind.is_socket() => Sink::Socket,
            () if kind.is_file() || kind.is_block_device() => Sink::File,
            () if fd.is_terminal() => Sink::Terminal,
            () => Sink::Pipe,
        })
    }

    /// The most bytes for one write.
    fn bytes(self) -> usize {
        match self {
            Sink::File | Sink::Socket => 64 * 1024,
            Sink::Pipe => 4096,
            Sink::Terminal => 256,
        }
    }
}

/// A descriptor to write to: a file, a pipe, a terminal or a socket.
pub struct Output {
    linux: Linux,
    fd: Rc<OwnedFd>,
    sink: Sink,
}

impl Output {
    /// Standard output, past the standard library's buffer.
    pub fn stdout(linux: &Linux) -> io::Result<Self> {
        Self::new(linux, io::stdout().as_fd().try_clone_to_owned()?)
    }

    /// Any descriptor; its mode is left as it is. Fails if the kernel does not say what it is.
    pub fn new(linux: &Linux, fd: impl Into<std::os::fd::OwnedFd>) -> io::Result<Self> {
        let file = File::from(fd.into());
        let sink = Sink::of(&file)?;
        Ok(Output { linux: linux.clone(), fd: Rc::new(sys::owned(file)), sink })
    }
}

impl ErrorType for Output {
    type Error = IoError;
}

impl Write for Output {
    async fn write(&mut self, from: &[u8]) -> Result<usize, IoError> {
        let from = &from[..from.len().min(self.sink.bytes())];
        let reactor = self.linux.reactor();
        future::poll_fn(|cx| reactor.poll_ready(&self.fd, PollFlags::OUT, cx)).await.map_err(IoError)?;
        let put = |fd: rustix::fd::BorrowedFd<'_>| match self.sink {
            Sink::Socket => rustix::net::send(fd, from, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            _ => rustix::io::write(fd, from),
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
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _, pipe};

    #[test]
    fn a_full_pipe_holds_up_its_writer_and_nobody_else() {
        let linux = Linux::new();
        let (reader, writer) = pipe().unwrap();
        let mut output = Output::new(&linux, writer).unwrap();
        let mut input = Input::new(&linux, reader);
        let data: Vec<u8> = (0..1_000_000u32).map(|i| (i >> 3) as u8).collect();
        let expected = data.clone();
        let got = linux.run(|spawner| async move {
            // Were the writer to block in the kernel, nobody would ever make room.
            let writing = spawner.spawn(async move { output.write_all(&data).await.map_err(|e| e.0) });
            let mut got = Vec::new();
            let mut chunk = [0; 5000];
            while got.len() < 1_000_000 {
                let bytes = input.read(&mut chunk).await.unwrap();
                got.extend_from_slice(&chunk[..bytes]);
            }
            writing.join().await.unwrap();
            got
        });
        assert!(got == expected);
    }

    #[test]
    fn a_regular_file_is_read_to_its_end_and_written() {
        let linux = Linux::new();
        let path = std::env::temp_dir().join(format!("xen-linux-stdio-{}", std::process::id()));
        let mut output = Output::new(&linux, File::create(&path).unwrap()).unwrap();
        let mut input = Input::new(&linux, File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        linux.run(|_| async move {
            let data = vec![7; 200_000];
            output.write_all(&data).await.unwrap();
            let mut got = Vec::new();
            let mut chunk = vec![0; 70_000];
            loop {
                match input.read(&mut chunk).await.unwrap() {
                    0 => break,
                    bytes => got.extend_from_slice(&chunk[..bytes]),
                }
            }
            assert!(got == data);
        });
    }

    #[test]
    fn input_waits_for_a_pipe_without_changing_its_mode() {
        let linux = Linux::new();
        let (reader, mut writer) = pipe().unwrap();
        let mut probe = reader.try_clone().unwrap();
        let mut input = Input::new(&linux, reader);
        linux.run(|spawner| async move {
            let reading = spawner.spawn(async move {
                let mut to = [0; 16];
                let bytes = input.read(&mut to).await.unwrap();
                (to[..bytes].to_vec(), input.read(&mut to).await.unwrap())
            });
            xen_exec::yield_now().await;
            writer.write_all(b"line\n").unwrap();
            xen_exec::yield_now().await;
            drop(writer);
            assert_eq!(reading.join().await, (b"line\n".to_vec(), 0));
        });
        // In non-blocking mode, with no writer left, this would still be the end: so ask the descriptor itself.
        assert_eq!(probe.read(&mut [0; 1]).unwrap(), 0);
        let flags = rustix::fs::fcntl_getfl(sys::owned(probe)).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let linux = Linux::new();
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut output = Output::new(&linux, writer).unwrap();
        let error = linux.run(|_| async move { output.write(b"x").await.unwrap_err() });
        assert_eq!(embedded_io_async::Error::kind(&error), ErrorKind::BrokenPipe);
    }
}
