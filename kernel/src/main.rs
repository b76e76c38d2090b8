//! The unikernel's binary: where Xen enters, and what the compiler expects of its surroundings.
#![no_std]
#![no_main]

mod rt;

use core::arch::global_asm;
use core::panic::PanicInfo;
use kernel::arch::{MAIN_STACK, MAIN_STACK_SIZE};
use kernel::memory::paging::Image;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use xen_abi::start_info::ELFNOTE_PHYS32_ENTRY;

/// The number of the register EFER.
const MSR_EFER: u32 = 0xc000_0080;
/// Paging on, write protection for the kernel too, the FPU and SSE usable without a trap.
const CR0: u64 = Cr0Flags::PAGING.bits()
    | Cr0Flags::WRITE_PROTECT.bits()
    | Cr0Flags::NUMERIC_ERROR.bits()
    | Cr0Flags::EXTENSION_TYPE.bits()
    | Cr0Flags::MONITOR_COPROCESSOR.bits()
    | Cr0Flags::PROTECTED_MODE_ENABLE.bits();
/// Long mode's page tables; SSE with its exceptions.
const CR4: u64 =
    Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits() | Cr4Flags::OSFXSR.bits() | Cr4Flags::OSXMMEXCPT_ENABLE.bits();
/// Long mode, and pages that are not executable.
const EFER: u64 = EferFlags::LONG_MODE_ENABLE.bits() | EferFlags::NO_EXECUTE_ENABLE.bits();

global_asm!(
    include_str!("../../boot/pvh.S"),
    note_phys32_entry = const ELFNOTE_PHYS32_ENTRY,
    stack = sym MAIN_STACK,
    stack_size = const MAIN_STACK_SIZE,
    cr0 = const CR0,
    cr4 = const CR4,
    efer = const EFER,
    msr_efer = const MSR_EFER,
    entry = sym entry,
);

// The borders of the image's parts, by linker.ld.
unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// The first Rust to run: on the main stack and the page tables of `boot/pvh.S`.
extern "C" fn entry(start_info: u64) -> ! {
    let [text, rodata, data, end] =
        [&raw const __text_start, &raw const __text_end, &raw const __rodata_end, &raw const __image_end]
            .map(|border| border as u64);
    let image = Image { text: text..rodata, rodata: rodata..data, data: data..end };
    // SAFETY: this is where `boot/pvh.S` calls, once, with what Xen passed it.
    unsafe { kernel::start(start_info, &image) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    kernel::crash::panic(info)
}
