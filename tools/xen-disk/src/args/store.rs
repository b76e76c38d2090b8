//! The arguments of `xen-disk gc` and `store`.

use super::after_help;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The arguments of `xen-disk gc`.
#[derive(Args, Debug)]
#[command(after_help = after_help("  xen-disk gc /srv/objects\n  xen-disk gc s3://bucket/folder --grace 0"))]
pub struct GcArguments {
    /// The store: a folder or the URL of a bucket.
    #[arg(value_name = "STORE")]
    pub store: String,
    /// Objects that are younger stay.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub grace: u32,
}

/// The key of an encrypted disk.
#[derive(Args, Debug, Default)]
pub struct KeyArguments {
    /// The file with its key, if it is encrypted.
    #[arg(long, value_name = "FILE", conflicts_with = "key_command")]
    pub key: Option<PathBuf>,
    /// A command that prints its key.
    #[arg(long, value_name = "COMMAND")]
    pub key_command: Option<String>,
}

/// The commands of `xen-disk store`.
#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Lists the disks of a store, and their holders.
    #[command(after_help = after_help("  xen-disk store list s3://bucket/folder"))]
    List {
        /// The store: a folder or the URL of a bucket.
        store: String,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the disks of a store take in it, alone and together.
    #[command(after_help = after_help("  xen-disk store usage s3://bucket/folder"))]
    Usage {
        /// The store.
        store: String,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Removes a disk or a snapshot (NAME@SNAPSHOT); `gc` gives its room back.
    #[command(after_help = after_help("  xen-disk store remove /srv/objects vm1@before"))]
    Remove {
        /// The store.
        store: String,
        /// The disk.
        name: String,
        /// Also if a program has it: that can write it no more.
        #[arg(long)]
        take_over: bool,
    },
    /// Keeps a disk as it was at its last flush, also while it is served.
    #[command(after_help = after_help("  xen-disk store snapshot /srv/objects vm1 before"))]
    Snapshot {
        /// The store.
        store: String,
        /// The disk.
        name: String,
        /// The name of the snapshot: NAME@SNAPSHOT is the disk that it is.
        snapshot: String,
        /// Its key.
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Makes a disk with the contents of another one or of a snapshot, which takes no room.
    #[command(after_help = after_help("  xen-disk store clone /srv/objects golden@1 vm2"))]
    Clone {
        /// The store.
        store: String,
        /// The disk or snapshot (NAME@SNAPSHOT).
        from: String,
        /// The new disk.
        to: String,
        /// Its key.
        #[command(flatten)]
        key: KeyArguments,
    },
    /// Gives a disk that is not served the contents of one of its snapshots.
    #[command(after_help = after_help("  xen-disk store rollback /srv/objects vm1 before"))]
    Rollback {
        /// The store.
        store: String,
        /// The disk.
        name: String,
        /// The snapshot.
        snapshot: String,
        /// Its key.
        #[command(flatten)]
        key: KeyArguments,
    },
}
