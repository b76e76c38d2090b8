//! The call itself.
//!
//! By `arch-x86/xen-x86_64.h`: the number in `rax`, arguments in `rdi`, `rsi`, `rdx`, `r10`, `r8`,
//! the result in `rax`; argument registers may be clobbered.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, CpuidResult};
use core::sync::atomic::{AtomicBool, Ordering};
use xen_abi::cpuid;

/// True if the processor is of the kind that traps with `vmmcall`; the other kind traps with
/// `vmcall`.
static USE_VMMCALL: AtomicBool = AtomicBool::new(false);

/// Returns one leaf of CPUID.
#[allow(unused_unsafe, reason = "before Rust 1.93 the instruction counted as unsafe")]
pub fn cpuid(leaf: u32) -> CpuidResult {
    // SAFETY: every 64-bit processor has the instruction.
    unsafe { __cpuid(leaf) }
}

/// Finds out how to make hypercalls. Returns the first of Xen's CPUID leaves, or `None` when this
/// is not Xen.
pub fn init() -> Option<u32> {
    let vendor = cpuid(0);
    let vendor = [vendor.ebx, vendor.edx, vendor.ecx];
    let amd = [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes);
    let hygon = [*b"Hygo", *b"nGen", *b"uine"].map(u32::from_le_bytes);
    USE_VMMCALL.store(vendor == amd || vendor == hygon, Ordering::Relaxed);

    (cpuid::FIRST_LEAF..cpuid::LAST_LEAF).step_by(cpuid::LEAF_STEP as usize).find(|&leaf| {
        let id = cpuid(leaf);
        [id.ebx, id.ecx, id.edx] == cpuid::SIGNATURE
    })
}

/// Makes the hypercall `number` with up to three arguments (the rest are not used by any operation
/// here).
///
/// # Safety
/// [`init`] must have found Xen, and the arguments must be what the operation demands: above all,
/// an address must be that of memory which Xen may read and write as the operation says.
#[inline]
pub unsafe fn hypercall(number: u64, a1: u64, a2: u64, a3: u64) -> i64 {
    let result: i64;
    if USE_VMMCALL.load(Ordering::Relaxed) {
        // SAFETY: by the caller's promise; clobbers are declared, and memory is not assumed to be
        // untouched.
        unsafe {
            asm!("vmmcall", inlateout("rax") number => result,
                inlateout("rdi") a1 => _, inlateout("rsi") a2 => _,
                inlateout("rdx") a3 => _, lateout("r10") _, lateout("r8") _, options(nostack));
        }
    } else {
        // SAFETY: as above.
        unsafe {
            asm!("vmcall", inlateout("rax") number => result,
                inlateout("rdi") a1 => _, inlateout("rsi") a2 => _,
                inlateout("rdx") a3 => _, lateout("r10") _, lateout("r8") _, options(nostack));
        }
    }
    result
}
