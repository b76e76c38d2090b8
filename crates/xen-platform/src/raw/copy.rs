//! Copies from and to memory that others may change meanwhile: in assembly, of which the compiler
//! can assume nothing. Every byte is read once and written once.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU8, Ordering};

/// The most bytes that are copied by ordinary moves: `rep movs` takes some ten nanoseconds to
/// start.
#[cfg(target_feature = "sse2")]
const SHORT: usize = 1024;
/// Without registers of 16 bytes, as in a kernel for `x86_64-unknown-none`, it is still the best.
#[cfg(not(target_feature = "sse2"))]
const SHORT: usize = 0;

/// Copies `len` bytes.
///
/// # Safety
/// `to` must be mapped for writing and `from` for reading, `len` bytes each, without overlap; what
/// is not memory of others must be valid for that.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: as this function's.
    unsafe {
        #[cfg(target_feature = "sse2")]
        if len <= SHORT {
            return copy_short(to, from, len);
        }
        match len > SHORT && has_fast_bytes() {
            true => copy_bytes(to, from, len),
            false => copy_words(to, from, len),
        }
    }
}

/// Copies 64 bytes at a time, and the rest in falling powers of two.
///
/// # Safety
/// As for [`copy`].
#[cfg(target_feature = "sse2")]
#[inline]
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the moves cover exactly `len` bytes from both pointers: as many times 64 as there
    // are, then one piece for each bit set in `len % 64`.
    unsafe {
        asm!(
            "mov {i}, {len}",
            "and {i}, -64",
            "jz 3f",
            "add {from}, {i}",
            "add {to}, {i}",
            "neg {i}",
            "2:",
            "movups {a}, [{from} + {i}]",
            "movups {b}, [{from} + {i} + 16]",
            "movups {c}, [{from} + {i} + 32]",
            "movups {d}, [{from} + {i} + 48]",
            "movups [{to} + {i}], {a}",
            "movups [{to} + {i} + 16], {b}",
            "movups [{to} + {i} + 32], {c}",
            "movups [{to} + {i} + 48], {d}",
            "add {i}, 64",
            "jnz 2b",
            "test {len:l}, 63",
            "jz 9f",
            "3:",
            "test {len:l}, 32",
            "jz 4f",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "add {from}, 32",
            "add {to}, 32",
            "4:",
            "test {len:l}, 16",
            "jz 5f",
            "movups {a}, [{from}]",
            "movups [{to}], {a}",
            "add {from}, 16",
            "add {to}, 16",
            "5:",
            "test {len:l}, 8",
            "jz 6f",
            "mov {i}, [{from}]",
            "mov [{to}], {i}",
            "add {from}, 8",
            "add {to}, 8",
            "6:",
            "test {len:l}, 7",
            "jz 9f",
            "test {len:l}, 4",
            "jz 7f",
            "mov {i:e}, [{from}]",
            "mov [{to}], {i:e}",
            "add {from}, 4",
            "add {to}, 4",
            "7:",
            "test {len:l}, 2",
            "jz 8f",
            "movzx {i:e}, word ptr [{from}]",
            "mov [{to}], {i:x}",
            "add {from}, 2",
            "add {to}, 2",
            "8:",
            "test {len:l}, 1",
            "jz 9f",
            "movzx {i:e}, byte ptr [{from}]",
            "mov [{to}], {i:l}",
            "9:",
            len = in(reg) len,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            i = out(reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        )
    }
}

/// Copies by the instruction for bytes, which processors with [`has_fast_bytes`] carry out in
/// pieces as wide as they can, however the two sides are aligned.
///
/// # Safety
/// As for [`copy`].
#[inline]
unsafe fn copy_bytes(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the instruction covers exactly `len` bytes from both pointers. The direction flag is
    // clear, as it is wherever Rust code runs.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        )
    }
}

/// Copies eight bytes at a time by one instruction, and the rest in falling powers of two. On newer
/// processors this is slow where the two sides are not aligned to eight bytes alike.
///
/// # Safety
/// As for [`copy`].
#[inline]
unsafe fn copy_words(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the moves cover exactly `len` bytes from both pointers: `len / 8` words, then one
    // piece for each bit set in `len % 8`. The direction flag is clear, as it is wherever Rust code
    // runs.
    unsafe {
        asm!(
            "rep movsq",
            "test {len}, 4",
            "jz 2f",
            "movsd",
            "2:",
            "test {len}, 2",
            "jz 3f",
            "movsw",
            "3:",
            "test {len}, 1",
            "jz 4f",
            "movsb",
            "4:",
            len = in(reg) len,
            inout("rcx") len / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack),
        )
    }
}

/// Returns whether the processor says that `rep movsb` is fast (ERMS: leaf 7, EBX bit 9). Asked
/// once: a guest's question goes to the hypervisor.
#[inline]
fn has_fast_bytes() -> bool {
    match FAST_BYTES.load(Ordering::Relaxed) {
        UNKNOWN => ask(),
        known => known == YES,
    }
}

static FAST_BYTES: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

#[cold]
fn ask() -> bool {
    let has_leaf = __cpuid(0).eax >= 7;
    let fast = has_leaf && __cpuid_count(7, 0).ebx & 1 << 9 != 0;
    FAST_BYTES.store(if fast { YES } else { NO }, Ordering::Relaxed);
    fast
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    type Way = unsafe fn(*mut u8, *const u8, usize);

    #[test]
    fn every_way_copies_exactly_at_every_alignment() {
        let ways: &[(&str, Way)] = &[
            ("copy", copy),
            #[cfg(target_feature = "sse2")]
            ("short", copy_short),
            ("bytes", copy_bytes),
            ("words", copy_words),
        ];
        let data: Vec<u8> = (0..1200usize).map(|i| (i * 7 + i / 256 + 1) as u8).collect();
        for (name, way) in ways {
            for len in (0..200).chain(500..530).chain(1020..1050) {
                for (to, from) in [(0, 0), (1, 0), (0, 3), (7, 9), (16, 33)] {
                    let mut all = vec![0xee; 1200];
                    // SAFETY: both lie within their vectors, which are two.
                    unsafe { way(all.as_mut_ptr().add(to), data.as_ptr().add(from), len) };
                    assert_eq!(all[to..to + len], data[from..from + len], "{name}, {len} bytes");
                    let around = all[..to].iter().chain(&all[to + len..]);
                    assert!(around.copied().all(|byte| byte == 0xee), "{name}, {len} bytes");
                }
            }
        }
    }
}
