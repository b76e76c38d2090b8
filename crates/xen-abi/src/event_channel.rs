//! Event channels: `event_channel.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `EVTCHNOP_bind_interdomain`.
pub const BIND_INTERDOMAIN: u32 = 0;
/// `EVTCHNOP_bind_virq`.
pub const BIND_VIRQ: u32 = 1;
/// `EVTCHNOP_close`.
pub const CLOSE: u32 = 3;
/// `EVTCHNOP_send`.
pub const SEND: u32 = 4;
/// `EVTCHNOP_status`.
pub const STATUS: u32 = 5;
/// `EVTCHNOP_alloc_unbound`.
pub const ALLOC_UNBOUND: u32 = 6;

/// `EVTCHNSTAT_interdomain`: the port is bound to one of another domain.
pub const STATUS_INTERDOMAIN: u32 = 2;
/// Status of a port that a virtual interrupt comes by (`EVTCHNSTAT_virq`).
pub const STATUS_VIRQ: u32 = 4;

/// The number of ports in the two-level layout of 64-bit guests (`EVTCHN_2L_NR_CHANNELS`).
pub const PORTS: u32 = 4096;

/// `struct evtchn_alloc_unbound`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AllocUnbound {
    /// In: whose port it is.
    pub dom: u16,
    /// In: the domain that may bind to it.
    pub remote_dom: u16,
    /// Out: the port.
    pub port: u32,
}
layout!(AllocUnbound, 8, dom @ 0, remote_dom @ 2, port @ 4);

/// `struct evtchn_bind_interdomain`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindInterdomain {
    /// In: the domain that opened the port.
    pub remote_dom: u16,
    /// Zero.
    pub pad: u16,
    /// In: its port.
    pub remote_port: u32,
    /// Out: the own port that is bound to it.
    pub local_port: u32,
}
layout!(BindInterdomain, 12, remote_dom @ 0, remote_port @ 4, local_port @ 8);

/// `struct evtchn_bind_virq`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindVirq {
    /// In: the virtual interrupt (`VIRQ_*`, xen.h).
    pub virq: u32,
    /// In: the virtual CPU.
    pub vcpu: u32,
    /// Out: the port.
    pub port: u32,
}
layout!(BindVirq, 12, virq @ 0, vcpu @ 4, port @ 8);

/// `struct evtchn_status`, its union as raw bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Status {
    /// In: whose port it is.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// In: the port.
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: the virtual CPU it notifies.
    pub vcpu: u32,
    /// Out: what it is bound to.
    pub bound_to: [u32; 2],
}
layout!(Status, 24, dom @ 0, port @ 4, status @ 8, vcpu @ 12, bound_to @ 16);
