//! Ways to xenstore: the daemon's socket, or the kernel's own connection.

mod request_gate;

use self::request_gate::RequestGate;
use crate::dial::unix_now;
use crate::reactor::{os_error, retry};
use crate::{Error, IoError, Linux, error, sys};
use embedded_io_async::{ErrorType, Read, Write};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use std::env;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use xen_exec::Spawner;
use xen_platform::{Clock, DomId, deadline};
use xen_store::Store;

/// Time limit for xenstore's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Connects to xenstore, spawns the task that keeps the connection, and learns the own domain's
/// number there (see [`Platform::domid`](xen_platform::Platform::domid)). Fails with every way that
/// was tried, or if no answer comes within ten seconds.
///
/// The ways are, in the order of Xen's own tools: the socket named by `$XENSTORED_PATH`, or else
/// `socket` in `$XENSTORED_RUNDIR`, /run/xenstored or /var/run/xenstored; and then /dev/xen/xenbus,
/// the only one in a guest and where xenstored runs in another domain.
pub async fn open_store(linux: &Linux, spawner: &Spawner) -> Result<Store, Error> {
    open_store_with(linux, |driver| {
        spawner.spawn(driver);
    })
    .await
}

/// As [`open_store`], for an executor of the caller's choice: `spawn` gets the task that keeps the
/// connection.
pub async fn open_store_with(
    linux: &Linux,
    spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>),
) -> Result<Store, Error> {
    linux.reactor().make_timer().map_err(error::timer)?;
    let (fd, way) = open_transport(linux, |name| env::var_os(name).map(PathBuf::from))?;
    let (reader, writer) = split(linux, fd, way);
    let (store, driver) = xen_store::connect(reader, writer);
    // Its end ends every request and watch of the store, with the reason.
    spawn(Box::pin(async move { drop(driver.await) }));
    let first = deadline(linux, Some(linux.now() + FIRST_ANSWER), own_domid(&store, way)).await;
    match first {
        Ok(Ok(domid)) => linux.set_domid(domid),
        Ok(Err(error)) => return Err(Error::StoreSilent { reason: error.to_string() }),
        Err(_) => {
            return Err(Error::StoreSilent {
                reason: format!("nothing came within {FIRST_ANSWER:?}"),
            });
        }
    }
    Ok(store)
}

/// Asks for the own domain's number, and so whether xenstored answers at all.
async fn own_domid(store: &Store, way: Way) -> Result<DomId, xen_store::Error> {
    match way {
        // The daemon needs dom0's privileges, and its socket reaches no further than its domain. It
        // has no folder to look up a relative path of such a client in.
        Way::Socket => store.domain_path(DomId(0)).await.map(|_| DomId(0)),
        // A relative path is the own domain's. dom0 has the key only once xen-init-dom0 ran, a
        // guest always.
        Way::Xenbus => match store.read_number("domid").await {
            Err(error) if error.is_not_found() => Ok(DomId(0)),
            domid => domid.map(DomId),
        },
    }
}

/// The way to xenstore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Socket,
    Xenbus,
}

fn open_transport(
    linux: &Linux,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<(OwnedFd, Way), Error> {
    let mut tried = Vec::new();
    let named = ["XENSTORED_PATH", "XENSTORED_RUNDIR"].iter().any(|name| variable(name).is_some());
    for path in sockets(variable) {
        match unix_now(&path) {
            Ok(fd) => return Ok((fd, Way::Socket)),
            Err(reason) => tried.push((path.display().to_string(), reason)),
        }
    }
    match linux.open("xenbus", "xenfs") {
        Ok(fd) => Ok((fd, Way::Xenbus)),
        Err(Error::Open { device, reason, .. }) => {
            tried.push((device, reason));
            Err(error::no_store(&tried))
        }
        // The socket that the user named says more than that there is no device.
        Err(Error::NoXen) if named => {
            let reason = io::Error::other("this is no Xen domain");
            tried.push(("/dev/xen/xenbus".to_string(), reason));
            Err(error::no_store(&tried))
        }
        Err(error) => Err(error),
    }
}

fn sockets(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = variable("XENSTORED_PATH") {
        return vec![path];
    }
    match variable("XENSTORED_RUNDIR") {
        Some(dir) => vec![dir.join("socket")],
        None => ["/run/xenstored/socket", "/var/run/xenstored/socket"].map(PathBuf::from).to_vec(),
    }
}

fn split(linux: &Linux, fd: OwnedFd, way: Way) -> (StoreReader, StoreWriter) {
    let fd = Rc::new(fd);
    let gate = (way == Way::Xenbus).then(Rc::<RequestGate>::default);
    let reader = StoreReader { linux: linux.clone(), fd: fd.clone(), gate: gate.clone() };
    (reader, StoreWriter { linux: linux.clone(), fd, gate })
}

/// The stream from xenstore.
struct StoreReader {
    linux: Linux,
    fd: Rc<OwnedFd>,
    gate: Option<Rc<RequestGate>>,
}

/// The stream to xenstore. Each write goes out at once and in one piece: the device looks
/// for one message in each, and throws away what follows it
/// (drivers/xen/xenbus/xenbus_dev_frontend.c). `xen_store` writes accordingly.
struct StoreWriter {
    linux: Linux,
    fd: Rc<OwnedFd>,
    /// The device takes one request at a time, too.
    gate: Option<Rc<RequestGate>>,
}

impl ErrorType for StoreReader {
    type Error = IoError;
}

impl Read for StoreReader {
    async fn read(&mut self, to: &mut [u8]) -> Result<usize, IoError> {
        let read = |fd: rustix::fd::BorrowedFd<'_>| sys::read(fd, &mut *to);
        let bytes =
            retry(self.linux.reactor(), &self.fd, PollFlags::IN, read).await.map_err(IoError)?;
        if let Some(gate) = &self.gate {
            gate.read(&to[..bytes]);
        }
        Ok(bytes)
    }
}

impl ErrorType for StoreWriter {
    type Error = IoError;
}

impl Write for StoreWriter {
    async fn write(&mut self, from: &[u8]) -> Result<usize, IoError> {
        if let Some(gate) = &self.gate {
            gate.acquire(from).await;
        }
        // The device never says that it can be written, and never asks to wait either: it takes
        // what it gets.
        let write = |fd: rustix::fd::BorrowedFd<'_>| sys::write(fd, from);
        let bytes =
            retry(self.linux.reactor(), &self.fd, PollFlags::OUT, write).await.map_err(IoError)?;
        if bytes == 0 && !from.is_empty() {
            return Err(IoError(os_error(rustix::io::Errno::IO)));
        }
        if let Some(gate) = &self.gate {
            gate.wrote(bytes);
        }
        Ok(bytes)
    }

    /// Nothing is held back here.
    async fn flush(&mut self) -> Result<(), IoError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
