//! The ioctls of `/dev/xen/{evtchn,gntdev,gntalloc}`: xen/sys/{evtchn,gntdev,gntalloc}.h.

use crate::reactor::os_error;
use core::ffi::c_void;
use core::mem::{offset_of, size_of};
use rustix::fd::AsFd;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use std::io;
use xen_platform::{Access, DomId, GrantRef, Port};
use zerocopy::{Immutable, IntoBytes};

/// `_IOC(_IOC_NONE, kind, number, bytes)` (asm-generic/ioctl.h). These devices leave the direction
/// out although they pass data.
pub(super) const fn code(kind: u8, number: u8, bytes: usize) -> Opcode {
    (bytes as Opcode) << 16 | (kind as Opcode) << 8 | number as Opcode
}

/// `struct ioctl_evtchn_bind_interdomain` (evtchn.h).
#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}
const _: () =
    assert!(size_of::<BindInterdomain>() == 8 && offset_of!(BindInterdomain, remote_port) == 4);

/// `struct ioctl_gntdev_map_grant_ref` (gntdev.h) up to its references, of which there are `count`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct MapGrantRef {
    count: u32,
    pad: u32,
    index: u64,
}
const _: () = assert!(size_of::<MapGrantRef>() == 16 && offset_of!(MapGrantRef, index) == 8);

/// `struct ioctl_gntdev_grant_ref` (gntdev.h).
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct ForeignRef {
    domid: u32,
    reference: u32,
}
const _: () = assert!(size_of::<ForeignRef>() == 8 && offset_of!(ForeignRef, reference) == 4);

/// `struct ioctl_gntalloc_alloc_gref` (gntalloc.h) up to the references that come back, of which
/// there are `count`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct AllocGref {
    domid: u16,
    flags: u16,
    count: u32,
    index: u64,
}
const _: () = assert!(size_of::<AllocGref>() == 16);
const _: () = assert!(offset_of!(AllocGref, flags) == 2 && offset_of!(AllocGref, count) == 4);
const _: () = assert!(offset_of!(AllocGref, index) == 8);

/// `struct ioctl_gntdev_unmap_grant_ref` (gntdev.h) and `struct ioctl_gntalloc_dealloc_gref`
/// (gntalloc.h).
#[repr(C)]
struct Release {
    index: u64,
    count: u32,
    pad: u32,
}
const _: () = assert!(size_of::<Release>() == 16 && offset_of!(Release, count) == 8);

/// `struct ioctl_gntdev_unmap_notify` (gntdev.h) and `struct ioctl_gntalloc_unmap_notify`
/// (gntalloc.h).
#[repr(C)]
struct UnmapNotify {
    index: u64,
    action: u32,
    event_channel_port: u32,
}
const _: () = assert!(size_of::<UnmapNotify>() == 16);
const _: () = assert!(
    offset_of!(UnmapNotify, action) == 8 && offset_of!(UnmapNotify, event_channel_port) == 12
);

// The numbers of the two structures with references count one reference, whatever number of them
// follows; gntalloc's is padded to its alignment.
const EVTCHN_BIND_INTERDOMAIN: Opcode = code(b'E', 1, size_of::<BindInterdomain>());
const EVTCHN_BIND_UNBOUND_PORT: Opcode = code(b'E', 2, size_of::<u32>());
const EVTCHN_NOTIFY: Opcode = code(b'E', 4, size_of::<u32>());
/// Of a `struct ioctl_evtchn_restrict_domid`, a domain's number.
const EVTCHN_RESTRICT_DOMID: Opcode = code(b'E', 6, size_of::<u16>());
const GNTDEV_MAP_GRANT_REF: Opcode =
    code(b'G', 0, size_of::<MapGrantRef>() + size_of::<ForeignRef>());
const GNTDEV_UNMAP_GRANT_REF: Opcode = code(b'G', 1, size_of::<Release>());
const GNTALLOC_ALLOC_GREF: Opcode = code(b'G', 5, ALLOC_GREF_BYTES);
const GNTALLOC_DEALLOC_GREF: Opcode = code(b'G', 6, size_of::<Release>());
const SET_UNMAP_NOTIFY: Opcode = code(b'G', 7, size_of::<UnmapNotify>());

/// `sizeof(struct ioctl_gntalloc_alloc_gref)`: the driver copies that much both ways, even for a
/// single page.
const ALLOC_GREF_BYTES: usize = 24;
/// `GNTALLOC_FLAG_WRITABLE` (gntalloc.h).
const GNTALLOC_FLAG_WRITABLE: u16 = 1;
/// `UNMAP_NOTIFY_CLEAR_BYTE | UNMAP_NOTIFY_SEND_EVENT` (gntdev.h).
const CLEAR_BYTE_AND_SEND_EVENT: u32 = 1 | 2;

/// Opens a port that only `peer` may bind to.
pub(crate) fn bind_unbound(evtchn: impl AsFd, peer: DomId) -> io::Result<Port> {
    call(evtchn, EVTCHN_BIND_UNBOUND_PORT, &mut [u32::from(peer.0)]).map(Port)
}

/// Binds to a port of `peer`; the answer is the own port.
pub(crate) fn bind_interdomain(evtchn: impl AsFd, peer: DomId, port: Port) -> io::Result<Port> {
    let arg = BindInterdomain { remote_domain: peer.0.into(), remote_port: port.0 };
    call(evtchn, EVTCHN_BIND_INTERDOMAIN, &mut [arg]).map(Port)
}

/// Keeps the descriptor from being bound to any domain but `peer`, for good. Not possible with
/// domain 0.
pub(crate) fn restrict(evtchn: impl AsFd, peer: DomId) -> io::Result<()> {
    call(evtchn, EVTCHN_RESTRICT_DOMID, &mut [peer.0]).map(drop)
}

/// Sends an event through the own port `port`.
pub(crate) fn notify(evtchn: impl AsFd, port: Port) -> io::Result<()> {
    call(evtchn, EVTCHN_NOTIFY, &mut [port.0]).map(drop)
}

/// Enters grants of `peer` into the device's table; the answer is the offset at which mmap maps
/// them.
pub(crate) fn insert_grants(gntdev: impl AsFd, peer: DomId, refs: &[GrantRef]) -> io::Result<u64> {
    // In words of eight bytes, for the alignment: the head is two of them and each reference one.
    let mut arg = vec![0u64; 2 + refs.len()];
    let (head, list) = arg.as_mut_bytes().split_at_mut(size_of::<MapGrantRef>());
    head.copy_from_slice(MapGrantRef { count: count(refs.len()), pad: 0, index: 0 }.as_bytes());
    for (slot, reference) in list.chunks_exact_mut(size_of::<ForeignRef>()).zip(refs) {
        slot.copy_from_slice(
            ForeignRef { domid: peer.0.into(), reference: reference.0 }.as_bytes(),
        );
    }
    call(gntdev, GNTDEV_MAP_GRANT_REF, &mut arg)?;
    Ok(arg[1])
}

/// Takes `pages` grants out of the device's table again. They must not be mapped any more.
pub(crate) fn remove_grants(gntdev: impl AsFd, index: u64, pages: usize) -> io::Result<()> {
    call(gntdev, GNTDEV_UNMAP_GRANT_REF, &mut [Release { index, count: count(pages), pad: 0 }])
        .map(drop)
}

/// Makes `pages` zeroed pages which `peer` may map, to write only if `access` says so: the offset
/// at which mmap maps them here, and their grants.
pub(crate) fn alloc_grants(
    gntalloc: impl AsFd,
    peer: DomId,
    pages: usize,
    access: Access,
) -> io::Result<(u64, Vec<GrantRef>)> {
    let flags = match access {
        Access::ReadWrite => GNTALLOC_FLAG_WRITABLE,
        Access::ReadOnly => 0,
    };
    let mut arg =
        vec![0u64; (size_of::<AllocGref>() + 4 * pages).max(ALLOC_GREF_BYTES).div_ceil(8)];
    let head = AllocGref { domid: peer.0, flags, count: count(pages), index: 0 };
    arg.as_mut_bytes()[..size_of::<AllocGref>()].copy_from_slice(head.as_bytes());
    call(gntalloc, GNTALLOC_ALLOC_GREF, &mut arg)?;
    let refs = arg.as_bytes()[size_of::<AllocGref>()..].chunks_exact(4).take(pages);
    let refs = refs.map(|raw| GrantRef(u32::from_ne_bytes([raw[0], raw[1], raw[2], raw[3]])));
    Ok((arg[1], refs.collect()))
}

/// Gives pages of [`alloc_grants`] back. The driver frees them once the peer does not map them any
/// more.
pub(crate) fn free_grants(gntalloc: impl AsFd, index: u64, pages: usize) -> io::Result<()> {
    call(gntalloc, GNTALLOC_DEALLOC_GREF, &mut [Release { index, count: count(pages), pad: 0 }])
        .map(drop)
}

/// Clears the byte at `index` (offset of the mapping plus place in it) and sends an event through
/// `port` when the page is unmapped for whatever reason. The same call for gntdev and gntalloc; a
/// page has one such notice.
pub(crate) fn set_unmap_notify(device: impl AsFd, index: u64, port: Port) -> io::Result<()> {
    let arg = UnmapNotify { index, action: CLEAR_BYTE_AND_SEND_EVENT, event_channel_port: port.0 };
    call(device, SET_UNMAP_NOTIFY, &mut [arg]).map(drop)
}

fn count(pages: usize) -> u32 {
    u32::try_from(pages).expect("more pages than a grant table can have")
}

/// One request with its argument, long enough for `opcode` by the caller's care.
struct Request<'a, T> {
    opcode: Opcode,
    arg: &'a mut [T],
}

// SAFETY: the pointer is valid for reads and writes of the whole argument; the drivers copy from it
// and to it.
unsafe impl<T> Ioctl for Request<'_, T> {
    type Output = u32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.arg.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        // rustix has turned negative answers into errors.
        Ok(output.cast_unsigned())
    }
}

pub(super) fn call<T>(device: impl AsFd, opcode: Opcode, arg: &mut [T]) -> io::Result<u32> {
    // SAFETY: each caller above passes the structure that its opcode names, with `count` items
    // behind it where the structure says so. All fields are integers, so whatever the driver writes
    // into them is a valid value. Another device under that number would copy as many bytes as the
    // opcode says, and `arg` has no fewer.
    unsafe { ioctl(device, Request { opcode, arg }) }.map_err(os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a C compiler makes of the headers, on x86-64.
    #[test]
    fn numbers_are_those_of_the_headers() {
        assert_eq!(EVTCHN_BIND_INTERDOMAIN, 0x0008_4501);
        assert_eq!(EVTCHN_BIND_UNBOUND_PORT, 0x0004_4502);
        assert_eq!(EVTCHN_NOTIFY, 0x0004_4504);
        assert_eq!(EVTCHN_RESTRICT_DOMID, 0x0002_4506);
        assert_eq!(GNTDEV_MAP_GRANT_REF, 0x0018_4700);
        assert_eq!(GNTDEV_UNMAP_GRANT_REF, 0x0010_4701);
        assert_eq!(GNTALLOC_ALLOC_GREF, 0x0018_4705);
        assert_eq!(GNTALLOC_DEALLOC_GREF, 0x0010_4706);
        assert_eq!(SET_UNMAP_NOTIFY, 0x0010_4707);
    }

    #[test]
    fn a_descriptor_that_is_no_such_device_is_an_error() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = crate::sys::owned(one);
        let not_a_device = Some(25); // ENOTTY
        assert_eq!(bind_unbound(&fd, DomId(0)).unwrap_err().raw_os_error(), not_a_device);
        assert_eq!(
            insert_grants(&fd, DomId(1), &[GrantRef(8); 3]).unwrap_err().raw_os_error(),
            not_a_device
        );
        assert_eq!(
            alloc_grants(&fd, DomId(1), 1, Access::ReadWrite).unwrap_err().raw_os_error(),
            not_a_device
        );
    }
}
