//! The users of a store: its garbage is collected only while nobody does. What is garbage now can
//! be what a disk is about to be given: a chunk that is there already is not uploaded again.
//!
//! In a folder that is a lock on a file, which the kernel takes back when its holder dies. In a
//! store without locks each user puts an object of its own, and looks then whether somebody
//! collects; a collector says so first, and looks then whether there are users. So at least one of
//! two that come at the same time sees the other, and gives way.

use super::Objects;
use crate::storage::LockedFile;
use std::fs;
use std::io;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below this are the users.
const USERS: &str = "users/";
/// The program that collects.
const COLLECTOR: &str = "collector";

/// The right to use a store, or to collect its garbage; to be given back with [`leave`].
pub enum Lease {
    /// A lock on a file.
    Lock { _file: LockedFile },
    /// The object of that key.
    Object(String),
}

/// The right to use the store for a disk of that name.
pub fn enter(objects: &impl Objects, disk: &str) -> io::Result<Lease> {
    if let Some(file) = objects.lock_file()? {
        return match LockedFile::try_new(file, false)? {
            Some(file) => Ok(Lease::Lock { _file: file }),
            None => Err(busy("its garbage is being collected: try again when that is done")),
        };
    }
    let (me, nanos) = whoami();
    let key = format!("{USERS}{disk}-{}-{nanos}", process::id());
    objects.put(&key, format!("disk {disk}, {me}").as_bytes())?;
    let lease = Lease::Object(key);
    match objects.get(COLLECTOR) {
        Ok(None) => Ok(lease),
        found => {
            leave(objects, lease);
            let (who, _) = found?.unwrap_or_default();
            let who = String::from_utf8_lossy(&who).into_owned();
            Err(busy(format!(
                "its garbage is being collected, by {who}; if that was killed: xen-disk gc --force"
            )))
        }
    }
}

/// The right to collect garbage. With `force`, programs that are said to use the store or to
/// collect are taken for dead; locks need no such word.
pub fn enter_alone(objects: &impl Objects, force: bool) -> io::Result<Lease> {
    if let Some(file) = objects.lock_file()? {
        return match LockedFile::try_new(file, true)? {
            Some(file) => Ok(Lease::Lock { _file: file }),
            None => Err(busy("its disks are in use, or its garbage is being collected")),
        };
    }
    let (me, _) = whoami();
    match objects.replace(COLLECTOR, me.as_bytes(), None) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !force => {
            let (who, _) = objects.get(COLLECTOR)?.unwrap_or_default();
            let who = String::from_utf8_lossy(&who).into_owned();
            return Err(busy(format!(
                "its garbage is being collected, by {who}; if that was killed: --force"
            )));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            objects.put(COLLECTOR, me.as_bytes())?
        }
        done => drop(done?),
    }
    let lease = Lease::Object(COLLECTOR.to_string());
    let gone = if force { forget_users(objects) } else { no_users(objects) };
    match gone {
        Ok(()) => Ok(lease),
        Err(error) => {
            leave(objects, lease);
            Err(error)
        }
    }
}

fn forget_users(objects: &impl Objects) -> io::Result<()> {
    objects.list(USERS)?.iter().try_for_each(|(key, _)| objects.delete(key))
}

fn no_users(objects: &impl Objects) -> io::Result<()> {
    let users = objects.list(USERS)?;
    let Some((key, _)) = users.first() else { return Ok(()) };
    let (who, _) = objects.get(key)?.unwrap_or_default();
    let who = String::from_utf8_lossy(&who).into_owned();
    let text = format!(
        "it is in use {} times, for instance for {who}; if they were killed: --force",
        users.len()
    );
    Err(busy(text))
}

/// Gives a right back. An object that cannot be deleted stays, and says whose it was.
pub fn leave(objects: &impl Objects, lease: Lease) {
    if let Lease::Object(key) = lease {
        let _ = objects.delete(&key);
    }
}

/// This process for people, and a number that no other process of its number and host has.
fn whoami() -> (String, u128) {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text =
        format!("process {} on {} since second {}", process::id(), host.trim(), since.as_secs());
    (text, since.as_nanos())
}

fn busy(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, text.into())
}
