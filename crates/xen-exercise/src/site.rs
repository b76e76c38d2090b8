//! What the tests stand on, without type parameters: compiled once, and played by a plain array in their own tests.

use crate::crowd::Boxed;
use crate::raw::Raw;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Arguments};
use core::time::Duration;
use xen_blk::front::{Info, Stats, Wishes};
use xen_platform::Time;

/// What went wrong, as far as tests tell it apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The driver did not send it: beyond the end, or not whole sectors.
    OutOfRange,
    /// The disk is read-only.
    ReadOnly,
    /// The backend does not do that.
    Unsupported,
    /// The backend answered with an error.
    Failed,
    /// There was no answer in time.
    TimedOut,
    /// The disk, or its backend, is gone.
    Gone,
    /// Anything else; the text says what.
    Other,
}

/// Why something did not work. As large as a pointer, for it is handed on at every step of every test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(Box<(Kind, String)>);

impl Failure {
    /// Of no special kind.
    pub fn other(text: impl Into<String>) -> Failure {
        Failure::new(Kind::Other, text)
    }

    /// Of that kind; the text says what happened.
    pub fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure(Box::new((kind, text.into())))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.0
    }
}

impl fmt::Display for Failure {
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
    /// Brings all that was answered to the disk.
    Flush,
    /// Discards.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many.
        count: u64,
        /// So that it cannot be read again.
        secure: bool,
    },
}

/// Memory that the backend reads and writes itself.
pub trait Pages {
    /// Fills all of it from that sector on, or writes it there.
    fn io(&self, way: Way, sector: u64) -> Boxed<'_, Result<(), Failure>>;
}

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// A disk that is connected.
pub trait Device {
    /// What is known of it now.
    fn info(&self) -> Box<Info>;
    /// What it has counted so far.
    fn stats(&self) -> Stats;
    /// Carries a request out. Requests whose futures are polled first are sent first.
    fn io<'a>(&'a self, io: Io<'a>) -> Boxed<'a, Result<(), Failure>>;
    /// So many bytes of memory that need not be copied.
    fn pages(&self, bytes: usize) -> Result<Box<dyn Pages + '_>, Failure>;
    /// Waits for a change of size or state after `seen`, which it brings up to date.
    fn changed<'a>(&'a self, seen: &'a mut u32) -> Boxed<'a, ()>;
    /// Closes the connection; what is in flight ends first or fails.
    fn close(&self) -> Boxed<'_, Result<(), Failure>>;
}

/// What is in use: to be equal before and after.
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

/// Where tests run: in a domain with disks, and somebody who reads their output.
pub trait Site {
    /// The time now.
    fn now(&self) -> Time;
    /// Waits that long.
    fn sleep(&self, time: Duration) -> Boxed<'_, ()>;
    /// Shows text.
    fn print(&self, text: Arguments<'_>);
    /// Waits until what was shown has been taken, or nobody takes it.
    fn shown(&self) -> Boxed<'_, ()>;
    /// What is in use, where that can be told.
    fn usage(&self) -> Option<Usage>;
    /// The numbers of the disks that there are.
    fn disks(&self) -> Boxed<'_, Vec<u32>>;
    /// Connects a disk.
    fn attach<'a>(&'a self, vdev: u32, wishes: &'a Wishes) -> Boxed<'a, Result<Rc<dyn Device>, Failure>>;
    /// The keys of the disk's backend, below its path, with their values.
    fn keys(&self, vdev: u32) -> Boxed<'_, Result<Vec<(String, String)>, Failure>>;
    /// Connects to the disk's backend by hand: see [`crate::Raw`].
    fn raw<'a>(&'a self, vdev: u32, keys: &'a [(&'a str, &'a str)]) -> Boxed<'a, Result<Box<dyn Raw>, Failure>>;
    /// Writes a result to xenstore, below `data/report`.
    fn publish<'a>(&'a self, key: &'a str, value: &'a str) -> Boxed<'a, ()>;
}
