//! The way from Xen's 32-bit start to the first line of Rust: `boot/pvh.S` and its constants.

use crate::arch::{MAIN_STACK, MAIN_STACK_SIZE};
use core::arch::global_asm;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};
use xen_abi::start_info::ELFNOTE_PHYS32_ENTRY;

/// Number of the register EFER.
const MSR_EFER: u32 = 0xc000_0080;
/// Paging on, write protection for the kernel too, the FPU and SSE usable without a trap.
const CR0: u64 = Cr0Flags::PAGING.bits()
    | Cr0Flags::WRITE_PROTECT.bits()
    | Cr0Flags::NUMERIC_ERROR.bits()
    | Cr0Flags::EXTENSION_TYPE.bits()
    | Cr0Flags::MONITOR_COPROCESSOR.bits()
    | Cr0Flags::PROTECTED_MODE_ENABLE.bits();
/// Long mode's page tables; SSE with its exceptions.
const CR4: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits()
    | Cr4Flags::OSFXSR.bits()
    | Cr4Flags::OSXMMEXCPT_ENABLE.bits();
/// Long mode, and pages that are not executable.
const EFER: u64 = EferFlags::LONG_MODE_ENABLE.bits() | EferFlags::NO_EXECUTE_ENABLE.bits();

// It calls `xen_rt_entry`, which `entry!` defines.
global_asm!(
    include_str!("../boot/pvh.S"),
    note_phys32_entry = const ELFNOTE_PHYS32_ENTRY,
    stack = sym MAIN_STACK,
    stack_size = const MAIN_STACK_SIZE,
    cr0 = const CR0,
    cr4 = const CR4,
    efer = const EFER,
    msr_efer = const MSR_EFER,
);
