//! Operations on grant tables.

use crate::{Error, raw::hypercall};
use xen_abi::grant_table::{self as abi, MapFlags, MapGrantRef, QuerySize, UnmapGrantRef};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_GRANT_TABLE_OP};
use xen_platform::{Access, DomId, GrantRef};

/// Makes the call with one structure that Xen reads and fills in.
///
/// # Safety
/// The structure must be the operation's, and what it asks for must be allowed to happen to the guest's memory.
unsafe fn op<T>(operation: u32, argument: &mut T) -> Result<(), Error> {
    // SAFETY: the structure lives until the call returns; the rest is the caller's promise.
    let result = unsafe { hypercall(HYPERVISOR_GRANT_TABLE_OP, operation.into(), argument as *mut T as u64, 1) };
    Error::check(result).map(drop)
}

fn status(status: i16) -> Result<(), Error> {
    if status == abi::OKAY { Ok(()) } else { Err(Error::Grant(status)) }
}

/// How many frames the own table has now, and how many it may have.
pub fn query_size() -> Result<(u32, u32), Error> {
    let mut arg = QuerySize { dom: DOMID_SELF, pad: 0, nr_frames: 0, max_nr_frames: 0, status: 0, pad2: 0 };
    // SAFETY: only the structure is written.
    unsafe { op(abi::QUERY_SIZE, &mut arg)? };
    status(arg.status)?;
    Ok((arg.nr_frames, arg.max_nr_frames))
}

/// Maps a page that `granter` granted at the guest-physical `address`. Returns the mapping's handle.
///
/// # Safety
/// `address` must be that of a guest frame which nothing uses and which holds no memory that is still needed.
pub unsafe fn map(address: u64, granter: DomId, gref: GrantRef, access: Access) -> Result<u32, Error> {
    let flags = match access {
        Access::ReadWrite => MapFlags::HOST_MAP,
        Access::ReadOnly => MapFlags::HOST_MAP | MapFlags::READONLY,
    };
    let mut arg = MapGrantRef {
        host_addr: address,
        flags: flags.bits(),
        gref: gref.0,
        dom: granter.0,
        status: 0,
        handle: 0,
        dev_bus_addr: 0,
    };
    loop {
        // SAFETY: the frame is free, as the caller promises.
        unsafe { op(abi::MAP_GRANT_REF, &mut arg)? };
        if arg.status != abi::EAGAIN {
            break;
        }
    }
    status(arg.status).map(|()| arg.handle)
}

/// Unmaps what [`map`] mapped at `address` under `handle`.
///
/// # Safety
/// Nothing may use the address any more.
pub unsafe fn unmap(address: u64, handle: u32) -> Result<(), Error> {
    let mut arg = UnmapGrantRef { host_addr: address, dev_bus_addr: 0, handle, status: 0, pad: 0 };
    // SAFETY: nobody uses the mapping, as the caller promises.
    unsafe { op(abi::UNMAP_GRANT_REF, &mut arg)? };
    status(arg.status)
}
