//! The names of storages and layers, and what belongs to each.

use super::StackError;
use super::args::Args;
use super::build::{self, Files};
use crate::storage::Storage;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A storage that is open.
pub type Built = Arc<dyn Storage>;

/// What could not be built: the words are wrong, or it cannot be opened.
pub enum Fault {
    /// The words.
    Words(StackError),
    /// The file.
    Io(io::Error),
}

impl From<StackError> for Fault {
    fn from(error: StackError) -> Self {
        Fault::Words(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// How one is opened.
#[derive(Clone, Copy)]
pub enum Make {
    /// A storage.
    Storage(fn(&Args, &Files) -> Result<Built, Fault>),
    /// A layer, over what is below.
    Layer(fn(&Args, Built) -> Result<Built, Fault>),
}

/// One storage or layer.
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Whether a path follows its name.
    pub path: bool,
    /// The option whose value may follow the name without being named.
    pub first: Option<&'static str>,
    /// Its options, and what they mean.
    pub options: &'static [(&'static str, &'static str)],
    /// How to open it.
    pub make: Make,
}

impl Entry {
    /// Whether something lies below it.
    pub fn is_layer(&self) -> bool {
        matches!(self.make, Make::Layer(_))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All there are.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    STORAGES.iter().chain(LAYERS)
}

/// The feature that the program must be built with to know that name.
pub fn feature_of(name: &str) -> Option<&'static str> {
    match name {
        "qcow2" | "vmdk" => Some("formats"),
        "object" => Some("object"),
        _ => None,
    }
}

/// The one of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.name == name)
}

const SECTOR: (&str, &str) = ("sector=BYTES", "bytes of a sector: 512 (the default) or 4096");
const SIZE: (&str, &str) = ("size=SIZE", "its length, for instance 20G [default: 1G]");
const RO: (&str, &str) = ("ro", "not to be written");
#[cfg(feature = "formats")]
const BACKING: (&str, &str) = ("trusted", "it may name other files that it stands on, and they are opened");
const SEED: (&str, &str) = ("seed=N", "other decisions, the same each time [default: 0]");

const fn storage(
    name: &'static str,
    about: &'static str,
    path: bool,
    options: &'static [(&'static str, &'static str)],
    make: fn(&Args, &Files) -> Result<Built, Fault>,
) -> Entry {
    Entry { name, about, path, first: None, options, make: Make::Storage(make) }
}

const fn layer(
    name: &'static str,
    about: &'static str,
    first: Option<&'static str>,
    options: &'static [(&'static str, &'static str)],
    make: fn(&Args, Built) -> Result<Built, Fault>,
) -> Entry {
    Entry { name, about, path: false, first, options, make: Make::Layer(make) }
}

const STORAGES: &[Entry] = &[
    storage("discard", "takes everything, keeps nothing, reads zeros", false, &[SIZE, SECTOR], build::discard),
    storage("ram", "in this program's memory, gone with it", false, &[SIZE, SECTOR], build::ram),
    storage(
        "file",
        "an image or a block device",
        true,
        &[RO, ("direct", "past the page cache (O_DIRECT)"), SECTOR],
        build::file,
    ),
    storage("mmap", "an image, mapped into memory", true, &[RO, SECTOR], build::mmap),
    #[cfg(feature = "formats")]
    storage("qcow2", "an image of QEMU's", true, &[RO, BACKING], build::qcow2),
    #[cfg(feature = "formats")]
    storage("vmdk", "an image of VMware's; it is only read", true, &[BACKING], build::vmdk),
    #[cfg(feature = "object")]
    storage(
        "object",
        "chunks in an object store: a folder, or the URL of a bucket",
        true,
        &[
            ("name=NAME", "which disk of it [default: disk]"),
            ("size=SIZE", "makes the disk if there is none of that name"),
            ("chunk=SIZE", "bytes of each chunk of a disk that is made, a power of two [default: 1M]"),
            ("memory=SIZE", "of what was read is kept in memory [default: 64M]"),
            ("cache=DIR", "a folder that keeps chunks as well; it can be deleted at any time"),
            ("limit=SIZE", "the most that is kept there [default: 1G]"),
        ],
        build::object,
    ),
    storage("vhd", "a VHD image, fixed or dynamic", true, &[RO], build::vhd),
    storage("cow", "an image that never changes; what is written is in memory only", true, &[SECTOR], build::cow),
];

const LAYERS: &[Entry] = &[
    Entry {
        path: true,
        ..layer("overlay", "keeps what is written in a file; what is below stays as it is", None, &[], build::overlay)
    },
    layer(
        "throttle",
        "lets through only so much",
        None,
        &[("iops=N", "requests a second"), ("rate=SIZE", "bytes a second")],
        build::throttle,
    ),
    layer(
        "delay",
        "makes every request take longer",
        Some("time"),
        &[("time=TIME", "by this, for instance 5ms"), ("jitter=TIME", "more or less by up to this"), SEED],
        build::delay,
    ),
    layer(
        "fault",
        "fails requests to which all of this applies, or does not do them",
        None,
        &[
            ("op=KIND", "read, write, flush or discard; several with + between them"),
            ("from=SIZE", "that touch the disk from here"),
            ("to=SIZE", "up to here"),
            ("every=N", "the Nth, 2Nth, ... of them"),
            ("p=NUMBER", "with this probability, for instance 0.001"),
            ("torn", "writes are carried out in their first half"),
            ("silent", "they are answered as done; op=KIND must be there, and not be read"),
            SEED,
        ],
        build::fault,
    ),
    layer("verify", "fails reads of what was not written like that", None, &[], build::verify),
    Entry { path: true, ..layer("log", "writes a line for each request into a file", None, &[], build::log) },
    layer(
        "powercut",
        "loses what was not flushed when the power goes, at SIGUSR1 or when told",
        None,
        &[
            ("after=N", "after so many writes"),
            ("keep=NUMBER", "each sector that was not flushed is there with this probability [default: 0]"),
            SEED,
        ],
        build::powercut,
    ),
];
