//! Virtual CPUs: `vcpu.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VCPUOP_stop_periodic_timer`.
pub const STOP_PERIODIC_TIMER: u32 = 7;
/// `VCPUOP_set_singleshot_timer`.
pub const SET_SINGLESHOT_TIMER: u32 = 8;
/// `VCPUOP_stop_singleshot_timer`.
pub const STOP_SINGLESHOT_TIMER: u32 = 9;

/// `struct vcpu_set_singleshot_timer`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetSingleshotTimer {
    /// Time of the `VIRQ_TIMER`, in nanoseconds of the system time. A moment in the past comes
    /// at once.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_*`; zero.
    pub flags: u32,
    /// Zero.
    pub pad: u32,
}
layout!(SetSingleshotTimer, 16, timeout_abs_ns @ 0, flags @ 8);
