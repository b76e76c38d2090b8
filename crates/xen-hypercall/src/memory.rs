//! Operations on the guest's memory map.

use crate::{Error, raw::hypercall};
use xen_abi::memory::{
    ADD_TO_PHYSMAP, AddToPhysmap, CURRENT_RESERVATION, DECREASE_RESERVATION, E820Entry, MEMORY_MAP,
    MemoryMap, POPULATE_PHYSMAP, Reservation,
};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};

/// Has Xen's own page `index` of `space` (`XENMAPSPACE_*`) appear as the guest frame `frame`.
///
/// # Safety
/// Whatever memory the frame held is gone afterwards: nothing may use it.
pub unsafe fn add_to_physmap(space: u32, index: u64, frame: u64) -> Result<(), Error> {
    let mut arg = AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx: index, gpfn: frame };
    // SAFETY: the structure is the operation's; the frame is free by the caller's promise.
    let result =
        unsafe { hypercall(HYPERVISOR_MEMORY_OP, ADD_TO_PHYSMAP.into(), &raw mut arg as u64, 0) };
    Error::check(result).map(drop)
}

/// Fills `entries` with the memory map; returns how many there are.
pub fn memory_map(entries: &mut [E820Entry]) -> Result<usize, Error> {
    let room = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let mut arg = MemoryMap { nr_entries: room, pad: 0, buffer: entries.as_mut_ptr() as u64 };
    // SAFETY: Xen writes at most `room` entries of 20 bytes to the buffer, and `nr_entries`.
    let result =
        unsafe { hypercall(HYPERVISOR_MEMORY_OP, MEMORY_MAP.into(), &raw mut arg as u64, 0) };
    Error::check(result).map(|_| (arg.nr_entries as usize).min(entries.len()))
}

/// Returns the number of pages that Xen has given the own domain.
pub fn current_reservation() -> Result<u64, Error> {
    let mut domid = DOMID_SELF;
    let arg = &raw mut domid as u64;
    // SAFETY: the argument is a domain's number, which Xen reads.
    Error::check(unsafe { hypercall(HYPERVISOR_MEMORY_OP, CURRENT_RESERVATION.into(), arg, 0) })
}

fn change_reservation(operation: u32, frames: &[u64]) -> Result<usize, Error> {
    let mut arg = Reservation {
        extent_start: frames.as_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        pad: [0; 3],
    };
    // SAFETY: the structure is the operation's, and the array lives until the call returns.
    let done = unsafe { hypercall(HYPERVISOR_MEMORY_OP, operation.into(), &raw mut arg as u64, 0) };
    Error::check(done).map(|count| count as usize)
}

/// Gives the memory at `frames` back to Xen. Returns the number of frames, from the first on, that
/// it took.
///
/// # Safety
/// Nothing may use the frames any more.
pub unsafe fn decrease_reservation(frames: &[u64]) -> Result<usize, Error> {
    change_reservation(DECREASE_RESERVATION, frames)
}

/// Has Xen put memory at `frames`. Returns the number of frames, from the first on, that got some:
/// the domain's limit or the host's memory may end before.
pub fn populate_physmap(frames: &[u64]) -> Result<usize, Error> {
    change_reservation(POPULATE_PHYSMAP, frames)
}
