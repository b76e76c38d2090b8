//! Hypercalls of this program's own, through `/dev/xen/privcmd`. The structure is of Linux (`xen/privcmd.h`), the numbers
//! are of Xen.

use super::ioctl::{call, code};
use rustix::fd::AsFd;
use rustix::ioctl::Opcode;
use std::io;
use std::mem::{offset_of, size_of};
use xen_abi::sched;
use xen_abi::xen::HYPERVISOR_SCHED_OP;

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

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_that_of_the_header() {
        assert_eq!(super::PRIVCMD_HYPERCALL, 0x0030_5000);
    }
}
