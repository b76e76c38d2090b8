//! Hypercall numbers and the page a domain shares with Xen: `xen.h`, `arch-x86/xen.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `__HYPERVISOR_memory_op`.
pub const HYPERVISOR_MEMORY_OP: u64 = 12;
/// `__HYPERVISOR_xen_version`.
pub const HYPERVISOR_XEN_VERSION: u64 = 17;
/// `__HYPERVISOR_grant_table_op`.
pub const HYPERVISOR_GRANT_TABLE_OP: u64 = 20;
/// `__HYPERVISOR_vcpu_op`.
pub const HYPERVISOR_VCPU_OP: u64 = 24;
/// `__HYPERVISOR_sched_op`.
pub const HYPERVISOR_SCHED_OP: u64 = 29;
/// `__HYPERVISOR_event_channel_op`.
pub const HYPERVISOR_EVENT_CHANNEL_OP: u64 = 32;
/// `__HYPERVISOR_hvm_op`.
pub const HYPERVISOR_HVM_OP: u64 = 34;

/// `DOMID_SELF`.
pub const DOMID_SELF: u16 = 0x7ff0;
/// `VIRQ_TIMER`.
pub const VIRQ_TIMER: u32 = 0;

/// Offsets in `struct shared_info`, which begins with `vcpu_info[0]`.
pub mod shared_info {
    /// `vcpu_info[0].evtchn_upcall_pending`, a byte.
    pub const UPCALL_PENDING: usize = 0;
    /// `vcpu_info[0].evtchn_pending_sel`, 64 bits.
    pub const PENDING_SEL: usize = 8;
    /// `vcpu_info[0].time`, a [`super::VcpuTimeInfo`].
    pub const TIME: usize = 32;
    /// `evtchn_pending`, 64 words of 64 bits.
    pub const EVTCHN_PENDING: usize = 2048;
    /// `evtchn_mask`, 64 words of 64 bits.
    pub const EVTCHN_MASK: usize = 2560;
    /// `wc_version` and behind it `wc_sec`, `wc_nsec`, `wc_sec_hi`: a [`super::WallClock`].
    pub const WALL_CLOCK: usize = 3072;
}

/// `struct vcpu_time_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuTimeInfo {
    /// Odd while Xen changes the rest, and changed by every change.
    pub version: u32,
    /// Unused.
    pub pad0: u32,
    /// The time stamp counter at the last update.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at the last update.
    pub system_time: u64,
    /// Nanoseconds per (shifted) tick, times 2^32.
    pub tsc_to_system_mul: u32,
    /// By how much to shift ticks to the left; to the right if negative.
    pub tsc_shift: i8,
    /// Unused here.
    pub flags: u8,
    /// Unused.
    pub pad1: [u8; 2],
}
layout!(VcpuTimeInfo, 32, version @ 0, tsc_timestamp @ 8, system_time @ 16, tsc_to_system_mul @ 24,
    tsc_shift @ 28,
    flags @ 29);

impl VcpuTimeInfo {
    /// The system time in nanoseconds when the time stamp counter stands at `tsc`, by the formula
    /// in `xen.h`.
    pub fn system_time_at(&self, tsc: u64) -> u64 {
        // The guest's counter starts near zero, so a timestamp from before its start has wrapped:
        // the difference is a signed number. A counter slightly behind the timestamp adds nothing.
        let ticks = u64::try_from(tsc.wrapping_sub(self.tsc_timestamp) as i64).unwrap_or(0);
        let ticks = match self.tsc_shift {
            left @ 0..64 => ticks << left,
            right @ -63..0 => ticks >> -right,
            _ => 0,
        };
        let nanos = (u128::from(ticks) * u128::from(self.tsc_to_system_mul)) >> 32;
        self.system_time.wrapping_add(nanos as u64)
    }
}

/// The wall clock's part of `struct shared_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WallClock {
    /// Odd while Xen changes the rest, and changed by every change.
    pub version: u32,
    /// Seconds from 1970 to the zero of the system time, the low 32 bits.
    pub sec: u32,
    /// Nanoseconds on top.
    pub nsec: u32,
    /// The high 32 bits of the seconds.
    pub sec_hi: u32,
}
layout!(WallClock, 16, version @ 0, sec @ 4, nsec @ 8, sec_hi @ 12);

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(mul: u32, shift: i8) -> VcpuTimeInfo {
        VcpuTimeInfo {
            version: 2,
            pad0: 0,
            tsc_timestamp: 1000,
            system_time: 500,
            tsc_to_system_mul: mul,
            tsc_shift: shift,
            flags: 0,
            pad1: [0; 2],
        }
    }

    #[test]
    fn system_time_scales_ticks() {
        assert_eq!(clock(1 << 31, 0).system_time_at(1000), 500);
        assert_eq!(clock(1 << 31, 0).system_time_at(1100), 550);
        assert_eq!(clock(1 << 31, 1).system_time_at(1100), 600);
        assert_eq!(clock(1 << 31, -1).system_time_at(1100), 525);
        assert_eq!(
            clock(u32::MAX, 0).system_time_at(999),
            500,
            "a counter that ran behind adds nothing"
        );
        let before_start =
            VcpuTimeInfo { tsc_timestamp: 100u64.wrapping_neg(), ..clock(1 << 31, 0) };
        assert_eq!(
            before_start.system_time_at(20),
            560,
            "a timestamp from before the counter's zero counts"
        );
    }
}
