//! Connections to servers. A server that does not let its callers in stops nobody else's
//! work, and is not waited for for ever.

use crate::local::{Streams, streams};
use crate::reactor::os_error;
use crate::{Linux, sys};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Clock, deadline, sleep};

/// Time limit for a server to let a caller in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time between two tries of a queue of callers that was full: the kernel does not
/// tell.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects to a unix socket; waits up to ten seconds while too many others want to.
pub async fn connect_unix(linux: &Linux, path: &Path) -> io::Result<Streams> {
    within(linux, PATIENCE, unix(linux, path)).await
}

/// Connects to a TCP address. Waits up to ten seconds for an answer.
pub async fn connect_tcp(linux: &Linux, address: SocketAddr) -> io::Result<Streams> {
    within(linux, PATIENCE, tcp(linux, address)).await
}

async fn within(
    linux: &Linux,
    patience: Duration,
    work: impl Future<Output = io::Result<Streams>>,
) -> io::Result<Streams> {
    deadline(linux, Some(linux.now() + patience), work).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it has let nobody in for {patience:?}"),
        ))
    })
}

async fn unix(linux: &Linux, path: &Path) -> io::Result<Streams> {
    loop {
        match unix_now(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(linux, PAUSE).await,
            connected => return streams(linux, sys::to_std(connected?)),
        }
    }
}

/// Connects to a unix socket without waiting: an error of the kind `WouldBlock` says that too many
/// others want to.
pub(crate) fn unix_now(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(AddressFamily::UNIX)?;
    let address = SocketAddrUnix::new(path.as_os_str().as_bytes()).map_err(os_error)?;
    connect(&socket, &address).map_err(os_error)?;
    Ok(socket)
}

async fn tcp(linux: &Linux, address: SocketAddr) -> io::Result<Streams> {
    let socket = Rc::new(new_socket(if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    })?);
    match connect(&*socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            poll_fn(|cx| linux.reactor().poll_ready(&socket, PollFlags::OUT, cx)).await?;
            socket_error(&*socket).map_err(os_error)?.map_err(os_error)?;
        }
        Err(errno) => return Err(os_error(errno)),
    }
    // Without the wait for more bytes to send: they come in the pieces in which the peer wrote
    // them.
    set_tcp_nodelay(&*socket, true).map_err(os_error)?;
    let socket = Rc::into_inner(socket).expect("the reactor keeps nothing alive");
    streams(linux, sys::to_std(socket))
}

pub(crate) fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).map_err(os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::listen;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    /// Lets one caller wait, and no more.
    fn shorten(listener: impl Into<std::os::fd::OwnedFd>) -> OwnedFd {
        let fd = sys::owned(listener);
        listen(&fd, 0).unwrap();
        fd
    }

    #[test]
    fn a_unix_server_that_lets_nobody_in_is_not_waited_for_for_ever() {
        let linux = Linux::new();
        let path = std::env::temp_dir().join(format!("xen-linux-dial-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let _short = shorten(listener.try_clone().unwrap());
        let host = linux.clone();
        linux.run(|spawner| async move {
            let _first = connect_unix(&host, &path).await.unwrap();
            let refused = within(&host, Duration::ZERO, unix(&host, &path)).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
            // Others go on meanwhile, and once one was let in, there is room for the next.
            let (second, to) = (host.clone(), path.clone());
            let waiting = spawner.spawn(async move { connect_unix(&second, &to).await.map(drop) });
            xen_exec::yield_now().await;
            listener.accept().unwrap();
            waiting.join().await.unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(
                connect_unix(&host, &path).await.err().unwrap().kind(),
                io::ErrorKind::NotFound
            );
        });
    }

    #[test]
    fn a_tcp_server_that_lets_nobody_in_is_not_waited_for_for_ever() {
        let linux = Linux::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let short = shorten(listener);
        let host = linux.clone();
        linux.run(|_| async move {
            let _first = within(&host, Duration::ZERO, tcp(&host, address)).await.unwrap();
            let refused = within(&host, Duration::ZERO, tcp(&host, address)).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
            drop(short);
            assert_eq!(
                connect_tcp(&host, address).await.err().unwrap().kind(),
                io::ErrorKind::ConnectionRefused
            );
        });
    }
}
