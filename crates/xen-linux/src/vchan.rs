//! vchan for ordinary programs: [`Stream`] reads and writes as a socket of the standard library
//! does, and `AsyncStream` (with the feature `tokio`) as one of tokio.

mod blocking;
#[cfg(feature = "tokio")]
mod tokio;

pub use self::blocking::Stream;
#[cfg(feature = "tokio")]
pub use self::tokio::AsyncStream;

use crate::{Linux, open_store_with};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::time::Duration;
use xen_platform::{Clock, DomId};
use xen_store::domains;
use xen_vchan::{ClientConfig, Connection, Error, connect};

/// The server's domain.
enum Peer {
    Number(DomId),
    Name(String),
}

/// Connects to the server at `path` below the domain's folder within `timeout`. Tasks go to
/// `spawn`.
async fn open(
    linux: &Linux,
    peer: Peer,
    path: String,
    timeout: Duration,
    spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>),
) -> io::Result<Connection<Linux>> {
    let store = open_store_with(linux, spawn).await.map_err(io::Error::other)?;
    let peer = match peer {
        Peer::Number(peer) => peer,
        Peer::Name(name) => {
            let found = domains::find_by_name(&store, &name).await.map_err(io::Error::other)?;
            let missing = || io::Error::new(ErrorKind::NotFound, format!("no domain {name} lives"));
            found.ok_or_else(missing)?
        }
    };
    let config = ClientConfig::new(peer, path).deadline(Some(linux.now() + timeout));
    connect(linux, &store, &config).await.map_err(io_error)
}

/// Wraps an error of the connection, with the kind that a socket would have.
fn io_error<E: std::error::Error + Send + Sync + 'static>(error: Error<E>) -> io::Error {
    let kind = match &error {
        Error::Died(_) => ErrorKind::ConnectionReset,
        Error::Closed => ErrorKind::BrokenPipe,
        Error::Timeout | Error::Stale { .. } => ErrorKind::TimedOut,
        Error::NoServer { .. } => ErrorKind::ConnectionRefused,
        Error::Busy { .. } => ErrorKind::ResourceBusy,
        Error::Peer(_) => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
