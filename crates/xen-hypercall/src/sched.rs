//! Giving the processor away: for a moment, or for good.

use crate::raw::hypercall;
use xen_abi::sched::{Reason, SHUTDOWN, Shutdown, YIELD};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

/// Lets other domains have the physical processor, if any wants it.
#[inline]
pub fn yield_now() {
    // SAFETY: the operation takes no argument and touches no memory. It cannot fail.
    unsafe { hypercall(HYPERVISOR_SCHED_OP, YIELD.into(), 0, 0) };
}

/// Ends the domain. The toolstack then does what its configuration says for `reason`.
pub fn shutdown(reason: Reason) -> ! {
    let arg = Shutdown { reason: reason as u32 };
    loop {
        // SAFETY: the structure is the operation's. The call does not return.
        unsafe { hypercall(HYPERVISOR_SCHED_OP, SHUTDOWN.into(), &raw const arg as u64, 0) };
    }
}
