//! Operations on the guest's memory map.

use crate::{Error, raw::hypercall};
use xen_abi::memory::{ADD_TO_PHYSMAP, AddToPhysmap, E820Entry, MEMORY_MAP, MemoryMap};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};

/// Has Xen's own page `index` of `space` (`XENMAPSPACE_*`) appear as the guest frame `frame`.
///
/// # Safety
/// Whatever memory the frame held is gone afterwards: nothing may use it.
pub unsafe fn add_to_physmap(space: u32, index: u64, frame: u64) -> Result<(), Error> {
    let mut arg = AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx: index, gpfn: frame };
    // SAFETY: the structure is the operation's; the frame is free by the caller's promise.
    let result = unsafe { hypercall(HYPERVISOR_MEMORY_OP, ADD_TO_PHYSMAP.into(), &raw mut arg as u64, 0) };
    Error::check(result).map(drop)
}

/// Fills `entries` with the memory map; returns how many there are.
pub fn memory_map(entries: &mut [E820Entry]) -> Result<usize, Error> {
    let room = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut arg = MemoryMap { nr_entries: room, pad: 0, buffer: entries.as_mut_ptr() as u64 };
    // SAFETY: Xen writes at most `room` entries of 20 bytes to the buffer, and `nr_entries`.
    let result = unsafe { hypercall(HYPERVISOR_MEMORY_OP, MEMORY_MAP.into(), &raw mut arg as u64, 0) };
    Error::check(result).map(|_| (arg.nr_entries as usize).min(entries.len()))
}
