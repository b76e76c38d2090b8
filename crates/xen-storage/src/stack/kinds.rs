//! The names of storages and layers, with their options.

use super::StackError;
use super::args::Args;
use super::build::{self, Files};
use crate::storage::Storage;
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// A storage that is open.
pub type Built = Arc<dyn Storage>;

/// Reason why a storage or a layer could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its words are wrong: [`Args::wrong`] makes one of these.
    #[error(transparent)]
    Words(#[from] StackError),
    /// The file, device or store refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Function that opens it.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// A storage.
    Storage(fn(&Args, &Files) -> Result<Built, OpenError>),
    /// A layer, over what is below.
    Layer(fn(&Args, Built) -> Result<Built, OpenError>),
}

/// A name in the language of stacks. [`register`] makes one of one's own known.
pub struct Entry {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// A path follows the name.
    pub(super) path: bool,
    /// The option whose value may follow the name without being named.
    pub(super) first: Option<&'static str>,
    pub(super) options: &'static [(&'static str, &'static str)],
    pub(super) make: Make,
    pub(super) needs: Needs,
}

/// Rights that an open stack needs on its machine.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Needs {
    /// It opens and makes files for as long as it is served.
    pub files: bool,
    /// It is reached through a network.
    pub network: bool,
    /// It connects to sockets of other programs in the file system.
    pub sockets: bool,
}

impl Entry {
    /// A storage called `name`, described by `about`, that `open` opens.
    pub const fn storage(
        name: &'static str,
        about: &'static str,
        open: fn(&Args, &Files) -> Result<Built, OpenError>,
    ) -> Self {
        Self::new(name, about, Make::Storage(open))
    }

    /// A layer called `name`, described by `about`, that `open` puts over what is below.
    pub const fn layer(
        name: &'static str,
        about: &'static str,
        open: fn(&Args, Built) -> Result<Built, OpenError>,
    ) -> Self {
        Self::new(name, about, Make::Layer(open))
    }

    const fn new(name: &'static str, about: &'static str, make: Make) -> Self {
        let needs = Needs { files: false, network: false, sockets: false };
        Entry { name, about, path: false, first: None, options: &[], make, needs }
    }

    /// The same with a path that follows the name: [`Args::path`].
    pub const fn with_path(self) -> Self {
        Entry { path: true, ..self }
    }

    /// The same with options, each as it is written (`"size=SIZE"`, or `"ro"` for a flag) and what
    /// it means.
    pub const fn with_options(self, options: &'static [(&'static str, &'static str)]) -> Self {
        Entry { options, ..self }
    }

    /// The same with an option whose value may follow the name without being named.
    pub const fn with_first(self, option: &'static str) -> Self {
        Entry { first: Some(option), ..self }
    }

    /// The same with rights that it needs while it is served.
    pub const fn with_needs(self, needs: Needs) -> Self {
        Entry { needs, ..self }
    }

    /// Returns true if something lies below it.
    pub(super) fn is_layer(&self) -> bool {
        matches!(self.make, Make::Layer(_))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Entries that programs have added.
static REGISTERED: RwLock<Vec<&'static Entry>> = RwLock::new(Vec::new());

/// Makes a storage or a layer known to all stacks of this program, for as long as it runs. A name
/// that is taken, or that cannot be written in a stack, is refused.
pub fn register(entry: Entry) -> Result<(), StackError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if entry.name.is_empty() || !entry.name.chars().all(allowed) {
        return Err(StackError::syntax(entry.name, "a name has letters, digits, - and _ only"));
    }
    let entry: &'static Entry = Box::leak(Box::new(entry));
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    let known = STORAGES.iter().chain(LAYERS).chain(registered.iter().copied());
    if feature_of(entry.name).is_some() || known.into_iter().any(|k| k.name == entry.name) {
        return Err(StackError::syntax(entry.name, "there is a storage or layer of that name"));
    }
    registered.push(entry);
    Ok(())
}

/// Returns all entries.
pub(super) fn all() -> impl Iterator<Item = &'static Entry> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner).clone();
    STORAGES.iter().chain(LAYERS).chain(registered)
}

/// Returns true if the entry is one of this crate's.
pub(super) fn is_builtin(entry: &Entry) -> bool {
    STORAGES.iter().chain(LAYERS).any(|known| known.name == entry.name)
}

/// Returns the feature that the program must be built with to know that name.
pub(super) fn feature_of(name: &str) -> Option<&'static str> {
    match name {
        "qcow2" => Some("formats"),
        "object" => Some("object"),
        _ => None,
    }
}

/// Returns the entry of that name.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.name == name)
}

const SECTOR: (&str, &str) = ("sector=BYTES", "bytes of a sector: 512 (the default) or 4096");
const SIZE: (&str, &str) = ("size=SIZE", "its length, for instance 20G [default: 1G]");
const RO: (&str, &str) = ("ro", "not to be written");
const BACKING: (&str, &str) =
    ("trusted", "it may name other files that it stands on, and they are opened");
const SEED: (&str, &str) = ("seed=N", "other decisions, the same each time [default: 0]");

const STORAGES: &[Entry] = &[
    Entry::storage("discard", "takes everything, keeps nothing, reads zeros", build::discard)
        .with_options(&[SIZE, SECTOR]),
    Entry::storage("ram", "in this program's memory, gone with it", build::ram)
        .with_options(&[SIZE, SECTOR]),
    Entry::storage("file", "an image or a block device", build::file).with_path().with_options(&[
        RO,
        ("direct", "past the page cache (O_DIRECT)"),
        SECTOR,
    ]),
    Entry::storage("mmap", "an image or a block device, mapped into memory", build::mmap)
        .with_path()
        .with_options(&[RO, SECTOR]),
    #[cfg(feature = "formats")]
    Entry::storage("qcow2", "an image of QEMU's", build::qcow2)
        .with_path()
        .with_options(&[RO, BACKING]),
    Entry::storage("vmdk", "an image of VMware's, flat; it is only read", build::vmdk)
        .with_path()
        .with_options(&[BACKING]),
    #[cfg(feature = "object")]
    Entry::storage(
        "object",
        "chunks in an object store: a folder, or the URL of a bucket",
        super::object::open,
    )
    .with_path()
    .with_needs(Needs { files: true, network: false, sockets: false })
    .with_options(&[
        ("name=NAME", "which disk of it [default: disk]"),
        ("size=SIZE", "makes the disk if there is none of that name"),
        ("chunk=SIZE", "bytes of each chunk of a disk that is made, a power of two [default: 1M]"),
        ("memory=SIZE", "of what was read is kept in memory [default: 64M]"),
        ("cache=DIR", "a folder that keeps chunks as well; it can be deleted at any time"),
        ("limit=SIZE", "the most that is kept there [default: 1G]"),
        RO,
        ("takeover", "taken from a program that has it"),
        ("outage=ACTION", "store out of reach: wait, fail, or a time to wait [default: wait]"),
        ("zstd=LEVEL", "compresses a disk that is made, from 1 (fast) to 19"),
        ("key=FILE", "encrypts it; 32 bytes or 64 hexadecimal digits"),
        ("keycommand=COMMAND", "the same, with a key that a command prints"),
    ]),
    Entry::storage(
        "nbd",
        "the export of an NBD server: nbd://HOST:PORT/NAME or nbd+unix:///NAME?socket=PATH",
        build::nbd,
    )
    .with_path()
    .with_options(&[
        RO,
        ("outage=TIME", "requests wait this long for a server that is lost [default: 60s]"),
        ("timeout=TIME", "a server that is silent this long is lost [default: 120s]"),
        ("connections=N", "if the server permits several [default: 4]"),
        ("unflushed=SIZE", "of writes are remembered until a flush [default: 64M]"),
    ]),
    Entry::storage("vhd", "a VHD image, fixed or dynamic", build::vhd)
        .with_path()
        .with_options(&[RO]),
    Entry::storage(
        "cow",
        "an image that never changes; what is written is in memory only",
        build::cow,
    )
    .with_path()
    .with_options(&[SECTOR]),
];

const LAYERS: &[Entry] = &[
    Entry::layer(
        "overlay",
        "keeps what is written in a file; what is below stays as it is",
        build::overlay,
    )
    .with_path(),
    Entry::layer("throttle", "limits requests and bytes a second", build::throttle)
        .with_options(&[("iops=N", "requests a second"), ("rate=SIZE", "bytes a second")]),
    Entry::layer("delay", "makes every request take longer", build::delay)
        .with_first("time")
        .with_options(&[
            ("time=TIME", "by this, for instance 5ms"),
            ("jitter=TIME", "more or less by up to this"),
            SEED,
        ]),
    Entry::layer(
        "fault",
        "fails requests to which all of this applies, or does not do them",
        build::fault,
    )
    .with_options(&[
        ("op=KIND", "read, write, flush or discard; several with + between them"),
        ("from=SIZE", "that touch the disk from here"),
        ("to=SIZE", "up to here"),
        ("every=N", "the Nth, 2Nth, ... of them"),
        ("p=NUMBER", "with this probability, for instance 0.001"),
        ("torn", "writes are carried out in their first half"),
        ("silent", "they are answered as done; op=KIND must be there, and not be read"),
        SEED,
    ]),
    Entry::layer("verify", "fails reads of what was not written like that", build::verify),
    Entry::layer("log", "writes a line for each request into a file", build::log).with_path(),
    Entry::layer(
        "powercut",
        "loses what was not flushed when the power goes, at SIGUSR1 or when told",
        build::powercut,
    )
    .with_options(&[
        ("after=N", "after N writes"),
        (
            "keep=NUMBER",
            "each sector that was not flushed is there with this probability [default: 0]",
        ),
        SEED,
    ]),
];
