//! The guest's memory: `memory.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XENMEM_add_to_physmap`.
pub const ADD_TO_PHYSMAP: u32 = 7;
/// `XENMEM_memory_map`.
pub const MEMORY_MAP: u32 = 9;

/// `XENMAPSPACE_shared_info`.
pub const MAPSPACE_SHARED_INFO: u32 = 0;
/// `XENMAPSPACE_grant_table`.
pub const MAPSPACE_GRANT_TABLE: u32 = 1;

/// `struct xen_add_to_physmap`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AddToPhysmap {
    /// In: whose memory.
    pub domid: u16,
    /// In: pages, for ranges only.
    pub size: u16,
    /// In: `XENMAPSPACE_*`.
    pub space: u32,
    /// In: which page of that space.
    pub idx: u64,
    /// In: the guest frame where it shall appear.
    pub gpfn: u64,
}
layout!(AddToPhysmap, 24, domid @ 0, size @ 2, space @ 4, idx @ 8, gpfn @ 16);

/// `struct xen_memory_map`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MemoryMap {
    /// In: entries the buffer can take. Out: entries it was given.
    pub nr_entries: u32,
    /// Zero.
    pub pad: u32,
    /// In: address of the buffer, an array of [`E820Entry`].
    pub buffer: u64,
}
layout!(MemoryMap, 16, nr_entries @ 0, buffer @ 8);

/// An entry that [`MEMORY_MAP`] fills in, as the BIOS call E820 returns it, 20 bytes without
/// padding.
#[repr(C, packed)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct E820Entry {
    /// Start address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// As `XEN_HVM_MEMMAP_TYPE_*`.
    pub kind: u32,
}
layout!(E820Entry, 20, addr @ 0, size @ 8, kind @ 16);

/// `XENMEM_decrease_reservation`: gives frames back to Xen.
pub const DECREASE_RESERVATION: u32 = 1;
/// `XENMEM_current_reservation`: the pages that a domain has now.
pub const CURRENT_RESERVATION: u32 = 3;
/// `XENMEM_populate_physmap`: has Xen put memory at frames.
pub const POPULATE_PHYSMAP: u32 = 6;

/// `struct xen_memory_reservation`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reservation {
    /// Address of an array of frame numbers, 64 bits each.
    pub extent_start: u64,
    /// Number of frames in the array.
    pub nr_extents: u64,
    /// Zero: an extent is one page.
    pub extent_order: u32,
    /// Zero.
    pub mem_flags: u32,
    /// `DOMID_SELF`.
    pub domid: u16,
    /// Zero.
    pub pad: [u16; 3],
}
layout!(Reservation, 32, extent_start @ 0, nr_extents @ 8, extent_order @ 16, mem_flags @ 20, domid @ 24);
