//! Local connections: unix sockets, TCP, and pseudo terminals.

use crate::reactor::{os_error, retry};
use crate::socket_file::{SocketAccess, SocketFile};
use crate::{Input, IoError, Linux, Output, sys};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pty::{ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The two directions of a connection.
pub type Streams = (Input, Output);

/// Takes local connections.
pub struct LocalListener {
    linux: Linux,
    /// The socket once more, to wait for it.
    fd: Rc<OwnedFd>,
    socket: Socket,
}

enum Socket {
    /// With its file, which is removed at the end.
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

impl LocalListener {
    /// Listens on a unix socket, which is removed when this is dropped. One at the same path whose
    /// server is gone is replaced; of several servers that start at once, one succeeds.
    pub fn unix(linux: &Linux, path: &Path, access: &SocketAccess) -> io::Result<Self> {
        let (socket, file) = SocketFile::listen(path, access)?;
        let fd = socket.as_fd().try_clone_to_owned()?;
        Ok(Self::new(linux, fd, Socket::Unix(socket, file)))
    }

    /// Listens on a TCP address.
    pub fn tcp(linux: &Linux, address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let fd = socket.as_fd().try_clone_to_owned()?;
        Ok(Self::new(linux, fd, Socket::Tcp(socket)))
    }

    fn new(linux: &Linux, fd: std::os::fd::OwnedFd, socket: Socket) -> Self {
        LocalListener { linux: linux.clone(), fd: Rc::new(sys::owned(fd)), socket }
    }

    /// The address, as users write it: of a TCP port 0, the one that was chosen.
    pub fn address(&self) -> String {
        match &self.socket {
            Socket::Unix(_, file) => file.path().display().to_string(),
            Socket::Tcp(socket) => {
                socket.local_addr().map_or_else(|error| error.to_string(), |own| own.to_string())
            }
        }
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<Streams, IoError> {
        let accept = || match &self.socket {
            Socket::Unix(socket, _) => socket.accept().map(|(stream, _)| stream.into()),
            Socket::Tcp(socket) => socket.accept().and_then(|(stream, _)| prompt(stream)),
        };
        let errno =
            |error: io::Error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
        let again = |_: rustix::fd::BorrowedFd<'_>| match accept() {
            // A client that gave up before it was accepted is not the next.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Err(Errno::AGAIN),
            accepted => accepted.map_err(errno),
        };
        let stream =
            retry(self.linux.reactor(), &self.fd, PollFlags::IN, again).await.map_err(IoError)?;
        streams(&self.linux, stream).map_err(IoError)
    }
}

/// Without the wait for more bytes to send: they come in the pieces in which the peer wrote them.
fn prompt(stream: TcpStream) -> io::Result<std::os::fd::OwnedFd> {
    stream.set_nodelay(true)?;
    Ok(stream.into())
}

pub(crate) fn streams(linux: &Linux, fd: std::os::fd::OwnedFd) -> io::Result<Streams> {
    let input = Input::new(linux, fd.try_clone()?)?;
    Ok((input, Output::of_socket(linux, fd)?))
}

/// A new pseudo terminal in raw mode.
pub struct Pty {
    linux: Linux,
    master: File,
    /// Held open: without it, reading fails as soon as the last user of the terminal has gone.
    _slave: File,
    name: PathBuf,
}

impl Pty {
    /// Makes one.
    pub fn open(linux: &Linux) -> io::Result<Self> {
        let (master, slave, name) = open_pair()?;
        let fd = sys::owned(slave.try_clone()?);
        let mut settings = tcgetattr(&fd).map_err(os_error)?;
        settings.make_raw();
        tcsetattr(&fd, OptionalActions::Now, &settings).map_err(os_error)?;
        Ok(Pty { linux: linux.clone(), master, _slave: slave, name })
    }

    /// The device for the terminal's users.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the stream that its users write, and the one that they read.
    pub fn streams(&self) -> io::Result<Streams> {
        streams(&self.linux, self.master.try_clone()?.into())
    }
}

/// Opens a new pseudo terminal: its master, its slave, and the slave's device.
pub(crate) fn open_pair() -> io::Result<(File, File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_NOCTTY);
    let master = options.open("/dev/ptmx")?;
    let fd = sys::owned(master.try_clone()?);
    unlockpt(&fd).map_err(os_error)?;
    let name = ptsname(&fd, Vec::new()).map_err(os_error)?;
    let name = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let slave = options.open(&name)?;
    Ok((master, slave, name))
}

/// asm-generic/fcntl.h.
const O_NOCTTY: i32 = 0o400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect_tcp, connect_unix};
    use embedded_io_async::{Read, Write};

    /// Sends through both directions of two connected pairs.
    async fn talk((mut from_a, mut to_a): Streams, (mut from_b, mut to_b): Streams) {
        to_a.write_all(b"there").await.unwrap();
        to_b.write_all(b"back").await.unwrap();
        let (mut there, mut back) = ([0; 5], [0; 4]);
        from_b.read_exact(&mut there).await.unwrap();
        from_a.read_exact(&mut back).await.unwrap();
        assert_eq!((&there, &back), (b"there", b"back"));
        drop((from_a, to_a));
        assert_eq!(from_b.read(&mut there).await.unwrap(), 0);
    }

    #[test]
    fn a_unix_socket_is_connected_to_and_removed_at_the_end() {
        let linux = Linux::new();
        let path = std::env::temp_dir().join(format!("xen-linux-local-{}", std::process::id()));
        // One that is left over.
        drop(UnixListener::bind(&path).unwrap());
        let listener = LocalListener::unix(&linux, &path, &SocketAccess::default()).unwrap();
        let host = linux.clone();
        linux.run(|spawner| async move {
            let accepting =
                spawner.spawn(async move { (listener.accept().await.unwrap(), listener) });
            xen_exec::yield_now().await;
            let ours = connect_unix(&host, Path::new(&path)).await.unwrap();
            let (theirs, listener) = accepting.join().await;
            talk(ours, theirs).await;
            assert!(
                LocalListener::unix(&host, &path, &SocketAccess::default()).is_err(),
                "it is in use"
            );
            drop(listener);
            assert!(!path.exists());
        });
    }

    #[test]
    fn tcp_on_a_free_port() {
        let linux = Linux::new();
        let listener = LocalListener::tcp(&linux, "127.0.0.1:0".parse().unwrap()).unwrap();
        let address: SocketAddr = listener.address().parse().unwrap();
        assert_ne!(address.port(), 0);
        let host = linux.clone();
        linux.run(|_| async move {
            let ours = connect_tcp(&host, address).await.unwrap();
            talk(ours, listener.accept().await.unwrap()).await;
            drop(listener);
            assert!(connect_tcp(&host, address).await.is_err());
        });
    }

    #[test]
    fn a_terminal_passes_every_byte_and_survives_its_users() {
        let linux = Linux::new();
        let pty = Pty::open(&linux).unwrap();
        let (mut from, mut to) = pty.streams().unwrap();
        let host = linux.clone();
        linux.run(|_| async move {
            for _ in 0..2 {
                let user = OpenOptions::new().read(true).write(true).open(pty.name()).unwrap();
                let (mut input, mut output) = streams(&host, user.into()).unwrap();
                output.write_all(b"\r\n\x03\x04\x7f").await.unwrap();
                let mut got = [0; 5];
                from.read_exact(&mut got).await.unwrap();
                assert_eq!(&got, b"\r\n\x03\x04\x7f");
                to.write_all(b"\n\x00").await.unwrap();
                input.read_exact(&mut got[..2]).await.unwrap();
                assert_eq!(&got[..2], b"\n\x00");
            }
        });
    }
}
