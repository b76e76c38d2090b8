//! Shared pages as raw memory: the one place where bytes of a peer are touched.
//!
//! Such memory lies outside everything Rust has allocated, so no reference to it is ever made.
//! Single fields go through atomics; copies go through assembly, of which the compiler can assume
//! nothing: it can neither repeat a read nor drop one, whatever the peer does meanwhile.

mod copy;

pub use copy::copy;

use crate::{IndexMemory, SharedMem};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

/// An area of shared memory at a fixed address. It does not own the memory.
pub struct RawShared {
    start: NonNull<u8>,
    len: usize,
}

impl RawShared {
    /// Takes the `len` bytes at `start` for shared memory.
    ///
    /// # Safety
    /// For as long as the value lives, the bytes must be mapped readable (and writable, if anything
    /// is written), must not be part of any Rust allocation or `static`, and must be reached by
    /// this domain through values of this type only. `start` must be 4-byte aligned.
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        RawShared { start, len }
    }

    /// Returns the address of the area.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Sets all of it to zero.
    pub fn zero(&self) {
        // SAFETY: the area is mapped for writing, and no reference to it exists.
        unsafe { zero(self.start.as_ptr(), self.len) }
    }

    #[inline]
    fn at(&self, at: usize, len: usize, align: usize) -> *mut u8 {
        if at > self.len || len > self.len - at || at % align != 0 {
            self.refuse(at, len);
        }
        // SAFETY: `at` was just checked to lie inside the area, which is one mapping.
        unsafe { self.start.as_ptr().add(at) }
    }

    /// Apart, so that accesses inside the area need not have the text's arguments at hand.
    #[cold]
    #[inline(never)]
    fn refuse(&self, at: usize, len: usize) -> ! {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {at} of a shared area of {}", self.len);
        panic!("misaligned offset {at} in a shared area");
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: in bounds, aligned, mapped for as long as `self` lives, and only ever reached
        // atomically or by assembly on this side.
        unsafe { AtomicU32::from_ptr(self.at(at, 4, 4).cast()) }
    }

    #[inline]
    fn byte(&self, at: usize) -> &AtomicU8 {
        // SAFETY: as for `word`.
        unsafe { AtomicU8::from_ptr(self.at(at, 1, 1)) }
    }
}

impl IndexMemory for RawShared {
    #[inline]
    fn load(&self, at: usize) -> u32 {
        self.word(at).load(Ordering::Acquire)
    }
    #[inline]
    fn store(&self, at: usize, value: u32) {
        self.word(at).store(value, Ordering::Release)
    }
    #[inline]
    fn load_u8(&self, at: usize) -> u8 {
        self.byte(at).load(Ordering::Acquire)
    }
    #[inline]
    fn store_u8(&self, at: usize, value: u8) {
        self.byte(at).store(value, Ordering::Release)
    }
    #[inline]
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.byte(at).fetch_or(bits, Ordering::AcqRel)
    }
    #[inline]
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.byte(at).fetch_and(bits, Ordering::AcqRel)
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst)
    }
}

impl SharedMem for RawShared {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, at: usize, to: &mut [u8]) {
        let from = self.at(at, to.len(), 1);
        // SAFETY: both sides are valid for the length; a private slice cannot overlap shared
        // memory.
        unsafe { copy(to.as_mut_ptr(), from, to.len()) }
    }

    fn write(&self, at: usize, from: &[u8]) {
        let to = self.at(at, from.len(), 1);
        // SAFETY: as for `read`.
        unsafe { copy(to, from.as_ptr(), from.len()) }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.start)
    }
}

/// Sets `len` bytes to zero.
///
/// # Safety
/// `to` must be mapped for writing, for `len` bytes.
unsafe fn zero(to: *mut u8, len: usize) {
    // SAFETY: the two instructions write exactly `len` bytes from the pointer on. The direction
    // flag is clear, as it is wherever Rust code runs.
    unsafe {
        asm!(
            "rep stosq",
            "mov ecx, {rest:e}",
            "rep stosb",
            rest = in(reg) len % 8,
            in("rax") 0,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn area_of_any_length_is_zeroed_exactly() {
        let area = Vec::leak(alloc::vec![0u32; 16]).as_mut_ptr().cast::<u8>();
        let area = NonNull::new(area).unwrap();
        // SAFETY: leaked memory of 64 bytes, aligned to 4, used by nothing else.
        let all = unsafe { RawShared::new(area, 64) };
        for len in 0..=32 {
            all.write(0, &[0xee; 64]);
            // SAFETY: a part of it.
            unsafe { RawShared::new(area, len) }.zero();
            let mut bytes = [1; 64];
            all.read(0, &mut bytes);
            assert_eq!(bytes.iter().take_while(|byte| **byte == 0).count(), len);
            assert!(bytes[len..].iter().all(|byte| *byte == 0xee));
        }
    }

    #[test]
    fn every_length_and_offset_is_copied_exactly() {
        // Leaked, and reached only through `RawShared` from here on.
        let area = Vec::leak(alloc::vec![0u32; 128]).as_mut_ptr().cast::<u8>();
        // SAFETY: leaked memory of 512 bytes, aligned to 4, used by nothing else.
        let area = unsafe { RawShared::new(NonNull::new(area).unwrap(), 512) };
        let data: Vec<u8> = (0..300).map(|i| (i * 7 + 1) as u8).collect();
        for len in 0..=data.len() {
            for at in [0, 1, 7, 16, 63] {
                area.write(0, &[0xee; 512]);
                area.write(at, &data[..len]);
                let mut all = [0; 512];
                area.read(0, &mut all);
                assert_eq!(&all[at..at + len], &data[..len]);
                assert!(all[..at].iter().chain(&all[at + len..]).all(|&b| b == 0xee));
                let mut back = alloc::vec![0; len];
                area.read(at, &mut back);
                assert_eq!(back, data[..len]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "8 bytes at 509 of a shared area of 512")]
    fn a_copy_past_the_end_is_refused() {
        let area = Vec::leak(alloc::vec![0u32; 128]).as_mut_ptr().cast::<u8>();
        // SAFETY: leaked memory of 512 bytes, aligned to 4, used by nothing else.
        let area = unsafe { RawShared::new(NonNull::new(area).unwrap(), 512) };
        area.read(509, &mut [0; 8]);
    }
}
