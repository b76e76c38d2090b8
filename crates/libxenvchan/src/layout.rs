//! The structures of `libxenvchan.h`, as Debian's libxen-dev 4.14 to 4.20 has them on x86-64.
//! `testbed/peers/vchan-abi.c` asserts the same numbers where that header is at hand.

use core::ffi::{c_char, c_int, c_void};
use core::mem::{offset_of, size_of};

/// `struct libxenvchan_ring`.
#[repr(C)]
#[derive(Debug)]
pub struct Ring {
    /// The ring's indices in the shared page.
    pub shr: *mut c_void,
    /// The ring's bytes.
    pub buffer: *mut c_void,
    /// log2 of the ring's size.
    pub order: c_int,
}

/// `struct libxenvchan`.
#[repr(C)]
#[derive(Debug)]
pub struct Control {
    /// `gntshr` and `gnttab`, a union: null, since neither library is used.
    pub grants: *mut c_void,
    /// The shared page; a page of zeros once the connection has broken.
    pub ring: *mut c_void,
    /// `xenevtchn_handle`, for programs that send events themselves; null if libxenevtchn is not in
    /// the program.
    pub event: *mut c_void,
    /// This end's event channel port.
    pub event_port: u32,
    /// The bits [`IS_SERVER`], [`SERVER_PERSIST`] and [`BLOCKING`].
    pub flags: u32,
    /// The ring that this end reads from.
    pub read: Ring,
    /// The ring that this end writes into.
    pub write: Ring,
    /// The server's folder in xenstore. Programs that were built with Xen 4.14 know nothing of it.
    pub xs_path: *mut c_char,
}

/// `is_server`.
pub const IS_SERVER: u32 = 1;
/// `server_persist`.
pub const SERVER_PERSIST: u32 = 2;
/// `blocking`.
pub const BLOCKING: u32 = 4;

/// Each field with its offset, and the size of the smaller structure, by the header's names.
pub const NUMBERS: &[(&str, usize)] = &[
    ("sizeof(struct libxenvchan_ring)", size_of::<Ring>()),
    ("offsetof(struct libxenvchan_ring, shr)", offset_of!(Ring, shr)),
    ("offsetof(struct libxenvchan_ring, buffer)", offset_of!(Ring, buffer)),
    ("offsetof(struct libxenvchan_ring, order)", offset_of!(Ring, order)),
    ("offsetof(struct libxenvchan, gntshr)", offset_of!(Control, grants)),
    ("offsetof(struct libxenvchan, gnttab)", offset_of!(Control, grants)),
    ("offsetof(struct libxenvchan, ring)", offset_of!(Control, ring)),
    ("offsetof(struct libxenvchan, event)", offset_of!(Control, event)),
    ("offsetof(struct libxenvchan, event_port)", offset_of!(Control, event_port)),
    ("offsetof(struct libxenvchan, event_port) + 4", offset_of!(Control, flags)),
    ("offsetof(struct libxenvchan, read)", offset_of!(Control, read)),
    ("offsetof(struct libxenvchan, write)", offset_of!(Control, write)),
    (
        "offsetof(struct libxenvchan, write) + sizeof(struct libxenvchan_ring)",
        offset_of!(Control, xs_path),
    ),
];
