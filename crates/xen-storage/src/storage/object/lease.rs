//! One writer for each disk.
//!
//! The head says which program has the disk; that program renews it. Another one that wants the
//! disk looks whether that is renewed, by its own clock: if it is not, the program is dead, and the
//! disk is taken from it. Taking it is two steps: the head says so first, then a fence is put at
//! the end of the log. The program that had the disk meets it at its next flush, if it is alive.

use super::head::{Found, Head, Lease, find, head_key};
use super::old::Manifest;
use super::{Objects, unique};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

/// Times of leases.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// Time between two renewals.
    pub renew: Duration,
    /// Time without a renewal after which the holder is taken for dead.
    pub dead: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        LeaseTimes { renew: Duration::from_secs(5), dead: Duration::from_secs(30) }
    }
}

impl LeaseTimes {
    /// Waits before a lease is looked at again.
    pub fn pause(&self) {
        thread::sleep((self.renew / 5).min(self.dead / 4).max(Duration::from_millis(5)));
    }
}

/// The inner error of opening a disk that another program has.
#[derive(Debug)]
pub struct InUse {
    /// The disk.
    pub disk: String,
    /// The program.
    pub holder: String,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InUse { disk, holder } = self;
        write!(f, "disk {disk} is in use by {holder}: end that, or take the disk over (takeover)")
    }
}

impl Error for InUse {}

/// The inner error of writing a disk that another program has taken.
#[derive(Clone, Debug)]
pub struct Fenced {
    /// The disk.
    pub disk: String,
    /// The program that has it now.
    pub holder: String,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fenced { disk, holder } = self;
        write!(f, "disk {disk} was taken over by {holder}: nothing more is written here; end this")
    }
}

impl Error for Fenced {}

impl Fenced {
    /// Returns it as the error of a request.
    pub fn error(&self) -> io::Error {
        io::Error::other(self.clone())
    }
}

impl Lease {
    /// The lease of this process.
    pub fn new() -> io::Result<Self> {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let holder = format!("process {} on {}", process::id(), host.trim());
        let (machine, token) = (machine(), unique());
        let process = format!("{} {}", process::id(), start_of(process::id()).unwrap_or_default());
        Ok(Lease { token, holder, machine, process, renewed: 0 })
    }

    /// Returns whether its process is alive, if it would be seen here.
    pub fn is_alive(&self) -> Option<bool> {
        if self.machine.is_empty() || self.machine != machine() {
            return None;
        }
        let (id, start) = self.process.split_once(' ')?;
        Some(start_of(id.parse().ok()?).is_some_and(|now| now == start))
    }
}

/// Names the running kernel and the space of process numbers, as far as they can be known.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match fs::read_link("/proc/self/ns/pid") {
        Ok(space) if !boot.is_empty() => format!("{} {}", boot.trim(), space.display()),
        _ => String::new(),
    }
}

/// Returns when a process was started, if there is one of that number that has not ended.
fn start_of(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name of the program comes before, in brackets, and can be anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    words.nth(18).map(str::to_string)
}

/// A disk that this program has.
pub struct Held {
    /// Its head, as it was put last.
    pub head: Head,
    /// The version of that.
    pub version: String,
}

impl Held {
    /// Takes the disk `name`, unless another program has it; then, with `take_over`, from that. An
    /// old disk is given a head with the map that `convert` makes for it.
    pub fn take(
        objects: &impl Objects,
        name: &str,
        take_over: bool,
        times: &LeaseTimes,
        convert: impl Fn(&Manifest) -> io::Result<Head>,
    ) -> io::Result<Self> {
        objects.check_conditions()?;
        let lease = Lease::new()?;
        loop {
            let (head, version) = match find(objects, name)? {
                None => return Err(not_found(name)),
                Some(Found::Old(old, version)) => (convert(&old)?, version),
                Some(Found::Disk(head, version)) => (head, version),
            };
            if head.snapshot {
                let text = format!("disk {name} is a snapshot: clone it, or open it to read (ro)");
                return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text));
            }
            if let (Some(other), false) = (&head.lease, take_over)
                && !is_dead(objects, name, other, times)?
            {
                let (disk, holder) = (name.to_string(), other.holder.clone());
                let in_use = InUse { disk, holder };
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, in_use));
            }
            let head = Head { epoch: head.epoch + 1, lease: Some(lease.clone()), ..head };
            match objects.replace(&head_key(name), &head.encode(), Some(&version)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => return Ok(Held { head, version: done? }),
            }
        }
    }

    /// Puts a changed head, unless another program has taken the disk.
    pub fn update(
        &mut self,
        objects: &impl Objects,
        name: &str,
        change: impl Fn(&mut Head),
    ) -> io::Result<()> {
        let token = self.head.lease.as_ref().map(|lease| lease.token.clone());
        loop {
            let mut head = self.head.clone();
            change(&mut head);
            match objects.replace(&head_key(name), &head.encode(), Some(&self.version)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => {
                    self.version = done?;
                    self.head = head;
                    return Ok(());
                }
            }
            // An earlier head of ours may have arrived late.
            match find(objects, name)? {
                Some(Found::Disk(now, version))
                    if now.lease.as_ref().map(|lease| &lease.token) == token.as_ref() =>
                {
                    (self.head, self.version) = (now, version);
                }
                found => return Err(fenced_by(name, found).error()),
            }
        }
    }
}

/// Names the program that has a disk which this program had.
pub fn fenced_by(name: &str, found: Option<Found>) -> Fenced {
    let holder = match found {
        Some(Found::Disk(Head { lease: Some(lease), .. }, _)) => lease.holder,
        Some(_) => "a program that has ended".into(),
        None => "a program that removed it".into(),
    };
    Fenced { disk: name.to_string(), holder }
}

/// Returns the error of a disk that is not there.
pub fn not_found(name: &str) -> io::Error {
    let text = format!("there is no disk {name} in it: size=SIZE makes one");
    io::Error::new(io::ErrorKind::NotFound, text)
}

/// Finds out whether a holder is dead. That takes a while if it runs on another machine.
pub fn is_dead(
    objects: &impl Objects,
    name: &str,
    lease: &Lease,
    times: &LeaseTimes,
) -> io::Result<bool> {
    if let Some(alive) = lease.is_alive() {
        return Ok(!alive);
    }
    let began = Instant::now();
    while began.elapsed() < times.dead {
        times.pause();
        match find(objects, name)? {
            Some(Found::Disk(head, _)) if head.lease.as_ref() == Some(lease) => {}
            // It was given back, or renewed, or somebody else has it: look again.
            Some(Found::Disk(Head { lease: Some(now), .. }, _)) => {
                return Ok(now.token != lease.token && now.is_alive() == Some(false));
            }
            _ => return Ok(true),
        }
    }
    Ok(true)
}
