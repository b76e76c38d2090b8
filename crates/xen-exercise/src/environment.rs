//! The interface between tests and disks, without type parameters: compiled once, and implemented
//! by a plain array in the tests of the tests.

use crate::raw::{Raw, Rings};
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Arguments};
use core::time::Duration;
use xen_blk::front::{Config, Info, Stats};
use xen_platform::Time;

/// Kind of an error, as far as tests tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The driver did not send the request: it is beyond the end, or not of whole sectors.
    OutOfRange,
    /// The disk is read-only.
    ReadOnly,
    /// The backend has no such operation.
    Unsupported,
    /// The backend reported an error.
    Failed,
    /// No response came in time.
    TimedOut,
    /// The disk, or its backend, is gone.
    Gone,
    /// Anything else; the text says what.
    Other,
}

/// Error of an environment. It has the size of a pointer, for every step of every test hands it on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error(Box<(ErrorKind, String)>);

impl Error {
    /// Creates an error of no special kind.
    pub fn other(text: impl Into<String>) -> Error {
        Error::new(ErrorKind::Other, text)
    }

    /// Creates an error of a disk that has no such operation.
    pub fn unsupported(text: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, text)
    }

    /// Creates an error of that kind with a text for people.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new((kind, text.into())))
    }

    /// Returns its kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.1)
    }
}

/// A request to a disk; places and counts are in sectors of 512 bytes.
pub enum Io<'a> {
    /// Fills the buffer from that place on.
    Read(u64, &'a mut [u8]),
    /// Writes the bytes from that place on.
    Write(u64, &'a [u8]),
    /// The same, as a barrier.
    Barrier(u64, &'a [u8]),
    /// Makes all completed writes durable.
    Flush,
    /// Discards.
    Discard {
        /// The first sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
        /// No means may exist to read the old contents.
        secure: bool,
    },
}

/// Memory that the backend reads and writes itself.
pub trait Pages {
    /// Fills all of it from that sector on, or writes all of it there.
    fn io(&self, direction: Direction, sector: u64) -> Boxed<'_, Result<(), Error>>;
}

/// Direction of data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// A disk that is connected. What a disk of one's own need not have has a default; see [`run_on`].
///
/// [`run_on`]: crate::run_on
pub trait Device {
    /// Returns its properties as they are now.
    fn info(&self) -> Box<Info>;
    /// Returns its counters.
    fn stats(&self) -> Stats {
        Stats::default()
    }
    /// Returns the longest time that a request has taken so far, or zero if it is not measured.
    fn slowest(&self) -> Duration {
        Duration::ZERO
    }
    /// Carries a request out. Requests whose futures are polled first are sent first.
    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Error>>;
    /// Shares `bytes` bytes of memory that the backend reads and writes without a copy.
    fn pages(&self, bytes: usize) -> Result<Box<dyn Pages + '_>, Error> {
        let _ = bytes;
        Err(Error::unsupported("this disk shares no pages"))
    }
    /// Waits for a change of size or state after `seen`, which it brings up to date.
    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()> {
        let _ = seen;
        Box::pin(core::future::pending())
    }
    /// Waits until the connection has ended, by either side.
    fn ended(&self) -> Boxed<'_, ()> {
        Box::pin(core::future::pending())
    }
    /// Closes the connection; requests in flight end first or fail.
    fn close(&self) -> Boxed<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// Resources in use: they should be equal before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Grant references.
    pub grants: u32,
    /// Grants that were given up and that a peer still maps.
    pub still_mapped: u32,
    /// Event channel ports.
    pub ports: u32,
    /// Bytes of the heap.
    pub heap: usize,
}

/// The environment of the tests: a domain with disks, a clock and a console.
pub trait Environment {
    /// Returns the time.
    fn now(&self) -> Time;
    /// Waits for the time `time`.
    fn sleep(&self, time: Duration) -> Boxed<'_, ()>;
    /// Prints text on the console.
    fn print(&self, text: Arguments<'_>);
    /// Waits until the console has taken all printed text, or takes no more.
    fn flushed(&self) -> Boxed<'_, ()>;
    /// Returns the resources in use, where the environment knows them.
    fn usage(&self) -> Option<Usage>;
    /// Lists the numbers of the disks.
    fn disks(&self) -> Boxed<'_, Vec<u32>>;
    /// Connects a disk.
    fn attach<'a>(
        &'a self,
        vdev: u32,
        config: &'a Config,
    ) -> Boxed<'a, Result<Rc<dyn Device>, Error>>;
    /// Reads the keys of the disk's backend, below its path, with their values.
    fn keys(&self, vdev: u32) -> Boxed<'_, Result<Vec<(String, String)>, Error>>;
    /// Connects to the disk's backend without a driver: see [`crate::Raw`].
    fn raw<'a>(
        &'a self,
        vdev: u32,
        rings: Rings,
        keys: &'a [(&'a str, &'a str)],
    ) -> Boxed<'a, Result<Box<dyn Raw>, Error>>;
    /// Writes a result to xenstore, below `data/report`.
    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()>;
}
