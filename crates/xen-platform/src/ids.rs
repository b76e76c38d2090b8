//! Identifiers that Xen hands out, as types that cannot be mixed up.

use core::fmt;

/// Bytes in a page, and in everything a grant reference shares (`XC_PAGE_SIZE`).
pub const PAGE_SIZE: usize = 4096;

/// A domain's number (`domid_t`, xen.h). Numbers from `0x7ff0` up are Xen's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomId(pub u16);

impl DomId {
    /// The domain that makes the call (`DOMID_SELF`, xen.h).
    pub const SELF: DomId = DomId(0x7ff0);
    /// The first number that no ordinary domain has (`DOMID_FIRST_RESERVED`, xen.h).
    pub const FIRST_RESERVED: DomId = DomId(0x7ff0);
}

/// An event channel port of the own domain (`evtchn_port_t`, event_channel.h).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port(pub u32);

/// An index into a domain's grant table (`grant_ref_t`, grant_table.h).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GrantRef(pub u32);

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
