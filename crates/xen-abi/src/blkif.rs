//! Block devices: `io/blkif.h`.
//!
//! A frontend of 32 bits lays its requests out without the four bytes that align 64-bit fields to
//! 8; a backend must understand both. So the structures here take that padding as a parameter:
//! [`Pad64`] for `x86_64-abi`, [`Pad32`] for `x86_32-abi`. All fields are little-endian and need no
//! alignment.

use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `BLKIF_OP_READ`.
pub const OP_READ: u8 = 0;
/// `BLKIF_OP_WRITE`.
pub const OP_WRITE: u8 = 1;
/// `BLKIF_OP_WRITE_BARRIER`: all before it is on the disk before it, and it before all after it.
pub const OP_WRITE_BARRIER: u8 = 2;
/// `BLKIF_OP_FLUSH_DISKCACHE`: all that was answered is on the disk before this is.
pub const OP_FLUSH_DISKCACHE: u8 = 3;
/// `BLKIF_OP_RESERVED_1`: a packet for a CD drive once, and nothing now.
pub const OP_RESERVED_1: u8 = 4;
/// `BLKIF_OP_DISCARD`.
pub const OP_DISCARD: u8 = 5;
/// `BLKIF_OP_INDIRECT`: a read or write whose segments are listed in pages of their own.
pub const OP_INDIRECT: u8 = 6;

/// `BLKIF_RSP_OKAY`.
pub const RSP_OKAY: i16 = 0;
/// `BLKIF_RSP_ERROR`.
pub const RSP_ERROR: i16 = -1;
/// `BLKIF_RSP_EOPNOTSUPP`.
pub const RSP_EOPNOTSUPP: i16 = -2;

/// Segments in a request itself (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages with segments that a request can name (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
pub const MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Segments listed in one such page.
pub const SEGMENTS_PER_INDIRECT_PAGE: usize = 4096 / size_of::<Segment>();
/// `BLKIF_DISCARD_SECURE`, in [`Discard::flag`].
pub const DISCARD_SECURE: u8 = 1;

/// `VDISK_CDROM`, in the key `info`.
pub const VDISK_CDROM: u32 = 1;
/// `VDISK_REMOVABLE`.
pub const VDISK_REMOVABLE: u32 = 2;
/// `VDISK_READONLY`.
pub const VDISK_READONLY: u32 = 4;

/// The key `protocol` of a 64-bit frontend (`XEN_IO_PROTO_ABI_X86_64`, io/protocols.h).
pub const PROTOCOL_X86_64: &str = "x86_64-abi";
/// The key `protocol` of a 32-bit frontend (`XEN_IO_PROTO_ABI_X86_32`).
pub const PROTOCOL_X86_32: &str = "x86_32-abi";

/// Bytes that one sector of the protocol has, whatever the disk's own sectors are.
pub const SECTOR: usize = 512;
/// Sectors of the protocol in a page.
pub const SECTORS_PER_PAGE: u8 = 8;

/// The padding before a 64-bit field, in the 64-bit layout.
pub type Pad64 = [u8; 4];
/// The same in the 32-bit layout: none.
pub type Pad32 = [u8; 0];

/// `struct blkif_request_segment`: a run of sectors in one page.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Segment {
    /// The page.
    pub gref: U32,
    /// The first of its sectors, 0 to 7.
    pub first_sect: u8,
    /// The last of its sectors, which is part of the run.
    pub last_sect: u8,
    /// Unused.
    pub pad: [u8; 2],
}
layout!(Segment, 8, gref @ 0, first_sect @ 4, last_sect @ 5);

/// `struct blkif_request`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Request<Pad> {
    /// `BLKIF_OP_*`.
    pub operation: u8,
    /// Number of segments used.
    pub nr_segments: u8,
    /// The device's number; ignored by backends.
    pub handle: U16,
    /// Unused.
    pub pad: Pad,
    /// Comes back in the response.
    pub id: U64,
    /// First sector on the disk.
    pub sector_number: U64,
    /// The segments.
    pub seg: [Segment; MAX_SEGMENTS_PER_REQUEST],
}
layout!(Request<Pad64>, 112, operation @ 0, nr_segments @ 1, handle @ 2, id @ 8, sector_number @ 16,
    seg @ 24);
layout!(Request<Pad32>, 108, operation @ 0, nr_segments @ 1, handle @ 2, id @ 4, sector_number @ 12,
    seg @ 20);

/// `struct blkif_request_discard`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Discard<Pad> {
    /// [`OP_DISCARD`].
    pub operation: u8,
    /// [`DISCARD_SECURE`] or zero.
    pub flag: u8,
    /// The device's number; ignored by backends.
    pub handle: U16,
    /// Unused.
    pub pad: Pad,
    /// Comes back in the response.
    pub id: U64,
    /// First sector.
    pub sector_number: U64,
    /// Number of sectors.
    pub nr_sectors: U64,
}
layout!(Discard<Pad64>, 32, flag @ 1, handle @ 2, id @ 8, sector_number @ 16, nr_sectors @ 24);
layout!(Discard<Pad32>, 28, flag @ 1, handle @ 2, id @ 4, sector_number @ 12, nr_sectors @ 20);

/// `struct blkif_request_indirect`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Indirect<Pad> {
    /// [`OP_INDIRECT`].
    pub operation: u8,
    /// [`OP_READ`] or [`OP_WRITE`].
    pub indirect_op: u8,
    /// Number of segments listed.
    pub nr_segments: U16,
    /// Unused.
    pub pad: Pad,
    /// Comes back in the response.
    pub id: U64,
    /// First sector on the disk.
    pub sector_number: U64,
    /// The device's number; ignored by backends.
    pub handle: U16,
    /// Unused.
    pub pad2: [u8; 2],
    /// The pages with the list: [`SEGMENTS_PER_INDIRECT_PAGE`] in each but the last.
    pub indirect_grefs: [U32; MAX_INDIRECT_PAGES_PER_REQUEST],
}
layout!(Indirect<Pad64>, 60, indirect_op @ 1, nr_segments @ 2, id @ 8, sector_number @ 16, handle @
    24, indirect_grefs @ 28);
layout!(Indirect<Pad32>, 56, indirect_op @ 1, nr_segments @ 2, id @ 4, sector_number @ 12, handle @
    20, indirect_grefs @ 24);

/// `struct blkif_response`, whose padding is at its end: a backend that does not clear it shows the
/// frontend what was in its memory (XSA-216).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Response<Pad> {
    /// The request's.
    pub id: U64,
    /// The request's.
    pub operation: u8,
    /// Unused.
    pub pad: u8,
    /// `BLKIF_RSP_*`.
    pub status: I16,
    /// Unused.
    pub tail: Pad,
}
layout!(Response<Pad64>, 16, id @ 0, operation @ 8, status @ 10);
layout!(Response<Pad32>, 12, id @ 0, operation @ 8, status @ 10);
