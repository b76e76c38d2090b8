//! The garbage collection of a store, as its writers see it.
//!
//! A chunk is named by what is in it, so what was garbage can be what a disk is given next. While
//! garbage is collected, writers therefore use names that nobody had before. They learn of it from
//! an object that the collector replaces first; then it waits until every writer has seen that, and
//! looks only then which chunks are in use. What a writer has put and published between, the
//! collector finds; what took a writer longer than the collector waits, the writer does again.
//!
//! | writer | collector |
//! |---|---|
//! | reads the state: idle, generation 7 | |
//! | uploads | state: collecting, 8; lists all objects |
//! | publishes within [`PUBLISH`] of reading the state | waits for [`SETTLE`], which is longer |
//! | or looks again, and starts anew | |
//! | reads the state: collecting, 8: uses new names | reads all maps and logs |
//! | | deletes what was listed and is in no map |
//! | | state: idle, 9 |
//!
//! No clock of another machine is needed. A store without that object is one whose collector could
//! not put one, because its quota is exceeded, or of the first format: new names are right then.

use super::blob::Id;
use super::head::Lease;
use super::{CHUNKS, Objects, unique};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::{Duration, Instant, SystemTime};

/// Key of the state.
pub const STATE: &str = "gc";
/// Time for a writer from reading the state to having published what it uploaded.
pub const PUBLISH: Duration = Duration::from_secs(25);
/// Time that a collector waits.
pub const SETTLE: Duration = Duration::from_secs(30);
/// Age of the state that a writer begins with at most.
pub const FRESH: Duration = Duration::from_secs(10);

/// The state of a store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct State {
    /// Counts its changes.
    pub generation: u64,
    /// The program that collects, if one does.
    pub collector: Option<Lease>,
}

impl State {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has only text and numbers")
    }

    /// Reads it, and its version.
    pub fn read(objects: &impl Objects) -> io::Result<Option<(State, String)>> {
        let Some((raw, version)) = objects.get(STATE)? else { return Ok(None) };
        // One that cannot be read is damaged, or of a later version.
        Ok(serde_json::from_slice(&raw).ok().map(|state| (state, version)))
    }

    /// Fails while garbage is collected: what refers to objects of another disk is not made then.
    pub fn must_be_idle(objects: &impl Objects) -> io::Result<()> {
        let text = match State::read(objects)? {
            Some((State { collector: None, .. }, _)) => return Ok(()),
            Some((State { collector: Some(lease), .. }, _)) => format!(
                "its garbage is being collected by {}: try again when that is done; if that was \
                 killed: xen-disk gc ends it",
                lease.holder
            ),
            None => "its garbage was never collected to an end: xen-disk gc does that".into(),
        };
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }

    /// Puts the first state into a store that is empty yet.
    pub fn begin(objects: &impl Objects) -> io::Result<()> {
        if objects.get(STATE)?.is_some() {
            return Ok(());
        }
        let mut empty = true;
        objects.list(CHUNKS, &mut |_| empty = false)?;
        let state = State { generation: 1, collector: None };
        match objects.replace(STATE, &state.encode(), None) {
            _ if !empty => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop),
        }
    }
}

/// A moment, by two clocks: one of them stands still while a machine sleeps, and the other can be
/// set.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant, SystemTime);

impl Moment {
    /// Returns this one.
    pub fn now() -> Self {
        Moment(Instant::now(), SystemTime::now())
    }

    /// Returns the time since then.
    pub fn age(&self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

/// The state as it was read at a moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Its generation, if nobody collects.
    idle: Option<u64>,
    at: Moment,
}

impl View {
    /// Reads the state.
    pub fn read(objects: &impl Objects) -> io::Result<Self> {
        let at = Moment::now();
        let state = State::read(objects)?.map(|(state, _)| state);
        let idle = state.filter(|state| state.collector.is_none()).map(|state| state.generation);
        Ok(View { idle, at })
    }

    /// Returns the generation, if nobody collects.
    pub fn idle(&self) -> Option<u64> {
        self.idle
    }

    /// Returns the time since it was read.
    pub fn age(&self) -> Duration {
        self.at.age()
    }

    /// Returns a state that is young enough to publish what was uploaded under this one; `None` if
    /// it is to be uploaded again.
    pub fn renewed(self, objects: &impl Objects) -> io::Result<Option<Self>> {
        match self.idle {
            _ if self.age() < FRESH => Ok(Some(self)),
            None => Ok((self.age() < PUBLISH).then_some(self)),
            idle => Ok(Some(View::read(objects)?).filter(|now| now.idle == idle)),
        }
    }

    /// Returns true if what was uploaded under this state, and is published now, is kept.
    pub fn held(&self, objects: &impl Objects) -> io::Result<bool> {
        if self.age() < PUBLISH {
            return Ok(true);
        }
        Ok(self.idle.is_some() && View::read(objects)?.idle == self.idle)
    }

    /// Names an object with these bytes.
    pub fn name(&self, bytes: &[u8]) -> io::Result<Id> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        if self.idle.is_none() {
            hasher.update(unique().as_bytes());
        }
        Ok(hasher.finalize().into())
    }
}
