//! Why the platform said no.

use super::{DomId, GrantRef, Port};
use core::fmt;

/// An operation that failed, with its operands.
#[derive(Clone, Copy, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the operation's operands, and the text says the rest"
)]
#[non_exhaustive]
pub enum Error {
    /// No `pages` free frames in a row.
    Frames { pages: usize },
    /// No address space for `pages` pages of a peer.
    Window { pages: usize },
    /// The grant table is full and may not grow.
    Grants { wanted: usize, limit: u32 },
    /// The table of live bytes is full.
    DeathTable { limit: usize },
    /// Xen refused to map a peer's page.
    Map { peer: DomId, gref: GrantRef, why: xen_hypercall::Error },
    /// Xen refused to copy from or to a peer's pages at all.
    Copy { peer: DomId, why: xen_hypercall::Error },
    /// Xen refused to open a port.
    Listen { peer: DomId, why: xen_hypercall::Error },
    /// Xen refused to bind to a peer's port.
    Connect { peer: DomId, port: Port, why: xen_hypercall::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Frames { pages } => {
                write!(
                    f,
                    "no {pages} free page frames in a row: give the domain more memory \
                     or use smaller rings"
                )
            }
            Error::Window { pages } => {
                write!(f, "no address space for {pages} pages of other domains")
            }
            Error::Grants { wanted, limit } => {
                write!(
                    f,
                    "no {wanted} free grant references of {limit}: \
                     raise max_grant_frames of the domain"
                )
            }
            Error::DeathTable { limit } => write!(f, "more than {limit} channels are open"),
            Error::Map { peer, gref, why } => {
                write!(f, "grant {gref} of domain {peer} cannot be mapped: {why}")
            }
            Error::Copy { peer, why } => {
                write!(f, "nothing can be copied from or to pages of domain {peer}: {why}")
            }
            Error::Listen { peer, why } => write!(f, "no event channel for domain {peer}: {why}"),
            Error::Connect { peer, port, why } => {
                write!(f, "event channel {port} of domain {peer} cannot be bound to: {why}")
            }
        }
    }
}

impl core::error::Error for Error {}
