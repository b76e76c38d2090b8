//! Parameters of HVM and PVH domains: `hvm/hvm_op.h`, `hvm/params.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `HVMOP_set_param`.
pub const SET_PARAM: u32 = 0;
/// `HVMOP_get_param`.
pub const GET_PARAM: u32 = 1;

/// `HVM_PARAM_CALLBACK_IRQ`: how events interrupt the guest.
pub const PARAM_CALLBACK_IRQ: u32 = 0;
/// `HVM_PARAM_STORE_PFN`: the frame of the xenstore ring.
pub const PARAM_STORE_PFN: u32 = 1;
/// `HVM_PARAM_STORE_EVTCHN`: its event channel.
pub const PARAM_STORE_EVTCHN: u32 = 2;
/// `HVM_PARAM_CONSOLE_PFN`: the frame of the console ring.
pub const PARAM_CONSOLE_PFN: u32 = 17;
/// `HVM_PARAM_CONSOLE_EVTCHN`: its event channel.
pub const PARAM_CONSOLE_EVTCHN: u32 = 18;

/// The value of [`PARAM_CALLBACK_IRQ`] that has events come as one interrupt vector, without an
/// APIC (`HVM_PARAM_CALLBACK_TYPE_VECTOR` in bits 56 to 63).
pub const fn callback_vector(vector: u8) -> u64 {
    (2 << 56) | vector as u64
}

/// `struct xen_hvm_param`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Param {
    /// In: whose parameter.
    pub domid: u16,
    /// Zero.
    pub pad: u16,
    /// In: `HVM_PARAM_*`.
    pub index: u32,
    /// In or out: its value.
    pub value: u64,
}
layout!(Param, 16, domid @ 0, index @ 4, value @ 8);
