//! Layers over a storage: each sees every request, and does with it what it likes.

mod delay;
mod fault;
mod log;
mod powercut;
mod throttle;
mod verify;

pub use delay::Delay;
pub use fault::{Fault, Rule};
pub use log::{Log, Record, replay};
pub use powercut::{Cut, PowerCut};
pub use throttle::Throttle;
pub use verify::Verify;

use crate::storage::{Info, Pace, Storage};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// One request on its way down. Offsets and lengths are bytes.
#[derive(Debug)]
pub enum Request<'a> {
    /// [`Storage::read`].
    Read {
        /// Offset.
        at: u64,
        /// To be filled.
        to: &'a mut [u8],
    },
    /// [`Storage::write`].
    Write {
        /// Offset.
        at: u64,
        /// To be written.
        from: &'a [u8],
    },
    /// [`Storage::flush`].
    Flush,
    /// [`Storage::discard`].
    Discard {
        /// Offset.
        at: u64,
        /// Length.
        len: u64,
        /// Set if nothing may be left.
        secure: bool,
    },
}

/// Kind of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
}

impl Kind {
    /// All of them, and their names in options and logs.
    pub const ALL: [(Kind, &'static str); 4] = [
        (Kind::Read, "read"),
        (Kind::Write, "write"),
        (Kind::Flush, "flush"),
        (Kind::Discard, "discard"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).expect("all are listed").1
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

impl Request<'_> {
    /// Returns its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Request::Read { .. } => Kind::Read,
            Request::Write { .. } => Kind::Write,
            Request::Flush => Kind::Flush,
            Request::Discard { .. } => Kind::Discard,
        }
    }

    /// The bytes of the disk that it is about; none for a flush.
    pub fn range(&self) -> Range<u64> {
        let (at, len) = match self {
            Request::Read { at, to } => (*at, to.len() as u64),
            Request::Write { at, from } => (*at, from.len() as u64),
            Request::Flush => (0, 0),
            Request::Discard { at, len, .. } => (*at, *len),
        };
        at..at.saturating_add(len)
    }

    /// Hands it to the storage below.
    pub fn pass(self, below: &dyn Storage) -> io::Result<()> {
        match self {
            Request::Read { at, to } => below.read(at, to),
            Request::Write { at, from } => below.write(at, from),
            Request::Flush => below.flush(),
            Request::Discard { at, len, secure } => below.discard(at, len, secure),
        }
    }
}

/// Something between a disk and what it is kept in.
pub trait Layer: Send + Sync {
    /// Carries the request out, as a rule with the help of the storage below.
    fn handle(&self, request: Request<'_>, below: &dyn Storage) -> io::Result<()>;

    /// Returns true if what was written is handed down before the request is done: see
    /// [`Storage::outlives`].
    fn outlives(&self) -> bool {
        false
    }

    /// Returns the duration of its calls over a storage of the pace `below`.
    fn pace(&self, below: Pace) -> Pace {
        below
    }

    /// Called when the disk got a new length: it is now as `info` says.
    fn resized(&self, info: &Info) {
        let _ = info;
    }
}

/// A storage with a layer over it.
pub struct Layered<L> {
    layer: L,
    below: Arc<dyn Storage>,
}

impl<L: Layer> Layered<L> {
    /// `layer` over `below`.
    pub fn new(layer: L, below: Arc<dyn Storage>) -> Self {
        Layered { layer, below }
    }

    /// The layer.
    pub fn layer(&self) -> &L {
        &self.layer
    }
}

impl<L: Layer> Storage for Layered<L> {
    fn info(&self) -> Info {
        self.below.info()
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.info().range(at, to.len() as u64)?;
        self.layer.handle(Request::Read { at, to }, &*self.below)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.info().range(at, from.len() as u64)?;
        self.layer.handle(Request::Write { at, from }, &*self.below)
    }

    fn flush(&self) -> io::Result<()> {
        self.layer.handle(Request::Flush, &*self.below)
    }

    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.info().range(at, len)?;
        self.layer.handle(Request::Discard { at, len, secure }, &*self.below)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.below.resize(bytes)?;
        self.layer.resized(&self.info());
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        if self.layer.outlives() {
            return self.below.next_data(at);
        }
        // What the layer holds back is not below.
        let bytes = self.info().bytes;
        Ok((at < bytes).then_some(at..bytes))
    }

    fn identity(&self) -> Option<String> {
        self.below.identity()
    }

    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        self.below.fingerprint()
    }

    fn outlives(&self) -> bool {
        self.layer.outlives() && self.below.outlives()
    }

    fn pace(&self) -> Pace {
        self.layer.pace(self.below.pace())
    }
}

/// Numbers that look random and depend on a seed alone (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to, but without, 1.
    pub fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }
}
