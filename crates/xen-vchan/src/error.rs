//! Errors by the side to blame.

use crate::info::Role;
use crate::{OrderClash, Side};
use alloc::format;
use alloc::string::String;
use embedded_io_async::ErrorKind;
use xen_platform::{DomId, Quoted};
use xen_ring::bytes::Corrupt;
use xen_store::path::PathError;

/// Why something with a vchan failed; `E` is the platform's error.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The platform refused an operation.
    #[error(transparent)]
    Platform(E),
    /// The peer broke the protocol. The connection is over, and the peer was told.
    #[error("the vchan peer broke the protocol: {0}")]
    Peer(#[from] PeerError),
    /// xenstore refused an operation.
    #[error(transparent)]
    Store(#[from] xen_store::Error),
    /// The connection was closed, by the peer or on this side; nothing can be written any more.
    #[error("the vchan is closed")]
    Closed,
    /// The peer ended without closing the connection: its program was killed, or its domain was
    /// destroyed.
    #[error("the vchan peer, domain {0}, died: it did not close the channel")]
    Died(DomId),
    /// xenstore did not answer before the deadline.
    #[error("timed out before xenstore answered")]
    Timeout,
    /// Until the deadline, nobody offered a vchan under this path.
    #[error("no vchan is offered at {path}: is the server running, and is this its path?")]
    NoServer {
        /// The path of the folder in which the keys should be.
        path: String,
    },
    /// Until the deadline, the keys under this path led to no usable channel.
    #[error("the vchan at {path} cannot be used: {why}; if its server is gone, start it again")]
    Stale {
        /// The path of the folder in which the keys are.
        path: String,
        /// Fault of the last one tried.
        why: Stale<E>,
    },
    /// Until the deadline, the server was serving another client.
    #[error("the vchan at {path} is in use by another client: wait until that one has left")]
    Busy {
        /// The path of the folder in which the keys are.
        path: String,
    },
    /// The request cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Why keys led to no usable channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Stale<E> {
    /// The pages cannot be mapped: the server has taken them back, or they are somebody else's.
    #[error("{0}")]
    Map(E),
    /// The event channel cannot be bound.
    #[error("{0}")]
    Bind(E),
    /// The page says that the server is not there (`srv_live`).
    #[error("its page says that the server is gone")]
    NoServer,
    /// The page says that a client was there and has left (`cli_live`), and the server has not
    /// noticed yet.
    #[error("its last client has left, and the server has not offered it anew")]
    Used,
}

/// Fault of the peer. Nothing of what it wrote was used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// An index cannot be true.
    #[error("{side} ring: {corrupt}")]
    Ring {
        /// The ring.
        side: Side,
        /// The index, and what is wrong with it.
        corrupt: Corrupt,
    },
    /// The byte that says whether an end is there has a value that it cannot have.
    #[error("{} is {value}", who.live_field())]
    Live {
        /// Whose byte it is.
        who: Role,
        /// Its value.
        value: u8,
    },
    /// There are no rings of this order.
    #[error("{side} ring: order {order} is not between 10 and 20")]
    Order {
        /// The ring.
        side: Side,
        /// The order.
        order: u16,
    },
    /// The two rings overlap.
    #[error("the rings overlap: {0}")]
    Orders(#[from] OrderClash),
    /// A key is not a decimal number of 32 bits.
    #[error("xenstore key {path}: {} is not a decimal number of 32 bits", Quoted(value))]
    Key {
        /// The key's path.
        path: String,
        /// Its value.
        value: String,
    },
    /// A key belongs to another domain, which could lead this side astray.
    #[error("xenstore key {path} belongs to domain {owner}, not to the server, domain {server}")]
    Owner {
        /// The key's path.
        path: String,
        /// Its owner.
        owner: DomId,
        /// The domain that should own it.
        server: DomId,
    },
}

/// The request cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The peer is the own domain.
    #[error("a vchan joins two domains, and domain {0} is this one: name the other one's number")]
    OwnDomain(DomId),
    /// The two rings cannot stand beside each other.
    #[error(transparent)]
    Orders(#[from] OrderClash),
    /// The path is none that xenstore takes.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The path is longer than libxenvchan takes.
    #[error(
        "libxenvchan takes paths of {max} bytes at most, and this one has {len}: choose a shorter port or folder"
    )]
    PathTooLong {
        /// The path's length in bytes.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A port's name has a character that it cannot have, or none at all.
    #[error("{}; a port's name has ASCII letters, digits, - and _", bad_port(.0))]
    PortName(Option<char>),
    /// A packet is larger than the ring, so that it would never be there as a whole.
    #[error(
        "a packet of {len} bytes does not fit the {side} ring, which holds {max}: make the ring larger"
    )]
    PacketTooLarge {
        /// The packet's size in bytes.
        len: usize,
        /// The ring it was to go through.
        side: Side,
        /// The ring's size in bytes.
        max: usize,
    },
}

fn bad_port(character: &Option<char>) -> String {
    match character {
        Some(character) => {
            format!(
                "the port's name has the character {}",
                Quoted(character.encode_utf8(&mut [0; 4]))
            )
        }
        None => "the port's name is empty".into(),
    }
}

impl<E: core::error::Error> embedded_io_async::Error for Error<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Error::Platform(_) | Error::Store(_) => ErrorKind::Other,
            Error::Peer(_) => ErrorKind::InvalidData,
            Error::Closed => ErrorKind::BrokenPipe,
            Error::Died(_) => ErrorKind::ConnectionReset,
            Error::Timeout => ErrorKind::TimedOut,
            Error::NoServer { .. } => ErrorKind::NotFound,
            Error::Stale { .. } | Error::Busy { .. } => ErrorKind::ConnectionRefused,
            Error::Config(_) => ErrorKind::InvalidInput,
        }
    }
}
