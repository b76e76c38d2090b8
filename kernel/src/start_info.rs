//! What Xen started the domain with: the command line and the memory map.

use crate::memory::Ranges;
use alloc::string::String;
use alloc::vec;
use core::fmt;
use core::ops::Range;
use xen_abi::memory::E820Entry;
use xen_abi::start_info::{
    MAGIC, MEMMAP_TYPE_ACPI, MEMMAP_TYPE_NVS, MEMMAP_TYPE_RAM, MEMMAP_TYPE_RESERVED, MemmapEntry, SIZE_V0, StartInfo,
};
use zerocopy::{FromZeros, IntoBytes};

/// Most entries of a memory map that are looked at.
const MAX_ENTRIES: usize = 64;
/// Longest command line; Xen's toolstack allows 4095 bytes and more, we want 1024 at most.
const MAX_COMMAND_LINE: usize = 1024;
/// What `boot/pvh.S` maps: everything that is read here must lie below.
const MAPPED: u64 = 1 << 30;

/// What was found.
pub struct Boot {
    /// Physical address of `hvm_start_info`.
    pub address: u64,
    /// A copy of it; what version 0 does not have is zero.
    pub info: StartInfo,
    /// Its memory map, or the hypervisor's.
    pub map: [MemmapEntry; MAX_ENTRIES],
    /// Entries in the map.
    pub entries: usize,
    /// Where the map came from.
    pub map_source: &'static str,
    /// All RAM in the map.
    pub ram: Ranges,
    /// Everything that Xen loaded, from the first to the last byte.
    pub busy: Range<u64>,
}

/// What is wrong with what Xen passed.
#[derive(Debug)]
pub enum BadBoot {
    Magic(u32),
    OutOfReach { what: &'static str, address: u64, len: u64 },
    NoMap(xen_hypercall::Error),
    NoRam,
}

impl fmt::Display for BadBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadBoot::Magic(magic) => write!(f, "start_info has the magic {magic:#x} instead of {MAGIC:#x}"),
            BadBoot::OutOfReach { what, address, len } => {
                write!(f, "{what} of {len} bytes at {address:#x} lies beyond the first GiB")
            }
            BadBoot::NoMap(why) => write!(f, "start_info has no memory map and Xen gives none: {why}"),
            BadBoot::NoRam => f.write_str("the memory map has no RAM"),
        }
    }
}

/// Copies `to.len()` bytes from a physical address.
///
/// # Safety
/// The page tables of `boot/pvh.S`, or tables that map the bytes to themselves, must be in use.
unsafe fn copy_physical(what: &'static str, address: u64, to: &mut [u8]) -> Result<(), BadBoot> {
    let len = to.len() as u64;
    if address == 0 || address.checked_add(len).is_none_or(|end| end > MAPPED) {
        return Err(BadBoot::OutOfReach { what, address, len });
    }
    // SAFETY: the range is mapped, and below the first GiB nothing but RAM is at addresses that Xen passes.
    unsafe { core::ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr(), to.len()) };
    Ok(())
}

impl Boot {
    /// Reads everything that is needed before there is a heap.
    ///
    /// # Safety
    /// To be called on the page tables of `boot/pvh.S`, with the address that Xen passed.
    pub unsafe fn read(address: u64) -> Result<Self, BadBoot> {
        let mut info = StartInfo::new_zeroed();
        // SAFETY: by the caller's promise, here and below.
        unsafe { copy_physical("start_info", address, &mut info.as_mut_bytes()[..SIZE_V0])? };
        if info.magic != MAGIC {
            return Err(BadBoot::Magic(info.magic));
        }
        if info.version >= 1 {
            // SAFETY: as above.
            unsafe { copy_physical("start_info", address, info.as_mut_bytes())? };
        }
        let mut map = [MemmapEntry::new_zeroed(); MAX_ENTRIES];
        let (entries, map_source) = if info.memmap_paddr != 0 && info.memmap_entries != 0 {
            let entries = (info.memmap_entries as usize).min(MAX_ENTRIES);
            // SAFETY: as above.
            unsafe { copy_physical("the memory map", info.memmap_paddr, map[..entries].as_mut_bytes())? };
            (entries, "start_info")
        } else {
            (map_of_hypervisor(&mut map).map_err(BadBoot::NoMap)?, "XENMEM_memory_map")
        };
        let ram = ram_in(&map[..entries]);
        ram.largest().ok_or(BadBoot::NoRam)?;
        let mut boot = Boot { address, info, map, entries, map_source, ram, busy: 0..0 };
        boot.busy = boot.loaded();
        Ok(boot)
    }

    /// From the first to the last byte of what Xen loaded behind the image.
    fn loaded(&self) -> Range<u64> {
        let info = &self.info;
        let mut all = self.address..self.address + size_of::<StartInfo>() as u64;
        let mut keep = |address: u64, len: u64| {
            if address != 0 && address < MAPPED {
                all = all.start.min(address)..all.end.max(address.saturating_add(len));
            }
        };
        keep(info.cmdline_paddr, MAX_COMMAND_LINE as u64);
        keep(info.memmap_paddr, u64::from(info.memmap_entries) * size_of::<MemmapEntry>() as u64);
        all
    }

    /// The command line, once there is a heap. Bytes that are no text, and what is too long, are an error's matter for
    /// whoever reads the options: they see a replacement character or a cut word.
    pub fn command_line(&self) -> String {
        if self.info.cmdline_paddr == 0 {
            return String::new();
        }
        let mut bytes = vec![0; MAX_COMMAND_LINE];
        // SAFETY: RAM is mapped to itself, and `busy` has kept the bytes.
        if unsafe { copy_physical("the command line", self.info.cmdline_paddr, &mut bytes) }.is_err() {
            return String::new();
        }
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// The entries of the memory map.
    pub fn map(&self) -> &[MemmapEntry] {
        &self.map[..self.entries]
    }
}

/// The ranges of RAM in a memory map, in whole pages.
fn ram_in(map: &[MemmapEntry]) -> Ranges {
    let mut ram = Ranges::default();
    for entry in map.iter().filter(|e| e.kind == MEMMAP_TYPE_RAM) {
        // A map with more pieces than fit is used as far as they do.
        ram.add(entry.addr, entry.size);
    }
    for entry in map.iter().filter(|e| e.kind != MEMMAP_TYPE_RAM) {
        ram.remove(entry.addr, entry.addr.saturating_add(entry.size));
    }
    ram
}

/// Asks the hypervisor for the memory map, where start_info has none (version 0).
fn map_of_hypervisor(map: &mut [MemmapEntry]) -> Result<usize, xen_hypercall::Error> {
    let mut raw = [E820Entry::new_zeroed(); MAX_ENTRIES];
    let entries = xen_hypercall::memory::memory_map(&mut raw)?;
    for (to, from) in map.iter_mut().zip(&raw[..entries]) {
        *to = MemmapEntry { addr: from.addr, size: from.size, kind: from.kind, reserved: 0 };
    }
    Ok(entries)
}

/// What a kind of memory is called.
pub fn kind_name(kind: u32) -> &'static str {
    match kind {
        MEMMAP_TYPE_RAM => "RAM",
        MEMMAP_TYPE_RESERVED => "reserved",
        MEMMAP_TYPE_ACPI => "ACPI",
        MEMMAP_TYPE_NVS => "ACPI NVS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::PAGE;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn entry(addr: u64, size: u64, kind: u32) -> MemmapEntry {
        MemmapEntry { addr, size, kind, reserved: 0 }
    }

    #[test]
    fn ram_is_what_no_other_entry_claims() {
        let map = [
            entry(0, 0x100_0000, MEMMAP_TYPE_RAM),
            entry(0xa_0000, 0x6_0000, MEMMAP_TYPE_RESERVED),
            entry(0x1_0000_0000, 0x4000_0000, MEMMAP_TYPE_RAM),
        ];
        let ram: Vec<_> = ram_in(&map).iter().collect();
        assert_eq!(ram, [0..0xa_0000, 0x10_0000..0x100_0000, 0x1_0000_0000..0x1_4000_0000]);
    }

    #[test]
    fn addresses_out_of_reach_are_refused() {
        for address in [0, MAPPED - 1, u64::MAX] {
            // SAFETY: nothing is read.
            let read = unsafe { copy_physical("x", address, &mut [0; 2]) };
            assert!(matches!(read, Err(BadBoot::OutOfReach { .. })), "{address:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_memory_map_panics(entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..8), 0..MAX_ENTRIES)) {
            let map: Vec<_> = entries.iter().map(|&(a, s, k)| entry(a, s, k)).collect();
            let ram = ram_in(&map);
            prop_assert!(ram.iter().all(|r| r.start < r.end && r.start % PAGE == 0 && r.end % PAGE == 0));
        }
    }
}
