//! Operations on event channels.

use crate::{Error, raw::hypercall};
use xen_abi::event_channel::{self as abi, AllocUnbound, BindInterdomain, BindVirq, Status};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP};
use xen_platform::{DomId, Port};

/// Makes the call with a structure that Xen reads and fills in.
fn op<T>(operation: u32, argument: &mut T) -> Result<u64, Error> {
    // SAFETY: every caller in this file pairs the operation with the structure it takes, which
    // lives until the call returns; event channel operations touch no other memory of the guest
    // than the shared info page.
    Error::check(unsafe {
        hypercall(HYPERVISOR_EVENT_CHANNEL_OP, operation.into(), argument as *mut T as u64, 0)
    })
}

/// Opens a port that `remote` may bind to.
pub fn alloc_unbound(remote: DomId) -> Result<Port, Error> {
    let mut arg = AllocUnbound { dom: DOMID_SELF, remote_dom: remote.0, port: 0 };
    op(abi::ALLOC_UNBOUND, &mut arg)?;
    Ok(Port(arg.port))
}

/// Binds a new port to `port` of `remote`.
pub fn bind_interdomain(remote: DomId, port: Port) -> Result<Port, Error> {
    let mut arg =
        BindInterdomain { remote_dom: remote.0, pad: 0, remote_port: port.0, local_port: 0 };
    op(abi::BIND_INTERDOMAIN, &mut arg)?;
    Ok(Port(arg.local_port))
}

/// Binds a new port to a virtual interrupt of vCPU 0.
pub fn bind_virq(virq: u32) -> Result<Port, Error> {
    let mut arg = BindVirq { virq, vcpu: 0, port: 0 };
    op(abi::BIND_VIRQ, &mut arg)?;
    Ok(Port(arg.port))
}

/// Closes a port.
pub fn close(port: Port) -> Result<(), Error> {
    op(abi::CLOSE, &mut { port.0 }).map(drop)
}

/// Sends an event to the other end of `port`.
#[inline]
pub fn send(port: Port) -> Result<(), Error> {
    op(abi::SEND, &mut { port.0 }).map(drop)
}

/// Returns whether `port` is bound to another domain's port. Xen undoes the binding when that
/// domain closes it or dies.
pub fn is_interdomain(port: Port) -> Result<bool, Error> {
    Ok(status(port)? == abi::STATUS_INTERDOMAIN)
}

/// Returns whether a virtual interrupt comes by `port`.
pub fn is_virq(port: Port) -> Result<bool, Error> {
    Ok(status(port)? == abi::STATUS_VIRQ)
}

fn status(port: Port) -> Result<u32, Error> {
    let mut arg =
        Status { dom: DOMID_SELF, pad: 0, port: port.0, status: 0, vcpu: 0, bound_to: [0; 2] };
    op(abi::STATUS, &mut arg)?;
    Ok(arg.status)
}
