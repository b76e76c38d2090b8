//! Hypercalls of this program's own, through `/dev/xen/privcmd`. The structure is of Linux (`xen/privcmd.h`), the numbers
//! are of Xen.

use super::Mapping;
use super::ioctl::{call, code};
use rustix::fd::AsFd;
use rustix::ioctl::Opcode;
use std::io;
use std::mem::{offset_of, size_of};
use xen_abi::event_channel::{self, Status};
use xen_abi::sched;
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_SCHED_OP};
use xen_platform::{Port, SharedMem};
use zerocopy::{FromZeros, IntoBytes};

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Hypercall {
    op: u64,
    arg: [u64; 5],
}
const _: () = assert!(size_of::<Hypercall>() == 48 && offset_of!(Hypercall, arg) == 8);

/// `IOCTL_PRIVCMD_HYPERCALL`, one of the few numbers that do not say in which direction they pass data.
const PRIVCMD_HYPERCALL: Opcode = code(b'P', 0, size_of::<Hypercall>());

/// Lets other domains have the physical processor, if any wants it.
pub(crate) fn yield_processor(privcmd: impl AsFd) {
    // Whether it worked makes no difference to the caller, who may not rely on it.
    let _: io::Result<u32> = call(
        privcmd,
        PRIVCMD_HYPERCALL,
        &mut [Hypercall { op: HYPERVISOR_SCHED_OP, arg: [sched::YIELD.into(), 0, 0, 0, 0] }],
    );
}

/// Whether `port` of this domain is bound to another domain's (`EVTCHNOP_status`, event_channel.h). `page` is one of
/// `/dev/xen/hypercall`, which are always in memory when Xen looks for them; others need not be.
pub(crate) fn is_interdomain(privcmd: impl AsFd, page: &Mapping, port: Port) -> io::Result<bool> {
    let mut status = Status { dom: DOMID_SELF, port: port.0, ..Status::new_zeroed() };
    page.area().write(0, status.as_bytes());
    let address = page.area().start().as_ptr() as u64;
    let arg = [event_channel::STATUS.into(), address, 0, 0, 0];
    call(privcmd, PRIVCMD_HYPERCALL, &mut [Hypercall { op: HYPERVISOR_EVENT_CHANNEL_OP, arg }])?;
    page.area().read(0, status.as_mut_bytes());
    Ok(status.status == event_channel::STATUS_INTERDOMAIN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_that_of_the_header() {
        assert_eq!(super::PRIVCMD_HYPERCALL, 0x0030_5000);
    }
}
