//! Errors of a disk, by the party that is to blame.

use alloc::string::String;
use core::fmt;
use core::time::Duration;
use xen_abi::blkif;
use xen_abi::xenbus::State;
use xen_platform::Quoted;
use xen_ring::slots::Corrupt;

/// An operation of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// To read.
    Read,
    /// To write.
    Write,
    /// To write with a barrier.
    Barrier,
    /// To flush.
    Flush,
    /// To discard.
    Discard,
    /// To discard so that nothing can be read again by any means.
    SecureDiscard,
}

impl Op {
    /// `BLKIF_OP_*`.
    pub fn code(self) -> u8 {
        match self {
            Op::Read => blkif::OP_READ,
            Op::Write => blkif::OP_WRITE,
            Op::Barrier => blkif::OP_WRITE_BARRIER,
            Op::Flush => blkif::OP_FLUSH_DISKCACHE,
            Op::Discard | Op::SecureDiscard => blkif::OP_DISCARD,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Barrier => "barrier",
            Op::Flush => "flush",
            Op::Discard => "discard",
            Op::SecureDiscard => "secure discard",
        })
    }
}

/// Error of a disk; `E` is the platform's error. Sectors are of 512 bytes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The disk ends before that. Nothing was sent.
    #[error("{op} of {count} sectors at {sector}: the disk has {sectors}")]
    OutOfRange {
        /// The operation.
        op: Op,
        /// First sector.
        sector: u64,
        /// Number of sectors.
        count: u64,
        /// The disk's size.
        sectors: u64,
    },
    /// It begins or ends within a sector of the disk, or has no sectors at all. Nothing was sent.
    #[error(
        "{op} of {len} bytes at sector {sector}: the disk reads and writes whole sectors of \
         {sector_size} bytes"
    )]
    Unaligned {
        /// The operation.
        op: Op,
        /// First sector.
        sector: u64,
        /// Number of bytes.
        len: u64,
        /// Bytes in a sector of the disk.
        sector_size: u32,
    },
    /// The disk is read-only. Nothing was sent.
    #[error("{0}: the disk is read-only; attach it with mode w to write")]
    ReadOnly(Op),
    /// The backend does not offer it, or refused it as unknown; nothing was done.
    #[error("the disk's backend has no {0}")]
    Unsupported(Op),
    /// The backend reported a failure. Parts of a write may have been done.
    #[error("the disk's backend failed to {op} {count} sectors at {sector}; its own log says why")]
    Failed {
        /// The operation.
        op: Op,
        /// First sector of the request.
        sector: u64,
        /// Number of sectors of the request.
        count: u64,
    },
    /// The backend did not complete the request in time. It may still do so.
    #[error("{0}")]
    TimedOut(Stuck),
    /// The disk is gone.
    #[error("the disk is gone: {0}")]
    Gone(GoneReason),
    /// The backend broke the protocol. The disk is not used any more.
    #[error("the disk's backend broke the protocol: {0}")]
    Peer(#[from] PeerError),
    /// xenstore refused an operation.
    #[error(transparent)]
    Store(#[from] xen_store::Error),
    /// The platform refused an operation.
    #[error("{0}")]
    Platform(E),
    /// The backend did not get as far as it should in time.
    #[error(
        "the backend at {path} stays in {state} and does not connect: is it running, does it have \
         the disk?"
    )]
    NoBackend {
        /// Its folder in xenstore; of one that has none, the frontend's.
        path: String,
        /// Its state.
        state: State,
    },
}

/// Report of a request that had no response in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{op} of {count} sectors at {sector} had no response for {} s; {in_flight} requests are in \
     flight on {}, {completed} were completed since the disk was attached",
    waited.as_secs(),
    Place(*queue)
)]
pub struct Stuck {
    /// The operation.
    pub op: Op,
    /// First sector.
    pub sector: u64,
    /// Number of sectors.
    pub count: u64,
    /// Time that it has waited, to a quarter of the timeout.
    pub waited: Duration,
    /// The ring it is on; `None` if it never got onto one, because they are full or the backend is
    /// away.
    pub queue: Option<u32>,
    /// Number of requests in flight then, on that ring or on all.
    pub in_flight: u32,
    /// Number of requests that the backend had completed by then.
    pub completed: u64,
}

struct Place(Option<u32>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(queue) => write!(f, "ring {queue}"),
            None => f.write_str("all rings, and this one for room on them"),
        }
    }
}

/// Reason why a disk is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GoneReason {
    /// It was closed here.
    #[error("it was closed")]
    Closed,
    /// The toolstack or the backend closed it.
    #[error("it was unplugged")]
    Unplugged,
    /// The backend went away without closing.
    #[error("its backend vanished")]
    Lost,
    /// The backend was started anew, and connecting to it failed; the driver's result says why.
    #[error("its backend was started anew and could not be connected again")]
    NoReturn,
    /// The driver was dropped.
    #[error("its driver was given up")]
    Dropped,
}

/// Breach of the protocol by the backend. Nothing that it wrote was used.
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
    /// A response to a request that is not in flight.
    #[error("ring {queue}: a response to {id:#x}, which is no request in flight")]
    UnknownId {
        /// The ring.
        queue: u32,
        /// The id in the response.
        id: u64,
    },
    /// A response for another operation than the request's.
    #[error("ring {queue}: the response to {id:#x}, a {op}, is for operation {found}")]
    Operation {
        /// The ring.
        queue: u32,
        /// The request.
        id: u64,
        /// Its operation.
        op: Op,
        /// The operation in the response.
        found: u8,
    },
    /// A response with an unknown status.
    #[error("ring {queue}: the response to {id:#x}, a {op}, has the unknown status {status}")]
    Status {
        /// The ring.
        queue: u32,
        /// The request.
        id: u64,
        /// Its operation.
        op: Op,
        /// The status.
        status: i16,
    },
    /// A key without which the disk cannot be used has an invalid value.
    #[error("xenstore key {key} is {}, which is not {expected}", Quoted(value))]
    Key {
        /// The key, in the backend's folder.
        key: &'static str,
        /// Its value.
        value: String,
        /// Description of a valid value.
        expected: &'static str,
    },
    /// A key without which the disk cannot be used is missing.
    #[error("xenstore key {key} is missing")]
    NoKey {
        /// The key.
        key: &'static str,
    },
}
