//! Stores that do not answer, or refuse for a while: what is asked of them is asked again.

use super::{Listed, Objects};
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Action on a store that is out of reach, or refuses for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnOutage {
    /// Requests wait, for this long at most if it is given.
    Wait(Option<Duration>),
    /// A few tries, then requests fail.
    Fail,
}

impl Default for OnOutage {
    fn default() -> Self {
        OnOutage::Wait(None)
    }
}

impl FromStr for OnOutage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "wait" => Ok(OnOutage::Wait(None)),
            None if text == "fail" => Ok(OnOutage::Fail),
            Some(("wait", seconds)) if seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
                let seconds: u32 = seconds.parse().expect("it was parsed");
                Ok(OnOutage::Wait(Some(Duration::from_secs(seconds.into()))))
            }
            _ => Err(format!("{text:?}: wait, wait:SECONDS or fail is possible")),
        }
    }
}

impl fmt::Display for OnOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnOutage::Wait(None) => f.write_str("wait"),
            OnOutage::Wait(Some(most)) => write!(f, "wait:{}", most.as_secs()),
            OnOutage::Fail => f.write_str("fail"),
        }
    }
}

/// The inner error of requests that may succeed when they are made again. What was asked for may
/// have been done, or be done later.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Unavailable {}

impl Unavailable {
    /// Returns it as the error of a request.
    pub fn error(kind: io::ErrorKind, text: impl Into<String>) -> io::Error {
        io::Error::new(kind, Unavailable(text.into()))
    }

    /// Returns true if `error` is that of a request to make again.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Unavailable>())
    }
}

/// Tries before an outage is told, and all that there are without waiting.
const TRIES: u32 = 5;
/// Time before the second try; before each further one it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest time between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Time limit of the first answer of a store: a wrong address is told, and not waited for.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// A store that is waited for.
pub struct Patient<O> {
    objects: O,
    on_outage: OnOutage,
    /// Set once it has answered.
    answered: AtomicBool,
    /// Requests that wait for the end of an outage.
    waiting: Mutex<u32>,
    gave_up: Mutex<bool>,
    giving_up: Condvar,
    chance: AtomicU64,
}

impl<O: Objects> Patient<O> {
    /// Waits for `objects` as `on_outage` says, after they have answered once.
    pub fn new(objects: O, on_outage: OnOutage) -> Self {
        Patient {
            objects,
            on_outage,
            answered: AtomicBool::new(false),
            waiting: Mutex::new(0),
            gave_up: Mutex::new(false),
            giving_up: Condvar::new(),
            chance: AtomicU64::new(u64::from(std::process::id())),
        }
    }

    fn name(&self) -> String {
        self.objects.identity().unwrap_or_else(|| "the object store".into())
    }

    /// Returns the time that requests wait at most.
    fn limit(&self) -> Option<Duration> {
        if *self.gave_up.lock().expect("no holder panics") {
            return Some(Duration::ZERO);
        }
        match (self.answered.load(Ordering::Relaxed), self.on_outage) {
            (_, OnOutage::Fail) => Some(Duration::ZERO),
            (false, OnOutage::Wait(limit)) => {
                Some(limit.unwrap_or(FIRST_CONTACT).min(FIRST_CONTACT))
            }
            (true, OnOutage::Wait(limit)) => limit,
        }
    }

    /// Waits before a try, for another time each time: all clients of a store that comes back
    /// would be there at the same moment. Returns early if nobody waits any more.
    fn pause(&self, tries: u32) {
        let longest = (FIRST_PAUSE * (1 << tries.min(10))).min(LONGEST_PAUSE);
        let mut chance = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        chance = (chance ^ chance >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let part = (chance >> 32) as u32 % 1000;
        let pause = longest / 2 + longest / 2000 * part;
        let gave_up = self.gave_up.lock().expect("no holder panics");
        let waited = self.giving_up.wait_timeout_while(gave_up, pause, |gave_up| !*gave_up);
        drop(waited.expect("no holder panics"));
    }

    /// Makes a request until it succeeds, fails for good, or the time is over. `ask` is told
    /// whether an earlier try may have been carried out.
    fn ask<T>(&self, mut ask: impl FnMut(bool) -> io::Result<T>) -> io::Result<T> {
        let began = Instant::now();
        let mut told = None;
        let mut tries = 0;
        loop {
            let error = match ask(tries > 0) {
                Err(error) if Unavailable::is(&error) => error,
                done => {
                    self.answered.store(true, Ordering::Relaxed);
                    return done;
                }
            };
            tries += 1;
            let over = self.limit().is_some_and(|limit| began.elapsed() >= limit);
            if tries >= TRIES && over {
                return Err(error);
            }
            if tries >= TRIES && told.is_none() {
                told = Some(Told::new(self, &error));
            }
            self.pause(tries);
        }
    }

    /// Replaces; what an earlier try has done is no other program's.
    fn replace_again(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.ask(|again| match self.objects.replace(key, bytes, old) {
            Err(error) if again && error.kind() == io::ErrorKind::AlreadyExists => {
                match self.objects.get(key)? {
                    Some((found, version)) if found == bytes => Ok(version),
                    _ => Err(error),
                }
            }
            done => done,
        })
    }
}

/// An outage that was told; its end is told as well, once nobody waits any more.
struct Told<'a, O: Objects>(&'a Patient<O>, Instant);

impl<'a, O: Objects> Told<'a, O> {
    fn new(patient: &'a Patient<O>, error: &io::Error) -> Self {
        let mut waiting = patient.waiting.lock().expect("no holder panics");
        *waiting += 1;
        if *waiting == 1 {
            let limit = match patient.limit() {
                Some(limit) => format!("up to {} s", limit.as_secs()),
                None => "until it answers".to_string(),
            };
            log::warn!("{}: {error}: its disks wait, {limit}", patient.name());
        }
        Told(patient, Instant::now())
    }
}

impl<O: Objects> Drop for Told<'_, O> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().expect("no holder panics");
        *waiting -= 1;
        if *waiting == 0 {
            log::warn!("{}: the outage of {} s is over", self.0.name(), self.1.elapsed().as_secs());
        }
    }
}

impl<O: Objects> Objects for Patient<O> {
    fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
        self.ask(|_| self.objects.get(key))
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> io::Result<Option<Vec<u8>>> {
        self.ask(|_| self.objects.get_range(key, range.clone()))
    }
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        self.ask(|_| self.objects.put(key, bytes))
    }
    fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
        self.replace_again(key, bytes, old)
    }
    fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
        // What was found before a list broke off is found again.
        let listed = self.ask(|_| {
            let mut listed = Vec::new();
            self.objects.list(prefix, &mut |one| listed.push(one))?;
            Ok(listed)
        })?;
        listed.into_iter().for_each(found);
        Ok(())
    }
    fn delete(&self, key: &str) -> io::Result<()> {
        self.ask(|_| self.objects.delete(key))
    }
    fn time(&self) -> io::Result<Option<SystemTime>> {
        self.ask(|_| self.objects.time())
    }
    fn identity(&self) -> Option<String> {
        self.objects.identity()
    }
    fn lock_file(&self) -> io::Result<Option<File>> {
        self.objects.lock_file()
    }
    fn check_conditions(&self) -> io::Result<()> {
        self.ask(|_| self.objects.check_conditions())
    }
    fn give_up(&self) {
        *self.gave_up.lock().expect("no holder panics") = true;
        self.giving_up.notify_all();
        self.objects.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::object::Folder;
    use std::sync::atomic::AtomicU32;

    /// A folder that does what it is told, but says for a number of times that it failed.
    struct Lost(Folder, AtomicU32);

    impl Lost {
        fn answer<T>(&self, done: io::Result<T>) -> io::Result<T> {
            let lost =
                self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if lost.is_ok() {
                return Err(Unavailable::error(io::ErrorKind::TimedOut, "no answer"));
            }
            done
        }
    }

    impl Objects for Lost {
        fn get(&self, key: &str) -> io::Result<Option<(Vec<u8>, String)>> {
            self.answer(self.0.get(key))
        }
        fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
            self.answer(self.0.put(key, bytes))
        }
        fn replace(&self, key: &str, bytes: &[u8], old: Option<&str>) -> io::Result<String> {
            self.answer(self.0.replace(key, bytes, old))
        }
        fn list(&self, prefix: &str, found: &mut dyn FnMut(Listed)) -> io::Result<()> {
            self.answer(self.0.list(prefix, found))
        }
        fn delete(&self, key: &str) -> io::Result<()> {
            self.answer(self.0.delete(key))
        }
    }

    #[test]
    fn put_whose_answer_was_lost_is_no_conflict() {
        let path = std::env::temp_dir().join(format!("xen-disk-outage-{}", std::process::id()));
        let store =
            Patient::new(Lost(Folder::open(&path).unwrap(), AtomicU32::new(2)), OnOutage::Fail);
        let version = store.replace("disks/a", b"1", None).unwrap();
        store.objects.1.store(2, Ordering::Relaxed);
        let version = store.replace("disks/a", b"2", Some(&version)).unwrap();
        assert_eq!(store.get("disks/a").unwrap().unwrap(), (b"2".to_vec(), version));
        let error = store.replace("disks/a", b"3", None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        store.objects.1.store(1000, Ordering::Relaxed);
        let began = Instant::now();
        assert!(Unavailable::is(&store.put("disks/b", b"4").unwrap_err()));
        assert!(began.elapsed() < Duration::from_secs(5));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn outage_actions_are_parsed() {
        for text in ["wait", "wait:30", "fail"] {
            assert_eq!(text.parse::<OnOutage>().unwrap().to_string(), text);
        }
        for text in ["", "wait:", "wait:0", "wait:x", "fail:3"] {
            assert!(text.parse::<OnOutage>().is_err(), "{text}");
        }
    }
}
