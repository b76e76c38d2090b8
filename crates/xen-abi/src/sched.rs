//! Scheduling and the end of a domain: `sched.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SCHEDOP_yield`, which takes no argument.
pub const YIELD: u32 = 0;
/// `SCHEDOP_shutdown`.
pub const SHUTDOWN: u32 = 2;

/// `SHUTDOWN_suspend`: the reason of a domain that is saved, and goes on from there.
pub const SUSPEND: u32 = 2;

/// The reason for which a domain ends: `SHUTDOWN_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Reason {
    /// `SHUTDOWN_poweroff`: the guest is done; the toolstack cleans up (`on_poweroff`).
    Poweroff = 0,
    /// `SHUTDOWN_reboot`: it shall be started again (`on_reboot`).
    Reboot = 1,
    /// `SHUTDOWN_crash`: it failed (`on_crash`).
    Crash = 3,
}

/// `struct sched_shutdown`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Shutdown {
    /// [`Reason`] or [`SUSPEND`].
    pub reason: u32,
}
layout!(Shutdown, 4, reason @ 0);
