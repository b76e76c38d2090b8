//! The disks of a store: what there is, what they take, snapshots and clones of them.

use super::build::build;
use super::chunks::Chunks;
use super::disk::Log;
use super::head::{Found, Head, find, head_key, since_1970};
use super::lease::{Held, LeaseTimes, not_found};
use super::mark::{Leaves, names, reach};
use super::open::{convert, enter, fence};
use super::replay::{Seen, replay, see};
use super::view::{FRESH, State};
use super::{CHUNKS, Id, KEY, LOGS, Objects, unique};
use std::collections::HashMap;
use std::io;

/// A disk of a store.
#[derive(Clone, PartialEq, Debug)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Length in bytes, at its last checkpoint.
    pub bytes: u64,
    /// Set if it never changes.
    pub snapshot: bool,
    /// Set if it is encrypted.
    pub encrypted: bool,
    /// Level of its compression.
    pub zstd: Option<i32>,
    /// The program that has it, or had it when it was killed.
    pub holder: Option<String>,
}

/// Lists the disks of a store.
pub fn list(objects: &impl Objects) -> io::Result<Vec<About>> {
    let mut disks = Vec::new();
    for name in names(objects)? {
        let (bytes, head) = match find(objects, &name)? {
            // It was removed in this moment.
            None => continue,
            Some(Found::Old(old, _)) => (old.bytes, None),
            Some(Found::Disk(head, _)) => (head.bytes, Some(head)),
        };
        let holder = head.as_ref().and_then(|head| head.lease.as_ref());
        disks.push(About {
            bytes,
            snapshot: head.as_ref().is_some_and(|head| head.snapshot),
            encrypted: head.as_ref().is_some_and(|head| head.sealed.is_some()),
            zstd: head.as_ref().and_then(|head| head.zstd),
            holder: holder.map(|lease| lease.holder.clone()),
            name,
        });
    }
    Ok(disks)
}

/// Removes a disk or a snapshot. What it has in the store is garbage then, unless others have it,
/// too. One that is in use is not removed, unless it is taken over.
pub fn remove(
    objects: &impl Objects,
    name: &str,
    take_over: bool,
    times: &LeaseTimes,
) -> io::Result<()> {
    match find(objects, name)? {
        None => return Err(not_found(name)),
        Some(Found::Disk(Head { snapshot: false, .. }, _)) => {
            // From now on no other program has it.
            Held::take(objects, name, take_over, times, |old| convert(objects, old))?;
        }
        Some(_) => {}
    }
    objects.delete(&head_key(name))
}

/// Makes a disk that is never written, as `name` was at its last flush; others may write it
/// meanwhile.
pub fn snapshot(
    objects: &impl Objects,
    name: &str,
    snapshot: &str,
    key: Option<&[u8; KEY]>,
) -> io::Result<()> {
    copy(objects, name, &format!("{name}@{snapshot}"), key, true)
}

/// Makes a disk with the contents of another one or of a snapshot. Both have the same objects until
/// one of them is written.
pub fn clone(
    objects: &impl Objects,
    from: &str,
    to: &str,
    key: Option<&[u8; KEY]>,
) -> io::Result<()> {
    copy(objects, from, to, key, false)
}

fn copy(
    objects: &impl Objects,
    from: &str,
    to: &str,
    key: Option<&[u8; KEY]>,
    snapshot: bool,
) -> io::Result<()> {
    let _lock = enter(objects)?;
    objects.check_conditions()?;
    let mut put: Option<String> = None;
    loop {
        State::must_be_idle(objects)?;
        let Seen { head, chunks, replayed } = see(objects, from, key, COPY_MEMORY)?;
        let view = chunks.view()?;
        if view.idle().is_none() {
            continue;
        }
        let built = build(&chunks, &view, &replayed.tree, &replayed.tail, replayed.bytes)?;
        let Some(view) = view.renewed(objects)?.filter(|view| view.age() < FRESH) else {
            continue;
        };
        let head = Head {
            id: unique(),
            bytes: replayed.bytes,
            made: since_1970(),
            epoch: 0,
            root: Some(built.root),
            record: 0,
            changed: 0,
            snapshot,
            lease: None,
            ..head
        };
        match objects.replace(&head_key(to), &head.encode(), put.as_deref()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = format!("there is a disk {to} already: remove it, or take another name");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            done => put = Some(done?),
        }
        if view.held(objects)? {
            return Ok(());
        }
    }
}

/// Bytes of a disk that are kept in memory while it is copied.
const COPY_MEMORY: u64 = 64 << 20;

/// Gives a disk the contents of one of its snapshots. What it had since is lost. A disk that is in
/// use stays as it is.
pub fn roll_back(
    objects: &impl Objects,
    name: &str,
    snapshot: &str,
    key: Option<&[u8; KEY]>,
    times: &LeaseTimes,
) -> io::Result<()> {
    let _lock = enter(objects)?;
    State::must_be_idle(objects)?;
    let from = format!("{name}@{snapshot}");
    let Some(Found::Disk(old, _)) = find(objects, &from)? else {
        return Err(not_found(&from));
    };
    old.codec(key)?;
    let mut held = Held::take(objects, name, false, times, |old| convert(objects, old))?;
    let codec = held.head.codec(key)?;
    let chunks = Chunks::new(objects, codec, &held.head.id, held.head.chunk, 0);
    let mut replayed = replay(&chunks, &held.head)?;
    let log = Log::new(Some(&held), &replayed, held.head.record + 1);
    fence(&chunks, &log, &mut replayed)?;
    held.update(objects, name, |head| {
        let last = replayed.next - 1;
        let (id, epoch) = (head.id.clone(), head.epoch);
        *head = Head { id, epoch, record: last, changed: last, ..old.clone() };
        (head.snapshot, head.lease) = (false, None);
    })
}

/// The room that a disk takes in its store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// The disk.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Bytes of it that are not zero, about.
    pub logical: u64,
    /// Bytes in the store that only this disk has.
    pub unique: u64,
    /// Bytes in the store that other disks have as well.
    pub shared: u64,
}

/// Finds out what disks take, and how many bytes of the store no disk has.
pub fn usage(objects: &impl Objects) -> io::Result<(Vec<Usage>, u64)> {
    let mut sizes: HashMap<Id, u64> = HashMap::new();
    let mut all = 0;
    objects.list(CHUNKS, &mut |listed| {
        all += listed.bytes;
        let name = listed.key.strip_prefix(CHUNKS);
        let id = name.and_then(|name| blake3::Hash::from_hex(name).ok());
        sizes.extend(id.map(|id| (Id::from(id), listed.bytes)));
    })?;
    objects.list(LOGS, &mut |listed| all += listed.bytes)?;
    let mut reaches = Vec::new();
    let mut users: HashMap<Id, u32> = HashMap::new();
    let mut leaves = Leaves::default();
    for about in list(objects)? {
        let Some(reach) = reach(objects, &mut leaves, &about.name)? else { continue };
        reach.chunks.iter().for_each(|id| *users.entry(*id).or_default() += 1);
        reaches.push((about, reach));
    }
    let size = |id: &Id| sizes.get(id).copied().unwrap_or(0);
    let mut used: u64 = users.keys().map(size).sum();
    let mut disks = Vec::new();
    for (about, reach) in reaches {
        let alone = reach.chunks.iter().filter(|id| users[*id] == 1).map(size).sum::<u64>();
        let shared = reach.chunks.iter().filter(|id| users[*id] > 1).map(size).sum();
        used += reach.log_bytes;
        disks.push(Usage {
            name: about.name,
            bytes: about.bytes,
            logical: (reach.blocks * super::BLOCK).min(about.bytes),
            unique: alone + reach.log_bytes,
            shared,
        });
    }
    Ok((disks, all.saturating_sub(used)))
}
