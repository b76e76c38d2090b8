//! The data that a PVH guest starts with: `arch-x86/hvm/start_info.h`, `elfnote.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note that makes an ELF file a PVH kernel.
pub const ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// `XEN_HVM_START_MAGIC_VALUE`.
pub const MAGIC: u32 = 0x336e_c578;
/// `XEN_HVM_MEMMAP_TYPE_RAM`.
pub const MEMMAP_TYPE_RAM: u32 = 1;
/// `XEN_HVM_MEMMAP_TYPE_RESERVED`.
pub const MEMMAP_TYPE_RESERVED: u32 = 2;
/// `XEN_HVM_MEMMAP_TYPE_ACPI`.
pub const MEMMAP_TYPE_ACPI: u32 = 3;
/// `XEN_HVM_MEMMAP_TYPE_NVS`.
pub const MEMMAP_TYPE_NVS: u32 = 4;

/// `struct hvm_start_info`. Version 0 ends before `memmap_paddr`. An address of 0 means that the
/// thing is absent.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// 0 or 1, or newer with more fields behind.
    pub version: u32,
    /// `SIF_*`.
    pub flags: u32,
    /// Number of modules.
    pub nr_modules: u32,
    /// Physical address of the module list.
    pub modlist_paddr: u64,
    /// Physical address of the command line, which ends with a zero byte.
    pub cmdline_paddr: u64,
    /// Physical address of ACPI's root pointer.
    pub rsdp_paddr: u64,
    /// From version 1 on: physical address of the memory map.
    pub memmap_paddr: u64,
    /// From version 1 on: entries in the memory map.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}
layout!(StartInfo, 56, magic @ 0, version @ 4, flags @ 8, nr_modules @ 12, modlist_paddr @ 16,
    cmdline_paddr @ 24,
    rsdp_paddr @ 32, memmap_paddr @ 40, memmap_entries @ 48, reserved @ 52);

/// Bytes of [`StartInfo`] in version 0.
pub const SIZE_V0: usize = 40;

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MemmapEntry {
    /// Start address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*`.
    pub kind: u32,
    /// Zero in version 1.
    pub reserved: u32,
}
layout!(MemmapEntry, 24, addr @ 0, size @ 8, kind @ 16, reserved @ 20);
