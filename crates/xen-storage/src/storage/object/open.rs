//! Making, opening and closing a disk.

use super::build::build;
use super::chunks::Chunks;
use super::codec::Codec;
use super::disk::{Disk, Log, Options};
use super::head::{Found, Head, Make, find, head_key};
use super::keeper;
use super::lease::{Held, not_found};
use super::old::Manifest;
use super::replay::{Replayed, Seen, places_of_old, read_record, replay, see};
use super::state::State;
use super::tree::Tree;
use super::view::{self, Moment};
use super::{Ahead, Object, Objects, log_key};
use crate::storage::LockedFile;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;

/// Records of the log that are taken into the map when a disk is closed.
const CLOSE_RECORDS: u64 = 64;

impl<O: Objects + 'static> Object<O> {
    /// Makes a disk of zeros, and returns whether there was none of that name.
    pub fn create(objects: &O, name: &str, make: &Make) -> io::Result<bool> {
        let head = Head::new(make)?;
        if objects.get(&head_key(name))?.is_some() {
            return Ok(false);
        }
        let _lock = enter(objects)?;
        objects.check_conditions()?;
        view::State::begin(objects)?;
        match objects.replace(&head_key(name), &head.encode(), None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|_| true),
        }
    }

    /// Opens the disk of that name.
    pub fn open(objects: O, name: &str, options: Options) -> io::Result<Self> {
        let disk = match options.read_only {
            true => open_to_read(objects, name, options)?,
            false => open_to_write(objects, name, options)?,
        };
        let disk = Arc::new(disk);
        let threads = if disk.options.read_only { Vec::new() } else { keeper::start(&disk) };
        Ok(Object { disk, ahead: Arc::<Ahead>::default(), threads })
    }
}

fn open_to_read<O: Objects>(objects: O, name: &str, options: Options) -> io::Result<Disk<O>> {
    let Seen { head, chunks, replayed } = see(objects, name, options.key.as_ref(), options.memory)?;
    Ok(new_disk(name, chunks, replayed, None, head.record + 1, options))
}

fn open_to_write<O: Objects>(objects: O, name: &str, options: Options) -> io::Result<Disk<O>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("disk {name}: {error}"));
    // A disk whose key is wrong is not taken from the program that has it.
    let lock = enter(&objects)?;
    let head = match find(&objects, name)? {
        None => return Err(not_found(name)),
        Some(Found::Old(old, _)) => Head::of_old(&old)?,
        Some(Found::Disk(head, _)) => head,
    };
    head.codec(options.key.as_ref()).map_err(named)?;
    let held = Held::take(&objects, name, options.take_over, &options.times, |old| {
        convert(&objects, old)
    })?;
    let Head { id, chunk, record, .. } = &held.head;
    let first = record + 1;
    let codec = held.head.codec(options.key.as_ref()).map_err(named)?;
    let chunks = Chunks::new(objects, codec, id, *chunk, options.memory);
    let mut replayed = replay(&chunks, &held.head).map_err(named)?;
    let log = Log::new(Some(&held), &replayed, first);
    fence(&chunks, &log, &mut replayed).map_err(named)?;
    let disk = new_disk(name, chunks, replayed, Some(held), first, options);
    Ok(Disk { _lock: lock, ..disk })
}

/// Locks a store that can be locked: its garbage is not collected without a wait then.
pub fn enter(objects: &impl Objects) -> io::Result<Option<LockedFile>> {
    let Some(file) = objects.lock_file()? else { return Ok(None) };
    match LockedFile::try_new(file, false)? {
        Some(file) => Ok(Some(file)),
        None => {
            let text = "its garbage is being collected: try again when that is done";
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
    }
}

/// Puts a fence at the end of the log. Whatever the program that had the disk has put there until
/// then is taken in.
pub fn fence<O: Objects>(chunks: &Chunks<O>, log: &Log, replayed: &mut Replayed) -> io::Result<()> {
    loop {
        let record = log.fence(replayed.next, replayed.bytes);
        let raw = record.encode(&chunks.id, &chunks.codec)?;
        match chunks.objects.replace(&log_key(&chunks.id, record.number), &raw, None) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(other) = read_record(chunks, replayed.next)? {
                    replayed.apply(&other);
                }
            }
            done => {
                done?;
                replayed.apply(&record);
                return Ok(());
            }
        }
    }
}

fn new_disk<O: Objects>(
    name: &str,
    chunks: Chunks<O>,
    replayed: Replayed,
    held: Option<Held>,
    first: u64,
    options: Options,
) -> Disk<O> {
    let log = Log::new(held.as_ref(), &replayed, first);
    let token = log.token.clone();
    let Replayed { tree, tail, bytes, .. } = replayed;
    let state = State { bytes, tail, tree, ..State::default() };
    Disk {
        name: name.to_string(),
        chunks,
        options,
        state: Mutex::new(state),
        log: Mutex::new(log),
        held: Mutex::new(held),
        checkpointing: Mutex::default(),
        counted: Arc::default(),
        work: keeper::Work::default(),
        token,
        renewed: Mutex::new(Moment::now()),
        _lock: None,
    }
}

/// Makes the map of a disk in the first format. Its chunks stay as they are.
pub fn convert<O: Objects>(objects: &O, old: &Manifest) -> io::Result<Head> {
    let head = Head::of_old(old)?;
    let chunks = Chunks::new(objects, Codec::default(), &head.id, head.chunk, 0);
    loop {
        let view = chunks.view()?;
        let built = build(&chunks, &view, &Tree::default(), &places_of_old(old), head.bytes)?;
        if view.renewed(objects)?.is_some() {
            return Ok(Head { root: Some(built.root), ..head });
        }
        chunks.look()?;
    }
}

impl<O: Objects> Disk<O> {
    /// Shortens the log, and gives the disk back.
    pub(super) fn close(&self) {
        let records = {
            let log = self.log();
            log.next() - log.first
        };
        if records >= CLOSE_RECORDS {
            // The next program that opens it reads the log instead.
            let _ = self.checkpoint();
        }
        self.release();
    }
}
