//! Functions of a C library and an unwinder that the host's triple expects.
//!
//! The compiler calls the `mem*` functions for copies of its own, so they are a part of the data
//! path. `rep movsq` moves eight bytes for each of its steps, and processors do several steps at
//! once. They get their C names in the binary alone, by [`entry!`](crate::entry!), so that a host
//! program that links this crate keeps those of its own library.
#![allow(clippy::missing_safety_doc, reason = "the contracts are C's")]

use core::arch::asm;

/// Copies forward, eight bytes at a time and the rest byte by byte.
#[inline(always)]
pub unsafe fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: covers `len` bytes of both, as the caller promises them to be valid.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {len:e}",
            "and ecx, 7",
            "rep movsb",
            len = in(reg) len,
            inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len / 8 => _,
            options(nostack),
        );
    }
    to
}

/// Copies in the direction that does not overwrite what is still to be read.
#[inline(always)]
pub unsafe fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: a forward copy reads each byte before it writes there.
        return unsafe { memcpy(to, from, len) };
    }
    // SAFETY: from the last byte down, eight at a time and then single ones; the direction flag is
    // put back.
    unsafe {
        asm!(
            "std",
            "mov ecx, {len:e}",
            "and ecx, 7",
            "rep movsb",
            "sub rsi, 7",
            "sub rdi, 7",
            "mov rcx, {len}",
            "shr rcx, 3",
            "rep movsq",
            "cld",
            len = in(reg) len,
            inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _,
            out("rcx") _,
            options(nostack),
        );
    }
    to
}

/// Fills memory with a byte.
#[inline(always)]
pub unsafe fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let pattern = u64::from(byte as u8) * 0x0101_0101_0101_0101;
    // SAFETY: covers `len` bytes, as the caller promises them to be valid.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {len:e}",
            "and ecx, 7",
            "rep stosb",
            len = in(reg) len,
            inout("rdi") to => _, inout("rcx") len / 8 => _, in("rax") pattern,
            options(nostack),
        );
    }
    to
}

/// Compares memory: the difference of the first bytes that differ.
#[inline(always)]
pub unsafe fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    // SAFETY: reads stay below `len`, up to where the caller promises both to be valid.
    unsafe {
        while at + 8 <= len
            && a.add(at).cast::<u64>().read_unaligned() == b.add(at).cast::<u64>().read_unaligned()
        {
            at += 8;
        }
        while at < len {
            let (x, y) = (a.add(at).read(), b.add(at).read());
            if x != y {
                return i32::from(x) - i32::from(y);
            }
            at += 1;
        }
    }
    0
}

/// The length of a C string.
#[inline(always)]
pub unsafe fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: stops at the zero byte that the caller promises.
    while unsafe { text.add(len).read() } != 0 {
        len += 1;
    }
    len
}

/// Defines the functions of this module under their C names, where no other library does.
#[doc(hidden)]
#[macro_export]
macro_rules! c_library {
    () => {
        #[cfg(target_os = "linux")]
        const _: () = {
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::memcpy(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::memmove(to, from, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::memset(to, byte, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::memcmp(a, b, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::memcmp(a, b, len) }
            }
            #[unsafe(no_mangle)]
            unsafe extern "C" fn strlen(text: *const u8) -> usize {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::libc::strlen(text) }
            }
            // The unwinding tables of the precompiled core library name these two; nothing unwinds.
            #[unsafe(no_mangle)]
            extern "C" fn rust_eh_personality() {}
            #[unsafe(no_mangle)]
            extern "C" fn _Unwind_Resume() -> ! {
                ::core::panic!("unwinding in a kernel that aborts on panic")
            }
        };
    };
}
