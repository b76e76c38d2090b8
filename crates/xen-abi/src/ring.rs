//! The ring of requests and responses: `io/ring.h`, `DEFINE_RING_TYPES`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The ring's head (`struct *_sring`): indices modulo 2^32 that are never reduced to the ring's
/// size. The slots follow at [`SLOTS`]; a request and the response to it, or to another, share
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sring {
    /// Index of the next request; written by the frontend.
    pub req_prod: u32,
    /// The backend wants an event once `req_prod` has reached this.
    pub req_event: u32,
    /// Index of the next response; written by the backend.
    pub rsp_prod: u32,
    /// The frontend wants an event once `rsp_prod` has reached this.
    pub rsp_event: u32,
}
layout!(Sring, 16, req_prod @ 0, req_event @ 4, rsp_prod @ 8, rsp_event @ 12);

/// Offset of the first slot, in bytes from the start of the ring's first page.
pub const SLOTS: usize = 64;

/// Returns the number of slots of `slot` bytes in a ring of `len` bytes: a power of two
/// (`__RING_SIZE`).
pub const fn slots(len: usize, slot: usize) -> u32 {
    let fit = (len - SLOTS) / slot;
    if fit == 0 { 0 } else { 1 << fit.ilog2() }
}

const _: () = assert!(slots(4096, 112) == 32 && slots(4096, 108) == 32 && slots(65536, 112) == 512);
