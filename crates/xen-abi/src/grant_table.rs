//! Grant tables, version 1: `grant_table.h`.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `GNTTABOP_map_grant_ref`.
pub const MAP_GRANT_REF: u32 = 0;
/// `GNTTABOP_unmap_grant_ref`.
pub const UNMAP_GRANT_REF: u32 = 1;
/// `GNTTABOP_copy`.
pub const COPY: u32 = 5;
/// `GNTTABOP_query_size`.
pub const QUERY_SIZE: u32 = 6;

/// `GNTST_okay`.
pub const OKAY: i16 = 0;
/// `GNTST_eagain`: to be tried again.
pub const EAGAIN: i16 = -12;

/// The first references, which the toolstack uses (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const RESERVED_REFS: u32 = 8;
/// Entries in one frame of a version 1 table.
pub const ENTRIES_PER_FRAME: u32 = 512;

/// `GNTCOPY_source_gref`: the source is a grant.
pub const COPY_SOURCE_GREF: u16 = 1;
/// `GNTCOPY_dest_gref`: the destination is a grant.
pub const COPY_DEST_GREF: u16 = 2;

bitflags! {
    /// `GTF_*`: what an entry permits, and what the peer does with it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u16 {
        /// `GTF_permit_access`.
        const PERMIT_ACCESS = 1;
        /// `GTF_readonly`.
        const READONLY = 1 << 2;
        /// `GTF_reading`: set by Xen while the page is mapped.
        const READING = 1 << 3;
        /// `GTF_writing`: set by Xen while the page is mapped for writing.
        const WRITING = 1 << 4;
    }

    /// `GNTMAP_*`: how a grant is mapped.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct MapFlags: u32 {
        /// `GNTMAP_host_map`: into the domain's own address space.
        const HOST_MAP = 1 << 1;
        /// `GNTMAP_readonly`.
        const READONLY = 1 << 2;
    }
}

/// `struct grant_entry_v1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EntryV1 {
    /// [`Flags`].
    pub flags: u16,
    /// The domain that gets the access.
    pub domid: u16,
    /// The page's frame number.
    pub frame: u32,
}
layout!(EntryV1, 8, flags @ 0, domid @ 2, frame @ 4);

/// `struct gnttab_query_size`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QuerySize {
    /// In: whose table.
    pub dom: u16,
    /// Zero.
    pub pad: u16,
    /// Out: frames it has now.
    pub nr_frames: u32,
    /// Out: frames it may have.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Zero.
    pub pad2: u16,
}
layout!(QuerySize, 16, dom @ 0, nr_frames @ 4, max_nr_frames @ 8, status @ 12);

/// `struct gnttab_map_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MapGrantRef {
    /// In: where to map it (a guest-physical address).
    pub host_addr: u64,
    /// In: [`MapFlags`].
    pub flags: u32,
    /// In: the granter's reference.
    pub gref: u32,
    /// In: the granter.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: what to name it by when it is unmapped.
    pub handle: u32,
    /// Out: the machine address.
    pub dev_bus_addr: u64,
}
layout!(MapGrantRef, 32, host_addr @ 0, flags @ 8, gref @ 12, dom @ 16, status @ 18, handle @ 20,
    dev_bus_addr @ 24);

/// `struct gnttab_unmap_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapGrantRef {
    /// In: where it is mapped.
    pub host_addr: u64,
    /// In: zero.
    pub dev_bus_addr: u64,
    /// In: the mapping's handle.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
layout!(UnmapGrantRef, 24, host_addr @ 0, dev_bus_addr @ 8, handle @ 16, status @ 20);

/// `struct gnttab_copy_ptr`, in [`GrantCopy`]: one end of a copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CopyEnd {
    /// A grant reference, or the number of a guest frame, by the flags of [`GrantCopy`].
    pub page: u64,
    /// Whose.
    pub domid: u16,
    /// Offset in the page, in bytes.
    pub offset: u16,
    /// Zero.
    pub pad: u32,
}
layout!(CopyEnd, 16, page @ 0, domid @ 8, offset @ 10);

/// `struct gnttab_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantCopy {
    /// In: where from.
    pub source: CopyEnd,
    /// In: where to.
    pub dest: CopyEnd,
    /// In: how many bytes; neither end passes the end of its page.
    pub len: u16,
    /// In: [`COPY_SOURCE_GREF`] or [`COPY_DEST_GREF`].
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Zero.
    pub pad: u16,
}
layout!(GrantCopy, 40, source @ 0, dest @ 16, len @ 32, flags @ 34, status @ 36);
