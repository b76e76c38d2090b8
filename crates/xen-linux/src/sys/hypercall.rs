//! Hypercalls of this program's own, through `/dev/xen/privcmd`. The structure is of Linux
//! (`xen/privcmd.h`), the numbers are of Xen.

use super::Mapping;
use super::ioctl::{call, code};
use crate::reactor::os_error;
use core::ffi::c_void;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};
use std::ptr;
use xen_abi::event_channel::{self, Status};
use xen_abi::sched;
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_SCHED_OP};
use xen_platform::{PAGE_SIZE, Port, SharedMem};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// `struct privcmd_hypercall`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Hypercall {
    op: u64,
    arg: [u64; 5],
}
const _: () = assert!(size_of::<Hypercall>() == 48 && offset_of!(Hypercall, arg) == 8);

/// `IOCTL_PRIVCMD_HYPERCALL`, one of the few numbers that do not say in which direction they pass
/// data.
const PRIVCMD_HYPERCALL: Opcode = code(b'P', 0, size_of::<Hypercall>());

/// Lets other domains have the physical processor, if any wants it.
pub(crate) fn yield_processor(privcmd: impl AsFd) {
    // The outcome makes no difference to the caller, which may not rely on it.
    let _: io::Result<u32> = call(privcmd, PRIVCMD_HYPERCALL, &mut [YIELD]);
}

const YIELD: Hypercall =
    Hypercall { op: HYPERVISOR_SCHED_OP, arg: [sched::YIELD as u64, 0, 0, 0, 0] };

/// The lowest address that Linux lets programs use unless it is told otherwise (vm.mmap_min_addr).
/// Nothing that begins above it can lie over it.
const LOWEST: usize = 0x1_0000;

/// A yield's arguments in memory that this program cannot write: where a filter of system
/// calls permits the request with this address alone, there is no way to another hypercall.
pub(crate) struct FixedYield(());

impl FixedYield {
    /// Puts it there, for as long as the program runs. It can be there once.
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create("yield", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(os_error)?;
        let mut page = [0; PAGE_SIZE];
        page[..size_of::<Hypercall>()].copy_from_slice(YIELD.as_bytes());
        rustix::io::write(&file, &page).map_err(os_error)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(os_error)?;
        // What is opened for reading alone cannot be made writable later.
        let file = super::owned(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?);
        let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
        let wanted = ptr::without_provenance_mut(LOWEST);
        // SAFETY: with FIXED_NOREPLACE nothing is mapped where anything is already.
        let found = unsafe { mmap(wanted, PAGE_SIZE, ProtFlags::READ, flags, &file, 0) }
            .map_err(os_error)?;
        // Before Linux 4.17 the address is a wish; then it stays where it is, unused.
        if found.addr() == LOWEST {
            Ok(FixedYield(()))
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// The request and its argument.
    pub(crate) fn request(&self) -> (u32, usize) {
        (PRIVCMD_HYPERCALL, LOWEST)
    }

    /// As [`yield_processor`].
    pub(crate) fn yield_processor(&self, privcmd: impl AsFd) {
        // SAFETY: the structure that the request takes is at that address, and is only read.
        let _ = unsafe { ioctl(privcmd, AtLowest) };
    }
}

struct AtLowest;

// SAFETY: there is nothing that the kernel could write.
unsafe impl Ioctl for AtLowest {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        PRIVCMD_HYPERCALL
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::without_provenance_mut(LOWEST)
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

/// Returns whether `port` of this domain is bound to another domain's (`EVTCHNOP_status`,
/// event_channel.h). `page` is one of `/dev/xen/hypercall`, which are always in memory when Xen
/// looks for them; others need not be.
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
    use super::*;

    /// Nobody else in this program's tests takes the address.
    #[test]
    fn what_is_yielded_by_cannot_be_changed() {
        let fixed = FixedYield::new().unwrap();
        let (request, at) = fixed.request();
        assert_eq!((request, at), (0x0030_5000, 0x1_0000));
        let page: *mut c_void = ptr::without_provenance_mut(at);
        // SAFETY: the page is there, and stays as readable as it is.
        let writable =
            unsafe { rustix::mm::mprotect(page, PAGE_SIZE, rustix::mm::MprotectFlags::WRITE) };
        assert_eq!(writable, Err(rustix::io::Errno::ACCESS));
        // SAFETY: 48 bytes of a page that is mapped and never changes.
        let found =
            unsafe { std::slice::from_raw_parts(page.cast::<u8>(), size_of::<Hypercall>()) };
        assert_eq!(found, YIELD.as_bytes());
        assert!(FixedYield::new().is_err(), "it is there already");
    }

    #[test]
    fn the_number_is_that_of_the_header() {
        assert_eq!(super::PRIVCMD_HYPERCALL, 0x0030_5000);
    }
}
