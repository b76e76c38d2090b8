//! Operations on grant tables.

use crate::sched::yield_now;
use crate::{Error, raw::hypercall};
use xen_abi::grant_table::{
    self as abi, CopyEnd, GrantCopy, MapFlags, MapGrantRef, QuerySize, UnmapGrantRef,
};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_GRANT_TABLE_OP};
use xen_platform::{Access, CopyBuffer, CopySegment, DomId, GrantRef, PAGE_SIZE};

/// Number of tries while Xen says that the peer's page is not there yet (`GNTST_eagain`: it is
/// paged out or shared); the processor is yielded between them, for dom0 to bring it.
const EAGAIN_ATTEMPTS: usize = 1000;

/// Makes the call with one structure that Xen reads and fills in.
///
/// # Safety
/// The structure must be the operation's, and what it asks for must be allowed to happen to the
/// guest's memory.
unsafe fn op<T>(operation: u32, argument: &mut T) -> Result<(), Error> {
    // SAFETY: the structure lives until the call returns; the rest is the caller's promise.
    let result = unsafe {
        hypercall(HYPERVISOR_GRANT_TABLE_OP, operation.into(), argument as *mut T as u64, 1)
    };
    Error::check(result).map(drop)
}

fn status(status: i16) -> Result<(), Error> {
    if status == abi::OKAY { Ok(()) } else { Err(Error::Grant(status)) }
}

/// Returns the number of frames of the own table, and their limit.
pub fn query_size() -> Result<(u32, u32), Error> {
    let mut arg =
        QuerySize { dom: DOMID_SELF, pad: 0, nr_frames: 0, max_nr_frames: 0, status: 0, pad2: 0 };
    // SAFETY: only the structure is written.
    unsafe { op(abi::QUERY_SIZE, &mut arg)? };
    status(arg.status)?;
    Ok((arg.nr_frames, arg.max_nr_frames))
}

/// Maps a page that `granter` granted at the guest-physical `address`. Returns the mapping's
/// handle.
///
/// # Safety
/// `address` must be that of a guest frame which nothing uses and which holds no memory that is
/// still needed.
pub unsafe fn map(
    address: u64,
    granter: DomId,
    gref: GrantRef,
    access: Access,
) -> Result<u32, Error> {
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
    for _ in 0..EAGAIN_ATTEMPTS {
        // SAFETY: the frame is free, as the caller promises.
        unsafe { op(abi::MAP_GRANT_REF, &mut arg)? };
        if arg.status != abi::EAGAIN {
            break;
        }
        yield_now();
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

/// Copies between private memory and pages that `peer` granted; the outcome is noted in each piece.
///
/// # Safety
/// The pieces' bytes must lie at addresses that are guest-physical ones, too.
pub unsafe fn copy(peer: DomId, pieces: &mut [CopySegment<'_>]) -> Result<(), Error> {
    for piece in pieces {
        // SAFETY: as the caller promises.
        let status = unsafe { copy_segment(peer, piece)? };
        piece.set_status(status);
    }
    Ok(())
}

/// Copies up to the end of the frame in which the private bytes begin, and then the rest.
///
/// # Safety
/// As for [`copy`].
unsafe fn copy_segment(peer: DomId, piece: &mut CopySegment<'_>) -> Result<i16, Error> {
    let (gref, at, len) = (piece.gref(), piece.at(), piece.len());
    let (address, inward) = match piece.buffer() {
        CopyBuffer::FromPeer(to) => (to.as_mut_ptr() as usize, true),
        CopyBuffer::ToPeer(from) => (from.as_ptr() as usize, false),
    };
    let mut done = 0;
    while done < len {
        let (frame, offset) = ((address + done) / PAGE_SIZE, (address + done) % PAGE_SIZE);
        let part = (len - done).min(PAGE_SIZE - offset);
        let theirs =
            CopyEnd { page: gref.0.into(), domid: peer.0, offset: (at + done) as u16, pad: 0 };
        let ours = CopyEnd { page: frame as u64, domid: DOMID_SELF, offset: offset as u16, pad: 0 };
        let (source, dest, flags) = if inward {
            (theirs, ours, abi::COPY_SOURCE_GREF)
        } else {
            (ours, theirs, abi::COPY_DEST_GREF)
        };
        let mut arg =
            GrantCopy { source, dest, len: part as u16, flags, status: abi::EAGAIN, pad: 0 };
        for _ in 0..EAGAIN_ATTEMPTS {
            // SAFETY: Xen reads or writes `part` bytes of the slice that `piece` borrows, whose
            // address is also its guest-physical one, as the caller promises.
            unsafe { op(abi::COPY, &mut arg)? };
            if arg.status != abi::EAGAIN {
                break;
            }
            yield_now();
        }
        if arg.status != abi::OKAY {
            return Ok(arg.status);
        }
        done += part;
    }
    Ok(abi::OKAY)
}
