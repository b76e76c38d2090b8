//! An in-memory xenstored for tests: strict, deterministic, able to inject faults.
//!
//! It speaks the wire protocol to any number of clients and does what they ask as soon as the last
//! byte of it comes in, so there is nothing to run. Permissions, relative paths, transactions (with
//! conflicts node by node), watches and the quotas of transactions and watches are as in Xen's own
//! daemon (`docs/misc/xenstore.txt`); breaking the framing ends the connection.
//!
//! ```
//! use embedded_io_async::{Read, Write};
//! use xen_platform::DomId;
//! use xen_sim::{Sim, xenstore::Xenstored};
//!
//! let store = Xenstored::new();
//! store.introduce(DomId(1));
//! let (mut from, mut to) = store.connect(DomId(1));
//! let reply = Sim::new().run(async move {
//!     // READ (2), request 7, no transaction, 6 bytes.
//!     to.write_all(&[2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0]).await.unwrap();
//!     to.write_all(b"domid\0").await.unwrap();
//!     let mut reply = [0; 17];
//!     from.read_exact(&mut reply).await.unwrap();
//!     reply
//! });
//! assert_eq!(reply[16], b'1');
//! ```

mod connection;
mod daemon;
mod pipe;
mod request;
mod tree;

pub use pipe::{Disconnected, Reader, Writer};

use self::connection::Connection;
use self::daemon::Daemon;
use self::pipe::End;
use self::tree::{DOM0, Permissions};
use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use xen_platform::DomId;

/// The name of an error, as it is sent.
type Errno = &'static str;

/// A connection's number.
type Id = u64;

/// The daemon. Clones are handles on the same one.
#[derive(Clone)]
pub struct Xenstored(Rc<RefCell<Daemon>>);

impl Default for Xenstored {
    fn default() -> Self {
        Self::new()
    }
}

impl Xenstored {
    /// A daemon that knows only domain 0.
    pub fn new() -> Self {
        Xenstored(Rc::new(RefCell::new(Daemon::new())))
    }

    /// Connects a client that belongs to `domain`. Domain 0 may do everything. A domain that was
    /// not introduced, or was released, gets a connection that is over already.
    pub fn connect(&self, domain: DomId) -> (Reader, Writer) {
        let id = self.with(|daemon| {
            daemon.last_connection += 1;
            let mut connection = Connection::new(domain);
            if !daemon.introduced.contains(&domain) {
                connection.close(&mut daemon.wakers);
            }
            daemon.connections.insert(daemon.last_connection, connection);
            daemon.last_connection
        });
        let end = Rc::new(End { daemon: self.clone(), id });
        (Reader(end.clone()), Writer(end))
    }

    /// Serves a client of `domain` over any byte stream, such as the daemon's end of a shared ring,
    /// until either side ends.
    pub fn serve<R: Read, W: Write>(
        &self,
        domain: DomId,
        from: R,
        to: W,
    ) -> impl Future<Output = ()> + use<R, W> {
        let (answers, requests) = self.connect(domain);
        async move {
            let mut requests = pin!(copy(from, requests));
            let mut answers = pin!(copy(answers, to));
            poll_fn(|cx| match requests.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => answers.as_mut().poll(cx),
            })
            .await
        }
    }

    /// A domain has been built: it gets a folder as the toolstack makes it (it can read that and
    /// write `data`, `control/shutdown` and the like), it can connect, and `@introduceDomain`
    /// fires. Permissions that it was given before count for nothing (XSA-322).
    pub fn introduce(&self, domain: DomId) {
        self.with(|daemon| {
            assert!(daemon.introduced.insert(domain), "domain {domain} has been introduced before");
            daemon.tree.forget(domain);
            daemon.make_folder(domain);
            daemon.fire_special("@introduceDomain");
        })
    }

    /// A domain is gone: its connections end, its watches and transactions go, and `@releaseDomain`
    /// fires. Its nodes stay; they are the toolstack's to remove.
    pub fn release(&self, domain: DomId) {
        self.disconnect(domain);
        self.with(|daemon| {
            assert!(daemon.introduced.remove(&domain), "domain {domain} is not introduced");
            daemon.fire_special("@releaseDomain");
        })
    }

    /// Returns the value at an absolute path, whatever its permissions.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        self.0.borrow().tree.peek(request::checked(path)).map(|node| node.value.clone())
    }

    /// The permissions at an absolute path, as text: `n1 r0`.
    pub fn permissions(&self, path: &str) -> Option<String> {
        let daemon = self.0.borrow();
        let node = daemon.tree.peek(request::checked(path))?;
        Some(node.permissions.entries().collect::<Vec<_>>().join(" "))
    }

    /// Writes as domain 0; watches fire.
    pub fn set(&self, path: &str, value: impl AsRef<[u8]>) {
        self.with(|daemon| {
            daemon.tree.write(DOM0, request::checked(path), value.as_ref()).expect("domain 0 may");
            daemon.fire();
        })
    }

    /// Sets permissions as domain 0, from text as [`Xenstored::permissions`] gives it; watches
    /// fire.
    pub fn set_permissions(&self, path: &str, permissions: &str) {
        let entries: Vec<&str> = permissions.split(' ').collect();
        let parsed = Permissions::parse(&entries)
            .unwrap_or_else(|| panic!("{permissions:?} are no permissions"));
        self.with(|daemon| {
            let set = daemon.tree.set_permissions(DOM0, request::checked(path), parsed);
            set.unwrap_or_else(|errno| panic!("cannot set the permissions of {path}: {errno}"));
            daemon.fire();
        })
    }

    /// Removes a node and all below it as domain 0; watches fire.
    pub fn remove(&self, path: &str) {
        self.with(|daemon| {
            let removed = daemon.tree.remove(DOM0, request::checked(path));
            removed.unwrap_or_else(|errno| panic!("cannot remove {path}: {errno}"));
            daemon.fire();
        })
    }

    /// All nodes, one line each: path, value, permissions. To be compared before and after: what is
    /// new was left behind.
    pub fn dump(&self) -> String {
        let mut text = String::new();
        for (path, node) in self.0.borrow().tree.nodes() {
            let permissions = node.permissions.entries().collect::<Vec<_>>().join(" ");
            let value = String::from_utf8_lossy(&node.value);
            writeln!(text, "{path} = {value:?} ({permissions})").expect("writing to a string");
        }
        text
    }

    /// Returns the number of requests that the clients of all domains have made.
    pub fn requests(&self) -> u64 {
        self.0.borrow().requests
    }

    /// Returns the number of watch events that the connections of today were sent.
    pub fn watch_events(&self) -> u64 {
        self.0.borrow().connections.values().map(|connection| connection.watch_events).sum()
    }

    /// Returns the number of watches of a domain's clients.
    pub fn watches(&self, domain: DomId) -> usize {
        self.count(domain, |connection| connection.watches.len())
    }

    /// Returns the number of open transactions of a domain's clients.
    pub fn transactions(&self, domain: DomId) -> usize {
        self.count(domain, |connection| connection.transactions.len())
    }

    /// Fault: the next `count` transactions that are committed fail with EAGAIN, in any
    /// connection.
    pub fn fail_commits(&self, count: usize) {
        self.with(|daemon| daemon.commits_to_fail += count)
    }

    /// Fault: sends bytes of your choice to the clients of a domain, behind what is on the way to
    /// them.
    pub fn inject(&self, domain: DomId, bytes: &[u8]) {
        self.each(domain, |connection, wakers| connection.send_raw(bytes, wakers))
    }

    /// Fault: ends the connections of a domain. Their clients still get what is on the way, unless
    /// it is held.
    pub fn disconnect(&self, domain: DomId) {
        self.each(domain, |connection, wakers| connection.close(wakers))
    }

    /// Fault: keeps back answers and events for the clients of a domain from now on. Requests are
    /// still carried out.
    pub fn hold_replies(&self, domain: DomId) {
        self.each(domain, |connection, _| {
            connection.held = Some(connection.held.take().unwrap_or_default())
        })
    }

    /// Sends what was held, in the order that `arrange` leaves it in (each item is one message),
    /// and holds no more.
    pub fn send_held(&self, domain: DomId, arrange: impl Fn(&mut Vec<Vec<u8>>)) {
        self.each(domain, |connection, wakers| {
            let mut held = connection.held.take().unwrap_or_default();
            arrange(&mut held);
            held.iter().for_each(|message| connection.send_raw(message, wakers));
        })
    }

    /// Fault: readers and writers move at most `bytes` (not 0) at once from now on.
    pub fn limit_transfer(&self, bytes: usize) {
        assert_ne!(bytes, 0, "a piece has bytes");
        self.with(|daemon| daemon.transfer_max = bytes)
    }

    fn count(&self, domain: DomId, what: impl Fn(&Connection) -> usize) -> usize {
        let daemon = self.0.borrow();
        daemon.connections.values().filter(|connection| connection.domain == domain).map(what).sum()
    }

    fn each(&self, domain: DomId, mut act: impl FnMut(&mut Connection, &mut Vec<Waker>)) {
        self.with(|daemon| {
            let connections =
                daemon.connections.values_mut().filter(|connection| connection.domain == domain);
            connections.for_each(|connection| act(connection, &mut daemon.wakers));
        })
    }

    /// Works on the daemon, and wakes whom it concerns once that is done.
    fn with<T>(&self, work: impl FnOnce(&mut Daemon) -> T) -> T {
        let mut daemon = self.0.borrow_mut();
        let result = work(&mut daemon);
        let wakers = std::mem::take(&mut daemon.wakers);
        drop(daemon);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn feed(&self, id: Id, bytes: &[u8], waker: &Waker) -> Poll<Result<usize, Disconnected>> {
        self.with(|daemon| {
            let bytes = &bytes[..bytes.len().min(daemon.transfer_max)];
            if !daemon.connection(id).is_open() {
                return Poll::Ready(Err(Disconnected));
            }
            let Some(taken) = daemon.connection(id).feed(bytes, waker) else {
                return Poll::Pending;
            };
            daemon.work(id);
            Poll::Ready(Ok(taken))
        })
    }

    fn drain(&self, id: Id, to: &mut [u8], waker: &Waker) -> Option<usize> {
        self.with(|daemon| {
            let len = to.len().min(daemon.transfer_max);
            let connection =
                daemon.connections.get_mut(&id).expect("it stays while one of its ends does");
            connection.drain(&mut to[..len], waker, &mut daemon.wakers)
        })
    }

    fn forget(&self, id: Id) {
        self.with(|daemon| drop(daemon.connections.remove(&id)))
    }
}

/// Copies until one of the two ends.
async fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
