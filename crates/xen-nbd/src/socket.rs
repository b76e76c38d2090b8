//! Sockets of both kinds. Every connect, and every read and write with a timeout, ends.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A place where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A connected socket. Reads and writes take a shared reference, so that one thread can read while
/// another writes.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// In the file system.
    Unix(UnixStream),
}

impl Socket {
    /// Connects within `timeout`.
    pub fn connect(address: &Address, timeout: Duration) -> io::Result<Socket> {
        match address {
            Address::Tcp { host, port } => connect_tcp(host, *port, timeout),
            Address::Unix(path) => {
                let family = AddressFamily::Unix;
                let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
                // The only limit there is for a server that accepts nobody.
                let limit = TimeVal::milliseconds(timeout.as_millis().max(1) as i64);
                setsockopt(&fd, sockopt::SendTimeout, &limit)?;
                connect(fd.as_raw_fd(), &UnixAddr::new(path)?).map_err(|errno| match errno {
                    nix::Error::EAGAIN => {
                        io::Error::new(io::ErrorKind::TimedOut, "the server accepts no connection")
                    }
                    errno => errno.into(),
                })?;
                Ok(Socket::Unix(UnixStream::from(fd)))
            }
        }
    }

    /// Sets the times after which a read and a write that move no byte fail.
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
            Socket::Unix(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
        }
    }

    /// Ends one direction or both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }

    /// Writes all bytes of `head` and `tail`, with as few calls as the kernel needs.
    pub fn send(&self, mut head: &[u8], mut tail: &[u8]) -> io::Result<()> {
        let mut socket = self;
        while !head.is_empty() {
            match socket.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let of_head = count.min(head.len());
                    head = &head[of_head..];
                    tail = &tail[count - of_head..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        socket.write_all(tail)
    }

    /// Ends the sending direction, and waits until the peer has ended the other: it does nothing
    /// any more for this connection then. False if it does not within `timeout`.
    pub fn drain(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        if self.shutdown(Shutdown::Write).is_err() {
            // It is closed already.
            return true;
        }
        let mut waste = vec![0; 64 << 10];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.set_timeouts(Some(left), None).is_err() {
                return false;
            }
            match (&mut &*self).read(&mut waste) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return false,
                    // Reset: the other side is gone.
                    _ => return true,
                },
            }
        }
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                // A peer whose machine has gone is noticed even if nothing is sent.
                setsockopt(&stream, sockopt::KeepAlive, &true)?;
                return Ok(Socket::Tcp(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Read for &Socket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(to),
            Socket::Unix(stream) => (&mut &*stream).read(to),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(from),
            Socket::Unix(stream) => (&mut &*stream).write(from),
        }
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write_vectored(from),
            Socket::Unix(stream) => (&mut &*stream).write_vectored(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
