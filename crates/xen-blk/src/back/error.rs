//! Errors and ends of a backend.

use alloc::string::String;
use xen_ring::slots::Corrupt;

/// Error that ends the service of a disk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// xenstore refused an operation.
    #[error(transparent)]
    Store(#[from] xen_store::Error),
    /// The disk has no folder in xenstore.
    #[error("there is no disk at {path}: create it first")]
    NoDevice {
        /// The backend's folder.
        path: String,
    },
    /// The platform refused the backend's part of a connection. The frontend is not to blame.
    #[error("disk at {path}: the backend cannot connect: {why}")]
    Platform {
        /// The backend's folder.
        path: String,
        /// The platform's error, with the cure.
        why: String,
    },
    /// The disk has ended, but the storage has not ended some operations. Writes among them can
    /// still reach it, so the storage must not be used again before the program has ended.
    #[error(
        "disk at {path}: ended ({end:?}), but the storage still works on {operations} operations \
         of its frontend: end this program before the storage is used again"
    )]
    Unfinished {
        /// The backend's folder.
        path: String,
        /// Number of operations.
        operations: usize,
        /// The end of the disk.
        end: End,
    },
}

/// End of the service of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// As it was asked to, after the frontend let go. The folders in xenstore are still there.
    Stopped,
    /// As it was asked to, but the frontend did not let go in time, or was not given any. The
    /// folders are still there.
    Forced,
    /// The frontend closed, and the toolstack does not want the disk to be connected again. The
    /// folders are still there.
    Closed,
    /// The toolstack removed the backend's folder.
    Removed,
    /// The frontend, or its domain, is gone. The folders are removed, unless
    /// [`super::Config::leave_folders`] is set.
    Gone,
}

/// Breach of the protocol by the frontend, which ends this connection. Nothing that it wrote was
/// used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// An index cannot be true.
    #[error("ring {queue}: {corrupt}")]
    Ring {
        /// The ring.
        queue: u32,
        /// The index, and what is wrong with it.
        corrupt: Corrupt,
    },
    /// A key has an invalid value.
    #[error("xenstore key {path} is {value:?}, which is not {expected}")]
    Key {
        /// The key's path.
        path: String,
        /// Its value.
        value: String,
        /// Description of a valid value.
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
        /// The platform's error.
        why: String,
    },
    /// The event channel of a ring cannot be bound.
    #[error("ring {queue}: {why}")]
    Bind {
        /// The ring.
        queue: u32,
        /// The platform's error.
        why: String,
    },
}
