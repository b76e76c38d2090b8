//! The connections to a server: they are lost together, and made anew together.

use super::NbdOptions;
use super::journal::{Data, Journal, Mark};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use xen_nbd::client::{Connection, Failure};
use xen_nbd::handshake::Export;
use xen_nbd::wire::ExportFlags;
use xen_nbd::{Error, Uri};

/// Longest time for a connection to be made, and for a step of the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Time between the first two attempts to connect; it doubles up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Time for which a request waits, after an outage that was too long, for a server that does not
/// end its old connection.
const LATE_DRAIN: Duration = Duration::from_secs(1);

/// Reason why a request failed.
#[derive(Debug)]
pub enum Unavailable {
    /// The server was lost, and did not come back in time.
    Outage(io::Error),
    /// The server answered with an error.
    Refused(io::Error),
}

impl From<Unavailable> for io::Error {
    fn from(reason: Unavailable) -> Self {
        let (Unavailable::Outage(error) | Unavailable::Refused(error)) = reason;
        error
    }
}

/// The connections.
pub struct Links {
    uri: Uri,
    options: NbdOptions,
    state: Mutex<State>,
    /// Connections are there again, or a write has ended.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Length of the disk, and of the export as it was seen last.
    bytes: u64,
    export_bytes: u64,
    read_only: bool,
    /// Number of times that the connections were lost.
    generation: u64,
    links: Vec<Arc<Connection>>,
    next: usize,
    /// Lost ones whose server may still be at work for them.
    old: Vec<Arc<Connection>>,
    /// Some thread connects.
    connecting: bool,
    outage: Option<Outage>,
    /// The last attempt to connect that was given up.
    failed: Option<(Instant, String)>,
    /// Reason why acknowledged writes are lost for good.
    broken: Option<String>,
    journal: Journal,
    /// Places of writes in flight.
    writing: Vec<Range<u64>>,
}

/// A time without a server.
#[derive(Clone)]
struct Outage {
    since: Instant,
    reason: String,
}

impl Links {
    /// Connects for the first time, which is not tried again.
    pub fn open(uri: Uri, options: NbdOptions) -> io::Result<(Self, Export)> {
        let timeout = options.timeout;
        let links = open_all(&uri, &options, timeout).map_err(|error| say_where(&uri, error))?;
        let export = links[0].export().clone();
        let state = State {
            bytes: export.bytes,
            export_bytes: export.bytes,
            read_only: export.flags.contains(ExportFlags::READ_ONLY),
            links,
            ..State::default()
        };
        Ok((Links { uri, options, state: Mutex::new(state), changed: Condvar::new() }, export))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Returns the server and export.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the length of the disk.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Sets the length of the disk.
    pub fn set_bytes(&self, bytes: u64) {
        self.state().bytes = bytes;
    }

    /// Carries `request` out on a connection; on a new one again if that is lost. Returns its
    /// result, and the generation of the connection.
    pub fn request<T>(
        &self,
        mut request: impl FnMut(&Connection) -> Result<T, Failure>,
    ) -> Result<(u64, T), Unavailable> {
        let mut first_loss = None;
        loop {
            let (generation, link) = self.link()?;
            match request(&link) {
                Ok(value) => return Ok((generation, value)),
                Err(Failure::Refused(error)) => return Err(Unavailable::Refused(error)),
                Err(Failure::Lost(reason)) => {
                    self.lost(generation, &reason);
                    // A server that dies of this very request comes back each time.
                    let since = *first_loss.get_or_insert_with(Instant::now);
                    if since.elapsed() > self.options.outage {
                        let text = format!("{}: {reason}, again and again", self.uri);
                        let error = io::Error::new(io::ErrorKind::TimedOut, text);
                        return Err(Unavailable::Outage(error));
                    }
                }
            }
        }
    }

    /// Returns a connection, and its generation. Makes new ones if all are lost.
    fn link(&self) -> Result<(u64, Arc<Connection>), Unavailable> {
        let entered = Instant::now();
        let mut state = self.state();
        loop {
            if let Some(broken) = &state.broken {
                return Err(Unavailable::Outage(io::Error::other(broken.clone())));
            }
            if !state.links.is_empty() {
                state.next = (state.next + 1) % state.links.len();
                return Ok((state.generation, state.links[state.next].clone()));
            }
            if let Some((at, text)) = &state.failed
                && *at >= entered
            {
                let error = io::Error::new(io::ErrorKind::TimedOut, text.clone());
                return Err(Unavailable::Outage(error));
            }
            if state.connecting {
                state = self.changed.wait(state).expect("no holder panics");
                continue;
            }
            state.connecting = true;
            drop(state);
            let connected = self.connect_again();
            state = self.state();
            state.connecting = false;
            match connected {
                Ok(links) => {
                    state.export_bytes = links[0].export().bytes;
                    state.links = links;
                    state.outage = None;
                    state.failed = None;
                }
                Err(text) => state.failed = Some((Instant::now(), text)),
            }
            self.changed.notify_all();
        }
    }

    /// Takes note that the connections of a generation are lost.
    fn lost(&self, generation: u64, reason: &str) {
        let mut state = self.state();
        if state.generation != generation || state.links.is_empty() {
            return;
        }
        state.generation += 1;
        let links = std::mem::take(&mut state.links);
        links.iter().for_each(|link| link.give_up("another connection to the server is lost"));
        state.old.extend(links);
        let outage = Outage { since: Instant::now(), reason: reason.into() };
        state.outage.get_or_insert(outage);
    }

    /// Connects until that succeeds or has taken too long, and brings the server up to date.
    fn connect_again(&self) -> Result<Vec<Arc<Connection>>, String> {
        let (outage, late) = {
            let state = self.state();
            let now = || Outage { since: Instant::now(), reason: "it was closed".into() };
            (state.outage.clone().unwrap_or_else(now), state.failed.is_some())
        };
        let end = outage.since + self.options.outage;
        let gave_up = |why: &str| {
            let waited = outage.since.elapsed().as_secs();
            format!("{}: {}; {why}; {waited} s without a server", self.uri, outage.reason)
        };
        let drained = if late { Instant::now() + LATE_DRAIN } else { end };
        let mut pause = FIRST_PAUSE;
        loop {
            self.drain_old(drained).map_err(gave_up)?;
            let left = end.saturating_duration_since(Instant::now());
            let attempt = open_all(&self.uri, &self.options, left.max(LAST_PAUSE))
                .map_err(|error| error.to_string())
                .and_then(|links| self.check(&links[0]).map(|()| links))
                .and_then(|links| self.replay(&links[0]).map(|()| links));
            match attempt {
                Ok(links) => return Ok(links),
                Err(why) if late || Instant::now() + pause >= end => return Err(gave_up(&why)),
                Err(_) => thread::sleep(pause),
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Waits until the server has ended the old connections on which a write had no reply. Until
    /// then it could still carry that out.
    fn drain_old(&self, end: Instant) -> Result<(), &'static str> {
        let old = std::mem::take(&mut self.state().old);
        for (n, link) in old.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let writes = link.has_unanswered_writes();
            if !link.drain(if writes { left } else { Duration::ZERO }) && writes {
                self.state().old.extend(old[n..].iter().cloned());
                return Err("the server has not ended the old connection, and may still write");
            }
        }
        Ok(())
    }

    /// Checks that the export is still the same disk, as far as its server tells.
    fn check(&self, link: &Connection) -> Result<(), String> {
        let (export, state) = (link.export(), self.state());
        if export.bytes < state.bytes {
            return Err(format!("the export has {} bytes and not {}", export.bytes, state.bytes));
        }
        if export.flags.contains(ExportFlags::READ_ONLY) && !state.read_only {
            return Err("the export cannot be written any more".into());
        }
        Ok(())
    }

    /// Writes what a server that was restarted may have lost. Nobody else sends anything meanwhile.
    fn replay(&self, link: &Arc<Connection>) -> Result<(), String> {
        let writes = self.state().journal.writes();
        for (at, data) in writes {
            match data.send(link, at) {
                Ok(()) => {}
                Err(Failure::Lost(reason)) => {
                    // Its server may be at work for it, like that of any other.
                    self.state().old.push(link.clone());
                    return Err(reason.to_string());
                }
                Err(Failure::Refused(error)) => {
                    let text = format!(
                        "{}: a write that was acknowledged cannot be done again after the server \
                         came back: {error}; check the disk and connect it again",
                        self.uri
                    );
                    self.state().broken = Some(text.clone());
                    return Err(text);
                }
            }
        }
        Ok(())
    }

    /// Takes the place of a write, as soon as no other in flight touches it.
    pub fn claim(&self, range: Range<u64>) -> Claim<'_> {
        let mut state = self.state();
        let touches = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        while state.writing.iter().any(touches) {
            state = self.changed.wait(state).expect("no holder panics");
        }
        state.writing.push(range.clone());
        Claim { links: self, range }
    }

    /// Remembers a write that was acknowledged on a connection of `generation`. Returns false if
    /// that is lost by now: the write must be done again.
    pub fn remember(&self, generation: u64, at: u64, data: &Data, until_flush: bool) -> bool {
        let mut state = self.state();
        if state.generation != generation {
            return false;
        }
        if until_flush {
            state.journal.push(at, data.clone());
        }
        true
    }

    /// Returns true if so much is remembered that the server should flush.
    pub fn has_too_much(&self) -> bool {
        self.state().journal.cost() > self.options.unflushed
    }

    /// Returns the point that a flush that begins now covers.
    pub fn mark(&self) -> Mark {
        self.state().journal.mark()
    }

    /// Forgets what a flush has covered.
    pub fn forget(&self, mark: Mark) {
        self.state().journal.forget(mark);
    }

    /// Connects anew, and returns the length of the export.
    pub fn look_again(&self) -> io::Result<u64> {
        let generation = self.state().generation;
        self.lost(generation, "its length is asked for");
        self.link().map_err(io::Error::from)?;
        Ok(self.state().export_bytes)
    }
}

/// The place of a write in flight.
pub struct Claim<'a> {
    links: &'a Links,
    range: Range<u64>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.links.state();
        if let Some(n) = state.writing.iter().position(|range| *range == self.range) {
            state.writing.swap_remove(n);
        }
        drop(state);
        self.links.changed.notify_all();
    }
}

/// Opens all connections. Further ones than the first are a bonus.
fn open_all(
    uri: &Uri,
    options: &NbdOptions,
    left: Duration,
) -> Result<Vec<Arc<Connection>>, Error> {
    let step = CONNECT.min(left).min(options.timeout);
    let first = Connection::open(uri, step, options.timeout)?;
    let several = first.export().flags.contains(ExportFlags::MULTI_CONN);
    let bytes = first.export().bytes;
    let mut links = vec![Arc::new(first)];
    while several && links.len() < options.connections {
        match Connection::open(uri, step, options.timeout) {
            Ok(link) if link.export().bytes == bytes => links.push(Arc::new(link)),
            _ => break,
        }
    }
    Ok(links)
}

fn say_where(uri: &Uri, error: Error) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{uri}: {error}"))
}
