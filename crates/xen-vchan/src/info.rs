//! Parts and state of a vchan.

use crate::{Orders, Side};
use alloc::vec::Vec;
use xen_platform::{DomId, GrantRef, Port};

/// Which end of a vchan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The end that shares its pages and publishes them.
    Server,
    /// The end that finds and maps them.
    Client,
}

impl Role {
    /// The name that io/libxenvchan.h gives the live byte of this end.
    pub(crate) fn live_field(self) -> &'static str {
        match self {
            Role::Server => "srv_live",
            Role::Client => "cli_live",
        }
    }

    /// The ring that this end writes into.
    pub(crate) fn writes(self) -> Side {
        match self {
            Role::Server => Side::Right,
            Role::Client => Side::Left,
        }
    }

    pub(crate) fn other(self) -> Role {
        match self {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        }
    }
}

/// Parts of a vchan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The domain at the other end.
    pub peer: DomId,
    /// This end.
    pub role: Role,
    /// The shared page, by the server's grant reference: the key `ring-ref`.
    pub control_ref: GrantRef,
    /// The pages of the left ring; none if it lies in the shared page.
    pub left_refs: Vec<GrantRef>,
    /// The pages of the right ring, likewise.
    pub right_refs: Vec<GrantRef>,
    /// The server's event channel port: the key `event-channel`.
    pub port: Port,
    /// This end's port; for the server the same.
    pub local_port: Port,
    /// The rings' sizes.
    pub orders: Orders,
}

/// State of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Live {
    /// Both ends are there.
    Connected,
    /// The peer closed the connection.
    Left,
    /// The peer died without closing it.
    Died,
    /// The peer broke the protocol.
    Broken,
    /// This end closed it.
    Closed,
}
