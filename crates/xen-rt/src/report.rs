//! The boot log: what was found and what was set up.

use crate::memory::paging::Image;
use crate::memory::{self, FRAMES, HEAP};
use crate::start_info::{Boot, kind_name};
use crate::xen::rings::Ring;
use crate::{arch, xen};
use xen_hypercall::version;

/// Logs a line of the boot.
macro_rules! info {
    ($($text:tt)*) => { log::info!(target: "boot", $($text)*) };
}

/// Logs everything about the boot.
pub fn boot(boot: &Boot, image: &Image, console: &Ring, leaf: u32) {
    let (major, minor) = version::version().unwrap_or_default();
    let extra = version::extra_version().unwrap_or_default();
    let extra = core::str::from_utf8(&extra).unwrap_or_default().trim_end_matches('\0');
    info!("Ringside {} on Xen {major}.{minor}{extra}", env!("CARGO_PKG_VERSION"));
    info!("CPUID leaves from {leaf:#x}; clock: {} s since 1970", xen::clock::unix_time());
    start_info(boot);
    sections(image);
    memory(boot);
    info!(
        "console: ring at {:#x}, event channel {}",
        console.page.start().as_ptr() as u64,
        console.port
    );
}

fn start_info(boot: &Boot) {
    let info = &boot.info;
    info!("start_info: {:#x}, version {}, flags {:#x}", boot.address, info.version, info.flags);
    info!("  cmdline: \"{}\"", boot.command_line());
    info!(
        "  modules: {} at {:#x}, rsdp: {:#x}",
        info.nr_modules, info.modlist_paddr, info.rsdp_paddr
    );
    info!("memory map: {} entries from {}", boot.entries, boot.map_source);
    for entry in boot.map() {
        let end = entry.addr.saturating_add(entry.size);
        info!("  {:#012x}-{end:#012x} {}", entry.addr, kind_name(entry.kind));
    }
}

fn sections(image: &Image) {
    let parts = [
        ("text", &image.text, "r-x"),
        ("rodata", &image.rodata, "r--"),
        ("data", &image.data, "rw-"),
    ];
    info!("sections:");
    for (name, range, access) in parts {
        info!("  {name:<6} {:#x}-{:#x} {access}", range.start, range.end);
    }
    let stack = arch::MAIN_STACK.range();
    info!("  stack  {:#x}-{:#x}, guard page below; page 0 is not mapped", stack.start, stack.end);
}

fn memory(boot: &Boot) {
    let (used, claimed, unclaimed) = HEAP.usage();
    info!(
        "heap: {used} bytes of {} KiB used, {} KiB to grow into",
        claimed / 1024,
        unclaimed / 1024
    );
    let held = crate::balloon::held_bytes();
    if held > 0 {
        info!("memory: {} KiB of the map held back, for Xen has none for them", held / 1024);
    }
    info!("page frames: {} KiB beside the heap's", FRAMES.free_bytes() / 1024);
    let grants = xen::grant_usage();
    let window = memory::window(&boot.ram);
    info!(
        "grant table: version 1, {} of {} frames, mapped at {:#x}; foreign pages go to {:#x}-{:#x}",
        grants.frames, grants.max_frames, grants.address, window.start, window.end
    );
}
