//! Errors of the simulated hypervisor.

use xen_platform::{DomId, GrantRef, Port};

/// An operation that was refused, with its domain and the reason.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("domain {by} cannot {operation}: {reason}")]
pub struct Error {
    /// The domain that asked.
    pub by: DomId,
    /// The operation, with its operands.
    pub operation: String,
    /// The reason.
    pub reason: Reason,
}

/// Reason for which an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The process, or its whole domain, is dead.
    #[error("it is dead")]
    Dead,
    /// The peer is not an ordinary domain, never existed or was destroyed.
    #[error("there is no domain {0}")]
    NoDomain(DomId),
    /// No pages were asked for.
    #[error("no pages were named")]
    NoPages,
    /// The grant table is full.
    #[error("its grant table is full")]
    TableFull,
    /// The peer has not granted this reference to anybody.
    #[error("grant {0} does not exist")]
    NoGrant(GrantRef),
    /// The peer granted this reference to another domain.
    #[error("grant {grant} is for domain {to}")]
    GrantedTo {
        /// The reference.
        grant: GrantRef,
        /// The domain it was granted to.
        to: DomId,
    },
    /// The peer took this grant back; the page only exists because somebody still maps it.
    #[error("grant {0} was revoked")]
    Revoked(GrantRef),
    /// The peer permits only reading.
    #[error("grant {0} is for reading only")]
    ReadOnly(GrantRef),
    /// The peer has no such port.
    #[error("port {0} does not exist")]
    NoPort(Port),
    /// The peer opened this port for another domain.
    #[error("port {port} is for domain {to}")]
    PortFor {
        /// The port, in the peer's numbering.
        port: Port,
        /// The domain it was opened for.
        to: DomId,
    },
    /// Somebody has bound to this port already.
    #[error("port {0} is bound already")]
    PortBusy(Port),
    /// The byte to clear on death lies outside the pages.
    #[error("byte {at} lies outside the {len} bytes")]
    Outside {
        /// The byte's offset.
        at: usize,
        /// The size of the pages.
        len: usize,
    },
    /// The domain has no memory for it. Only a test that asks for it sees this
    /// ([`crate::World::fail_nth_for`]).
    #[error("it has no memory left")]
    OutOfMemory,
    /// The grant, mapping or port is from before the domain was resumed.
    #[error("it was opened before the domain was resumed")]
    Resumed,
    /// The test asked for this failure ([`crate::World::fail_nth`]).
    #[error("the test wants this to fail")]
    Injected,
}

impl Reason {
    /// Returns the status of a copy that was refused for this reason: `GNTST_*` (grant_table.h).
    pub(crate) fn grant_status(self) -> i16 {
        match self {
            Reason::NoDomain(_) => -2,
            Reason::NoGrant(_)
            | Reason::GrantedTo { .. }
            | Reason::Revoked(_)
            | Reason::ReadOnly(_) => -3,
            _ => -1,
        }
    }
}
