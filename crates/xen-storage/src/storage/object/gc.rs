//! Removing what no disk has any more, while disks are served. Whatever is unclear is kept.
//!
//! `view` says how writers and the collector keep out of each other's way. A collector can be
//! killed at any moment: the next one begins anew. In a store whose quota is exceeded nothing can
//! be put; there the object with the state is deleted instead, which says the same. Some stores do
//! not say that it is their quota for which they refuse a put.

use super::blob::Id;
use super::head::Lease;
use super::lease::LeaseTimes;
use super::mark::{Leaves, names, reach};
use super::parallel::parallel;
use super::view::{SETTLE, STATE, State};
use super::{CHUNKS, DISKS, LOGS, Objects, Unavailable};
use crate::storage::LockedFile;
use std::collections::{HashMap, HashSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Settings of a collection.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Objects that are younger stay.
    pub grace: Duration,
    /// This machine's time; the store's own counts if it is earlier.
    pub now: SystemTime,
    /// Time for writers to see that garbage is collected, unless there are none.
    pub settle: Duration,
    /// Times of the lease of collectors.
    pub times: LeaseTimes,
}

impl Collect {
    /// Collects what is older than `grace`.
    pub fn new(grace: Duration) -> Self {
        let (now, times) = (SystemTime::now(), LeaseTimes::default());
        Collect { grace, now, settle: SETTLE, times }
    }
}

/// Counts of the disks and chunks of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Number of disks.
    pub disks: usize,
    /// Number of chunks that they have.
    pub kept: usize,
    /// Number of chunks that were removed.
    pub removed: usize,
    /// Bytes of all that was removed.
    pub removed_bytes: u64,
}

/// Objects that are removed before the collector looks whether it still is the one.
const BATCH: usize = 1000;
/// Records of a log are kept for that long at least: they stop programs that were asleep.
const LOG_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Removes the objects that no disk has and that are older than the grace, one batch after the
/// other. Nothing is removed if a disk cannot be read.
pub fn collect(objects: &impl Objects, how: &Collect) -> io::Result<Collected> {
    must_be_store(objects)?;
    let alone = match objects.lock_file()? {
        Some(file) => LockedFile::try_new(file, true)?,
        None => None,
    };
    let settle = if alone.is_some() { Duration::ZERO } else { how.settle };
    let mut collector = Collector::begin(objects, &how.times)?;
    let collected = collector.collect(how, settle);
    collector.end();
    collected
}

/// Fails if there is nothing: where nobody has made a disk, nothing is to be made.
fn must_be_store(objects: &impl Objects) -> io::Result<()> {
    if objects.get(STATE)?.is_some() {
        return Ok(());
    }
    for prefix in [DISKS, LOGS, CHUNKS] {
        let mut empty = true;
        objects.list(prefix, &mut |_| empty = false)?;
        if !empty {
            return Ok(());
        }
    }
    let text = "there are no disks, and never were: check its name";
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// The one collector of a store.
struct Collector<'a, O: Objects> {
    objects: &'a O,
    /// The state as it was put last, and its version; `None` in a store where nothing can be put.
    state: Option<(State, String)>,
    renew: Duration,
    renewed: Instant,
}

impl<'a, O: Objects> Collector<'a, O> {
    fn begin(objects: &'a O, times: &LeaseTimes) -> io::Result<Self> {
        let mut may_put = true;
        match objects.check_conditions() {
            Err(error) if takes_nothing(&error) => may_put = false,
            checked => checked?,
        }
        let lease = Lease::new()?;
        loop {
            let old = State::read(objects)?;
            if let Some((State { collector: Some(other), .. }, version)) = &old
                && !is_dead(objects, other, version, times)?
            {
                let text = format!("its garbage is being collected by {}", other.holder);
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            let generation = old.as_ref().map_or(0, |(state, _)| state.generation) + 1;
            let state = State { generation, collector: Some(lease.clone()) };
            let version = old.as_ref().map(|(_, version)| &**version);
            let put = match may_put {
                true => objects.replace(STATE, &state.encode(), version),
                false => Err(io::ErrorKind::QuotaExceeded.into()),
            };
            let state = match put {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if takes_nothing(&error) => {
                    objects.delete(STATE)?;
                    None
                }
                done => Some((state, done?)),
            };
            let (renew, renewed) = (times.renew, Instant::now());
            return Ok(Collector { objects, state, renew, renewed });
        }
    }

    /// Says that it is still there, now and then; fails if another one has taken its place.
    fn renew(&mut self) -> io::Result<()> {
        let Some((state, version)) = &mut self.state else { return Ok(()) };
        if self.renewed.elapsed() < self.renew {
            return Ok(());
        }
        if let Some(lease) = &mut state.collector {
            lease.renewed += 1;
        }
        *version = self.objects.replace(STATE, &state.encode(), Some(version))?;
        self.renewed = Instant::now();
        Ok(())
    }

    fn collect(&mut self, how: &Collect, settle: Duration) -> io::Result<Collected> {
        let now = self.objects.time()?.map_or(how.now, |time| time.min(how.now));
        let is_older =
            |put: SystemTime, grace| now.duration_since(put).is_ok_and(|age| age >= grace);
        let (mut chunks, mut logs) = (Vec::new(), Vec::new());
        self.objects.list(CHUNKS, &mut |listed| {
            let name = listed.key.strip_prefix(CHUNKS);
            let id = name.and_then(|name| blake3::Hash::from_hex(name).ok());
            if let Some(id) = id.filter(|_| is_older(listed.put, how.grace)) {
                chunks.push((Id::from(id), listed.bytes));
            }
        })?;
        self.objects.list(LOGS, &mut |listed| {
            if is_older(listed.put, how.grace.max(LOG_GRACE)) {
                logs.push(listed.key);
            }
        })?;
        let settled = Instant::now() + settle;
        while Instant::now() < settled {
            self.renew()?;
            thread::sleep(self.renew.min(settled.saturating_duration_since(Instant::now())));
        }
        let marked = self.mark()?;
        chunks.retain(|(id, _)| !marked.chunks.contains(id));
        logs.retain(|key| marked.is_old_record(key));
        let mut collected =
            Collected { disks: marked.disks, kept: marked.chunks.len(), ..Collected::default() };
        for batch in chunks.chunks(BATCH) {
            self.renew()?;
            parallel(batch.to_vec(), |(id, _)| self.objects.delete(&super::chunk_key(&id)))?;
            collected.removed += batch.len();
            collected.removed_bytes += batch.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        for batch in logs.chunks(BATCH) {
            self.renew()?;
            parallel(batch.to_vec(), |key| self.objects.delete(&key))?;
        }
        Ok(collected)
    }

    fn mark(&mut self) -> io::Result<Marked> {
        // A disk that is listed and not there was removed, or had another name a moment ago.
        'anew: loop {
            let names = names(self.objects)?;
            let mut marked = Marked { disks: names.len(), ..Marked::default() };
            let mut leaves = Leaves::default();
            for name in names {
                self.renew()?;
                let failed = |error: io::Error| {
                    let text = format!("disk {name}: {error}; nothing was removed");
                    io::Error::new(error.kind(), text)
                };
                let Some(reach) = reach(self.objects, &mut leaves, &name).map_err(failed)? else {
                    continue 'anew;
                };
                marked.chunks.extend(reach.chunks);
                marked.logs.extend(reach.log);
            }
            return Ok(marked);
        }
    }

    /// Says that nobody collects any more. Where that cannot be put, writers go on using new names
    /// until the next collection.
    fn end(self) {
        if let Some((state, version)) = self.state {
            let state = State { generation: state.generation + 1, collector: None };
            let _ = self.objects.replace(STATE, &state.encode(), Some(&version));
        }
    }
}

/// The objects of all disks.
#[derive(Default)]
struct Marked {
    disks: usize,
    chunks: HashSet<Id>,
    logs: HashMap<String, u64>,
}

impl Marked {
    /// Returns true for a record of a disk that is gone, or that its disk's map has.
    fn is_old_record(&self, key: &str) -> bool {
        let parts = key.strip_prefix(LOGS).and_then(|rest| rest.split_once('/'));
        let Some((id, number)) = parts else { return false };
        let Ok(number) = u64::from_str_radix(number, 16) else { return false };
        self.logs.get(id).is_none_or(|last| number <= *last)
    }
}

/// Returns true if a put has failed in a store that may take none. If it is out of order, what is
/// done instead fails as well, or is right all the same.
fn takes_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded || Unavailable::is(error)
}

/// Finds out whether another collector is dead. That takes a while if it runs on another machine.
fn is_dead(
    objects: &impl Objects,
    lease: &Lease,
    version: &str,
    times: &LeaseTimes,
) -> io::Result<bool> {
    if let Some(alive) = lease.is_alive() {
        return Ok(!alive);
    }
    let began = Instant::now();
    while began.elapsed() < times.dead {
        times.pause();
        if State::read(objects)?.is_some_and(|(_, now)| now != version) {
            return Ok(false);
        }
    }
    Ok(true)
}
