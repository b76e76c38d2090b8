//! What can go wrong with a backend, and how it ends.

use alloc::string::String;
use xen_ring::slots::Corrupt;

/// Why a disk cannot be served at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// xenstore refused an operation.
    #[error(transparent)]
    Store(#[from] xen_store::Error),
    /// The disk has no folder in xenstore: nobody made it.
    #[error("there is no disk at {path}: create it first")]
    NoDevice {
        /// The backend's folder.
        path: String,
    },
}

/// How serving a disk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// As it was asked to, after the frontend let go. The folders in xenstore are still there.
    Stopped,
    /// As it was asked to, but the frontend did not let go in time, or was not given any. The folders are still there.
    Forced,
    /// The frontend closed, and the toolstack does not want the disk to be connected again. The folders are still there.
    Closed,
    /// The toolstack removed the backend's folder.
    Removed,
    /// The frontend, or its domain, is gone. The folders are removed.
    Gone,
}

/// What the frontend did wrong: it ends this connection. Nothing of what it wrote was used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeerError {
    /// An index cannot be true.
    #[error("ring {queue}: {corrupt}")]
    Ring {
        /// The ring.
        queue: u32,
        /// The index, and what is wrong with it.
        corrupt: Corrupt,
    },
    /// A key has a value that cannot be.
    #[error("xenstore key {path} is {value:?}, which is not {expected}")]
    Key {
        /// The key's path.
        path: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A key that must be there is missing.
    #[error("xenstore key {path} is missing")]
    NoKey {
        /// The key's path.
        path: String,
    },
    /// The pages of a ring cannot be mapped.
    #[error("ring {queue}: {why}")]
    Map {
        /// The ring.
        queue: u32,
        /// What the platform said.
        why: String,
    },
    /// The event channel of a ring cannot be bound.
    #[error("ring {queue}: {why}")]
    Bind {
        /// The ring.
        queue: u32,
        /// What the platform said.
        why: String,
    },
}
