//! The end of the domain.

use crate::raw::hypercall;
use xen_abi::sched::{Reason, SHUTDOWN, Shutdown};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

/// Ends the domain. The toolstack then does what its configuration says for `reason`.
pub fn shutdown(reason: Reason) -> ! {
    let arg = Shutdown { reason: reason as u32 };
    loop {
        // SAFETY: the structure is the operation's. The call does not return.
        unsafe { hypercall(HYPERVISOR_SCHED_OP, SHUTDOWN.into(), &raw const arg as u64, 0) };
    }
}
