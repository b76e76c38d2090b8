//! A server of one export, for several clients at a time.
//!
//! Each client has a thread that reads its requests. What the disk can do at once is done on it,
//! and the replies of all requests that came together leave together: a system call for many. What
//! takes longer goes to further threads of that client (`workers`).

mod counts;
mod input;
mod output;
mod session;
mod tempo;
mod workers;

pub use counts::Counts;

use crate::handshake::{self, Offer};
use crate::wire::ExportFlags;
use crate::{Error, Socket};
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Most clients at a time.
pub const MAX_CLIENTS: usize = 64;
/// Time limit of a step of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Time in which a client reads the last replies.
const GOODBYE: Duration = Duration::from_secs(2);

/// A disk that is served. Any thread may call any function at any time. A write is seen by every
/// read that begins after it has returned, and is durable once a flush that began after that has
/// returned.
pub trait Disk: Send + Sync {
    /// Returns its properties.
    fn info(&self) -> Info;
    /// Fills `to` from the bytes at `at`.
    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()>;
    /// Puts `from` at `at`.
    fn write(&self, at: u64, from: &[u8]) -> io::Result<()>;
    /// Reads like [`Disk::read`], if that waits for nothing; `None` if nothing was done.
    fn read_now(&self, at: u64, to: &mut [u8]) -> Option<io::Result<()>> {
        let _ = (at, to);
        None
    }
    /// Writes like [`Disk::write`], if that waits for nothing; `None` if nothing was done.
    fn write_now(&self, at: u64, from: &[u8]) -> Option<io::Result<()>> {
        let _ = (at, from);
        None
    }
    /// Makes all writes that have returned durable.
    fn flush(&self) -> io::Result<()>;
    /// Forgets what is there. Called only if [`Info::trim`] is set.
    fn trim(&self, at: u64, len: u64) -> io::Result<()>;
    /// Writes zeros; with `may_trim` they need keep no room.
    fn write_zeroes(&self, at: u64, len: u64, may_trim: bool) -> io::Result<()>;
    /// Returns the first range at or after `at` that may hold something but zeros.
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>>;
}

/// Properties of a disk that is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Length in bytes.
    pub bytes: u64,
    /// It cannot be written.
    pub read_only: bool,
    /// It can be trimmed.
    pub trim: bool,
    /// Unit of offsets and lengths in bytes: a power of two, at most 65536.
    pub min_block: u32,
    /// Best unit in bytes: a power of two, at least 512 and at least the unit.
    pub preferred_block: u32,
}

impl Info {
    fn flags(&self) -> ExportFlags {
        use ExportFlags as F;
        // Every connection reaches the same disk, and a flush covers what all of them wrote.
        let flags = F::HAS_FLAGS | F::FLUSH | F::FUA | F::MULTI_CONN;
        match (self.read_only, self.trim) {
            (true, _) => flags | F::READ_ONLY,
            (false, true) => flags | F::WRITE_ZEROES | F::TRIM,
            (false, false) => flags | F::WRITE_ZEROES,
        }
    }
}

/// A server of one disk.
pub struct Server {
    disk: Arc<dyn Disk>,
    name: String,
    counts: Counts,
    closing: AtomicBool,
    clients: Mutex<Clients>,
    ended: Condvar,
    report: Box<dyn Fn(&str) + Send + Sync>,
}

#[derive(Default)]
struct Clients {
    last: u64,
    sockets: BTreeMap<u64, Arc<Socket>>,
}

impl Server {
    /// Serves `disk` under `name`. Faults of clients go to `report`.
    pub fn new(
        disk: Arc<dyn Disk>,
        name: &str,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Server {
            disk,
            name: name.into(),
            counts: Counts::default(),
            closing: AtomicBool::new(false),
            clients: Mutex::default(),
            ended: Condvar::new(),
            report: Box::new(report),
        })
    }

    /// Returns what was done so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().expect("no holder panics")
    }

    /// Serves a client on a thread of its own. One too many is turned away.
    pub fn accept(self: &Arc<Self>, socket: Socket) -> io::Result<()> {
        let socket = Arc::new(socket);
        let number = {
            let mut clients = self.clients();
            if self.closing.load(Ordering::Acquire) {
                return Ok(());
            }
            if clients.sockets.len() >= MAX_CLIENTS {
                (self.report)(&format!("there are {MAX_CLIENTS} clients: one more is turned away"));
                return Ok(());
            }
            clients.last += 1;
            let number = clients.last;
            clients.sockets.insert(number, socket.clone());
            number
        };
        let server = self.clone();
        let spawned = thread::Builder::new().name(format!("client {number}")).spawn(move || {
            if let Err(error) = server.serve(&socket) {
                (server.report)(&format!("client {number}: {error}"));
            }
            server.forget(number);
        });
        if let Err(error) = spawned {
            self.forget(number);
            return Err(error);
        }
        Ok(())
    }

    fn forget(&self, number: u64) {
        self.clients().sockets.remove(&number);
        self.ended.notify_all();
    }

    fn serve(&self, socket: &Arc<Socket>) -> Result<(), Error> {
        let info = self.disk.info();
        let offer = Offer {
            name: self.name.clone(),
            bytes: info.bytes,
            flags: info.flags(),
            min_block: info.min_block,
            preferred_block: info.preferred_block,
        };
        socket.set_timeouts(Some(HANDSHAKE), Some(HANDSHAKE))?;
        let Some(chosen) = handshake::answer(&mut &**socket, &offer)? else { return Ok(()) };
        // A client may be idle for as long as it likes.
        socket.set_timeouts(None, None)?;
        self.counts.add_client();
        let done = session::run(self, socket.clone(), info, chosen);
        // What was answered last must not be lost with bytes that nobody reads.
        socket.drain(GOODBYE);
        done
    }

    /// Takes no more requests, and waits until those that were taken are answered. Returns false if
    /// some are not within `timeout`.
    pub fn stop(&self, timeout: Duration) -> bool {
        self.closing.store(true, Ordering::Release);
        let end = Instant::now() + timeout;
        let mut clients = self.clients();
        for socket in clients.sockets.values() {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Read);
        }
        while !clients.sockets.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            clients = self.ended.wait_timeout(clients, left).expect("no holder panics").0;
        }
        true
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}
