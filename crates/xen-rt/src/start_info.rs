//! `hvm_start_info`: the command line and the memory map that Xen passes to the domain.

use crate::memory::{PAGE, Ranges};
use alloc::string::String;
use alloc::vec;
use core::fmt;
use core::ops::Range;
use xen_abi::memory::E820Entry;
use xen_abi::start_info::{
    MAGIC, MEMMAP_TYPE_ACPI, MEMMAP_TYPE_NVS, MEMMAP_TYPE_RAM, MEMMAP_TYPE_RESERVED, MemmapEntry,
    SIZE_V0, StartInfo,
};
use zerocopy::{FromZeros, IntoBytes};

/// Most entries of a memory map that are looked at.
const MAX_ENTRIES: usize = 64;
/// Longest command line; Xen's toolstack allows 4095 bytes and more, we want 1024 at most.
const MAX_COMMAND_LINE: usize = 1024;
/// End of the memory that `boot/pvh.S` maps: everything that is read here lies below.
const MAPPED: u64 = 1 << 30;
/// Most pages of a domain that lie outside its RAM: the console's, xenstore's and the like.
const SPECIAL_PAGES: u64 = 64;

/// A private copy of what Xen passed.
pub struct Boot {
    /// Physical address of `hvm_start_info`.
    pub address: u64,
    /// A copy of it; what version 0 does not have is zero.
    pub info: StartInfo,
    /// Its memory map, or the hypervisor's.
    pub map: [MemmapEntry; MAX_ENTRIES],
    /// Entries in the map.
    pub entries: usize,
    /// Name of the map's source.
    pub map_source: &'static str,
    /// All RAM in the map.
    pub ram: Ranges,
    /// Everything that Xen loaded, from the first to the last byte.
    pub busy: Range<u64>,
}

/// A fault in what Xen passed.
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
            BadBoot::Magic(magic) => {
                write!(f, "start_info has the magic {magic:#x} instead of {MAGIC:#x}")
            }
            BadBoot::OutOfReach { what, address, len } => {
                write!(f, "{what} of {len} bytes at {address:#x} lies beyond the first GiB")
            }
            BadBoot::NoMap(why) => {
                write!(f, "start_info has no memory map and Xen gives none: {why}")
            }
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
    // SAFETY: the range is mapped, and below the first GiB nothing but RAM is at addresses that Xen
    // passes.
    unsafe { core::ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr(), to.len()) };
    Ok(())
}

impl Boot {
    /// Reads everything that is needed before there is a heap.
    ///
    /// # Safety
    /// To be called on the page tables of `boot/pvh.S`, with the address that Xen passed.
    pub unsafe fn read(address: u64) -> Result<Self, BadBoot> {
        // SAFETY: by the caller's promise.
        let copy = |what, address, to: &mut [u8]| unsafe { copy_physical(what, address, to) };
        Self::read_by(address, copy, xen_hypercall::memory::memory_map)
    }

    /// As [`Boot::read`], with `copy` for the domain's memory and `ask_xen` for
    /// `XENMEM_memory_map`.
    fn read_by(
        address: u64,
        copy: impl Fn(&'static str, u64, &mut [u8]) -> Result<(), BadBoot>,
        ask_xen: impl Fn(&mut [E820Entry]) -> Result<usize, xen_hypercall::Error>,
    ) -> Result<Self, BadBoot> {
        let mut info = StartInfo::new_zeroed();
        copy("start_info", address, &mut info.as_mut_bytes()[..SIZE_V0])?;
        if info.magic != MAGIC {
            return Err(BadBoot::Magic(info.magic));
        }
        if info.version >= 1 {
            copy("start_info", address, info.as_mut_bytes())?;
        }
        let mut map = [MemmapEntry::new_zeroed(); MAX_ENTRIES];
        let (entries, map_source) = if info.memmap_paddr != 0 && info.memmap_entries != 0 {
            let entries = (info.memmap_entries as usize).min(MAX_ENTRIES);
            copy("the memory map", info.memmap_paddr, map[..entries].as_mut_bytes())?;
            (entries, "start_info")
        } else {
            (map_of_hypervisor(&mut map, ask_xen).map_err(BadBoot::NoMap)?, "XENMEM_memory_map")
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

    /// The command line, once there is a heap. Bytes that are no text appear as
    /// replacement characters, and a line that is too long is cut, so that the parser of the
    /// options finds a word that makes no sense.
    pub fn command_line(&self) -> String {
        if self.info.cmdline_paddr == 0 {
            return String::new();
        }
        let mut bytes = vec![0; MAX_COMMAND_LINE];
        // SAFETY: RAM is mapped to itself, and `busy` has kept the bytes.
        if unsafe { copy_physical("the command line", self.info.cmdline_paddr, &mut bytes) }
            .is_err()
        {
            return String::new();
        }
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        // Bytes that are not text become replacement characters, all of them where one is not: the
        // library's function takes a KiB of the image.
        match core::str::from_utf8(&bytes[..end]) {
            Ok(text) => text.into(),
            Err(_) => bytes[..end].iter().map(|&byte| ascii(byte)).collect(),
        }
    }

    /// Returns the number of pages of RAM in the map that Xen has no memory for, by the number of
    /// pages that the domain has: `memory` less than `maxmem`.
    pub fn excess_pages(&self, reservation: Result<u64, xen_hypercall::Error>) -> u64 {
        let pages = self.ram.bytes() / PAGE;
        match reservation {
            Ok(reservation) if reservation < pages => pages - reservation + SPECIAL_PAGES,
            // Without an answer all is taken for granted, as a domain of one size may.
            _ => 0,
        }
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
fn map_of_hypervisor(
    map: &mut [MemmapEntry],
    ask_xen: impl Fn(&mut [E820Entry]) -> Result<usize, xen_hypercall::Error>,
) -> Result<usize, xen_hypercall::Error> {
    let mut raw = [E820Entry::new_zeroed(); MAX_ENTRIES];
    let entries = ask_xen(&mut raw)?;
    for (to, from) in map.iter_mut().zip(&raw[..entries]) {
        *to = MemmapEntry { addr: from.addr, size: from.size, kind: from.kind, reserved: 0 };
    }
    Ok(entries)
}

/// Returns the name of a kind of memory.
pub fn kind_name(kind: u32) -> &'static str {
    match kind {
        MEMMAP_TYPE_RAM => "RAM",
        MEMMAP_TYPE_RESERVED => "reserved",
        MEMMAP_TYPE_ACPI => "ACPI",
        MEMMAP_TYPE_NVS => "ACPI NVS",
        _ => "other",
    }
}

/// Returns the character of an ASCII byte.
fn ascii(byte: u8) -> char {
    if byte.is_ascii() { byte.into() } else { char::REPLACEMENT_CHARACTER }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Memory of a domain in which a start_info lies at 0x1000.
    fn read(memory: &[u8]) -> Result<Boot, BadBoot> {
        let copy = |what, address: u64, to: &mut [u8]| {
            let len = to.len() as u64;
            let from = memory.get(address as usize..).and_then(|from| from.get(..to.len()));
            from.map(|from| to.copy_from_slice(from)).ok_or(BadBoot::OutOfReach {
                what,
                address,
                len,
            })
        };
        Boot::read_by(0x1000, copy, |entries| {
            let (addr, size, kind) = (0, 0x80_0000, MEMMAP_TYPE_RAM);
            entries[0] = E820Entry { addr, size, kind };
            Ok(1)
        })
    }

    #[test]
    fn start_info_version_0_asks_xen_for_the_map() {
        let mut info = StartInfo::new_zeroed();
        (info.magic, info.version, info.cmdline_paddr) = (MAGIC, 0, 0x1800);
        // Behind the 40 bytes of version 0 lie those of something else.
        (info.memmap_paddr, info.memmap_entries) = (0x1100, 3);
        let mut memory = vec![0; 0x2000];
        memory[0x1000..][..size_of::<StartInfo>()].copy_from_slice(info.as_bytes());
        let boot = read(&memory).unwrap();
        assert_eq!((boot.map_source, boot.entries), ("XENMEM_memory_map", 1));
        assert!(boot.ram.iter().eq(std::iter::once(0..0x80_0000)));
        assert_eq!((boot.info.memmap_paddr, boot.info.memmap_entries), (0, 0));
        assert!(boot.busy.contains(&0x1000) && boot.busy.contains(&0x1bff));

        // Nothing behind version 0 is read: it may end with memory.
        let end = 0x1000 + SIZE_V0;
        assert!(read(&memory[..end]).is_ok());
        assert!(read(&memory[..end - 1]).is_err());
    }

    #[test]
    fn start_info_version_1_brings_its_own_map() {
        let mut info = StartInfo::new_zeroed();
        (info.magic, info.version) = (MAGIC, 1);
        (info.memmap_paddr, info.memmap_entries) = (0x1100, 1);
        let mut memory = vec![0; 0x2000];
        memory[0x1000..][..size_of::<StartInfo>()].copy_from_slice(info.as_bytes());
        let ram = entry(0, 0x40_0000, MEMMAP_TYPE_RAM);
        memory[0x1100..][..size_of::<MemmapEntry>()].copy_from_slice(ram.as_bytes());
        let boot = read(&memory).unwrap();
        assert_eq!((boot.map_source, boot.ram.bytes()), ("start_info", 0x40_0000));
        memory[0x1000] ^= 1;
        assert!(matches!(read(&memory), Err(BadBoot::Magic(_))));
    }

    proptest! {
        #[test]
        fn no_memory_map_panics(
            entries in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..8), 0..MAX_ENTRIES)
        ) {
            let map: Vec<_> = entries.iter().map(|&(a, s, k)| entry(a, s, k)).collect();
            let ram = ram_in(&map);
            let whole = |r: Range<u64>| r.start.is_multiple_of(PAGE) && r.end.is_multiple_of(PAGE);
            prop_assert!(ram.iter().all(|r| r.start < r.end && whole(r)));
        }
    }
}
