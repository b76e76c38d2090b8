//! Operations on the parameters of an HVM or PVH domain.

use crate::{Error, raw::hypercall};
use xen_abi::hvm::{GET_PARAM, PARAM_CALLBACK_IRQ, Param, SET_PARAM, callback_vector};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_HVM_OP};

fn op(operation: u32, param: &mut Param) -> Result<(), Error> {
    // SAFETY: both operations read or write just this structure, which lives until the call
    // returns.
    let result =
        unsafe { hypercall(HYPERVISOR_HVM_OP, operation.into(), param as *mut Param as u64, 0) };
    Error::check(result).map(drop)
}

/// Reads the own domain's parameter `index`.
pub fn param(index: u32) -> Result<u64, Error> {
    let mut arg = Param { domid: DOMID_SELF, pad: 0, index, value: 0 };
    op(GET_PARAM, &mut arg)?;
    Ok(arg.value)
}

/// Has Xen announce events by the interrupt `vector`. No end of interrupt is due for it; it comes
/// again for as long as `evtchn_upcall_pending` is set and interrupts are on.
///
/// # Safety
/// The interrupt descriptor table must have a gate for the vector before interrupts are switched
/// on.
pub unsafe fn set_callback_vector(vector: u8) -> Result<(), Error> {
    let value = callback_vector(vector);
    op(SET_PARAM, &mut Param { domid: DOMID_SELF, pad: 0, index: PARAM_CALLBACK_IRQ, value })
}
