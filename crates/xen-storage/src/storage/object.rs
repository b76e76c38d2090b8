//! `object`: a disk in an object store.
//!
//! ```text
//! disks/<name>          the head of a disk: its length, the root of its map, its holder
//! logs/<id>/<number>    a flush: the changed blocks, or where they are
//! chunks/<name>         pieces of disks, and of their maps; they never change
//! gc                    whether garbage is collected
//! ```
//!
//! A flush uploads large pieces as chunks, which are named by the hash of what is in them, and then
//! puts one record at the end of the log, on the condition that there is none of that number: the
//! record of another program that has taken the disk is found, and nothing is written any more.
//! Now and then a checkpoint takes the log into the map, a tree of two levels. So what a flush
//! costs follows what was changed, not how long the disk is.
//!
//! `docs/object.md` has the formats' reasons, and what is promised.

mod ahead;
mod blob;
mod build;
mod cache;
mod checkpoint;
mod chunks;
mod codec;
mod disk;
mod extents;
mod flush;
mod folder;
mod gc;
mod head;
mod keeper;
mod lease;
mod manage;
mod mark;
mod old;
mod open;
mod outage;
mod parallel;
mod pieces;
mod place;
mod record;
#[cfg(feature = "cloud")]
mod remote;
mod replay;
mod state;
mod store;
mod tree;
mod view;

pub use cache::Cached;
pub use codec::{KEY, read_key};
pub use disk::Options;
pub use folder::Folder;
pub use gc::{Collect, Collected, collect};
pub use head::Make;
pub use lease::{Fenced, InUse, LeaseTimes};
pub use manage::{About, Usage, clone, list, remove, roll_back, snapshot, usage};
pub use outage::{OnOutage, Patient, Unavailable};
#[cfg(feature = "cloud")]
pub use remote::Remote;
pub use store::{Listed, Objects, open_store};

use super::{Discard, Info, Storage, read_only};
use ahead::Ahead;
use blob::Id;
use disk::Disk;
use place::BLOCK;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Bytes of a chunk, unless somebody wants another length.
pub const CHUNK: u32 = 1 << 20;

/// A disk in an object store.
pub struct Object<O: Objects> {
    disk: Arc<Disk<O>>,
    ahead: Arc<Ahead>,
    threads: Vec<JoinHandle<()>>,
}

impl<O: Objects + 'static> Object<O> {
    /// Makes a checkpoint of all that was flushed so far. It is done without being asked for when
    /// the log has become long.
    pub fn checkpoint(&self) -> io::Result<()> {
        self.disk.checkpoint()
    }

    fn range(&self, at: u64, len: u64) -> io::Result<()> {
        self.info().range(at, len).map(drop)
    }

    fn writable(&self) -> io::Result<()> {
        if self.disk.options.read_only { Err(read_only()) } else { Ok(()) }
    }
}

impl<O: Objects + 'static> Storage for Object<O> {
    fn info(&self) -> Info {
        let read_only = self.disk.options.read_only;
        let discard = (!read_only).then_some(Discard { granularity: BLOCK as u32, secure: false });
        let bytes = self.disk.state().bytes;
        Info { physical_sector_size: BLOCK as u32, discard, read_only, ..Info::new(bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.range(at, to.len() as u64)?;
        ahead::note(&self.disk, &self.ahead, at, to.len() as u64, self.info().bytes);
        self.disk.read(at, to)
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.writable()?;
        self.range(at, from.len() as u64)?;
        self.disk.write(at, from)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    /// Whole blocks become zeros; parts of one are left as they are.
    fn discard(&self, at: u64, len: u64, secure: bool) -> io::Result<()> {
        self.writable()?;
        if secure {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.range(at, len)?;
        self.disk.discard(at, len)
    }

    /// The new length is kept at once, with all that was written so far.
    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.writable()?;
        super::file::whole_sectors(bytes, 512)?;
        if bytes > head::MAX_BYTES {
            let text = format!("{bytes} bytes are too many: {} are the most", head::MAX_BYTES);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.disk.resize(bytes)
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(at)
    }

    fn identity(&self) -> Option<String> {
        let store = self.disk.chunks.objects.identity()?;
        Some(format!("disk {} of {store}", self.disk.name))
    }

    /// The number of the last flush that changed something.
    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        self.flush()?;
        let changed = self.disk.log().changed;
        Ok(format!("{} {changed}", self.disk.chunks.id).into_bytes())
    }
}

impl<O: Objects> Drop for Object<O> {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.disk.work.end();
        self.disk.chunks.objects.give_up();
        for thread in self.threads.drain(..) {
            thread.join().expect("the keepers of a disk do not panic");
        }
        self.disk.close();
    }
}

/// Prefix of the keys of chunks.
const CHUNKS: &str = "chunks/";
/// Prefix of the keys of heads.
const DISKS: &str = "disks/";
/// Prefix of the keys of logs.
const LOGS: &str = "logs/";

fn chunk_key(id: &Id) -> String {
    format!("{CHUNKS}{}", blake3::Hash::from_bytes(*id).to_hex())
}

fn log_key(id: &str, number: u64) -> String {
    format!("{LOGS}{id}/{number:016x}")
}

/// Returns a name that nothing else has: of this process, this moment and the system's random
/// numbers.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&since.as_nanos().to_le_bytes());
    hasher.update(&u64::from(std::process::id()).to_le_bytes());
    hasher.update(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hasher.update(&RandomState::new().hash_one(0).to_le_bytes());
    hasher.finalize().to_hex()[..32].to_string()
}
