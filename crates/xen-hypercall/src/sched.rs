//! Yields, the end of a domain, and its suspend.

use crate::Error;
use crate::raw::hypercall;
use xen_abi::sched::{Reason, SHUTDOWN, SUSPEND, Shutdown, YIELD};
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

/// Suspends the domain, for the toolstack to save it. Returns once the domain goes on: `Ok(true)`
/// if it is restored in a new hypervisor state, `Ok(false)` if the suspend was cancelled and all is
/// as before.
///
/// After `Ok(true)` no event channel port, grant table entry, foreign mapping, callback or timer
/// from before exists, and the domain may have another number.
pub fn suspend() -> Result<bool, Error> {
    let arg = Shutdown { reason: SUSPEND };
    // SAFETY: the structure is the operation's, and the call changes no memory of this domain.
    let result =
        unsafe { hypercall(HYPERVISOR_SCHED_OP, SHUTDOWN.into(), &raw const arg as u64, 0) };
    // 0 in the new domain, 1 if it is the same one (xc_domain_resume, tools/libs/guest).
    Ok(Error::check(result)? == 0)
}
