//! The timers of vCPU 0.

use crate::{Error, raw::hypercall};
use xen_abi::vcpu::{
    SET_SINGLESHOT_TIMER, STOP_PERIODIC_TIMER, STOP_SINGLESHOT_TIMER, SetSingleshotTimer,
};
use xen_abi::xen::HYPERVISOR_VCPU_OP;

fn op(operation: u32, argument: u64) -> Result<(), Error> {
    // SAFETY: the timer operations read at most the structure they are given, and touch no other
    // guest memory.
    Error::check(unsafe { hypercall(HYPERVISOR_VCPU_OP, operation.into(), 0, argument) }).map(drop)
}

/// Stops the periodic timer that a domain starts with.
pub fn stop_periodic_timer() -> Result<(), Error> {
    op(STOP_PERIODIC_TIMER, 0)
}

/// Has `VIRQ_TIMER` come once, at `nanos` of the system time; at once if that is past. Replaces an
/// earlier wish.
pub fn set_singleshot_timer(nanos: u64) -> Result<(), Error> {
    let arg = SetSingleshotTimer { timeout_abs_ns: nanos, flags: 0, pad: 0 };
    op(SET_SINGLESHOT_TIMER, &raw const arg as u64)
}

/// Takes the wish back.
pub fn stop_singleshot_timer() -> Result<(), Error> {
    op(STOP_SINGLESHOT_TIMER, 0)
}
