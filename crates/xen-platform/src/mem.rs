//! Memory that a peer can change at any moment.

use alloc::rc::Rc;
use core::ptr::NonNull;

/// The fields through which two sides of a ring agree: 32-bit indices and single bytes, with their
/// memory order.
///
/// This is all that the sleep protocols of the rings use, so that a model checker can stand in for
/// real memory. Offsets are in bytes from the start of the area; an offset outside it, or a
/// misaligned one, is a bug of the caller and panics.
pub trait IndexMemory {
    /// Reads the aligned 32-bit field at `at`, in one access, with acquire order.
    fn load(&self, at: usize) -> u32;
    /// Writes the aligned 32-bit field at `at`, in one access, with release order.
    fn store(&self, at: usize, value: u32);
    /// Reads the byte at `at` with acquire order.
    fn load_u8(&self, at: usize) -> u8;
    /// Writes the byte at `at` with release order.
    fn store_u8(&self, at: usize, value: u8);
    /// Sets bits in the byte at `at`, atomically, and returns what it was.
    fn fetch_or(&self, at: usize, bits: u8) -> u8;
    /// Keeps only `bits` in the byte at `at`, atomically, and returns what it was.
    fn fetch_and(&self, at: usize, bits: u8) -> u8;
    /// Orders every access before it against every access after it, a store before a load included.
    ///
    /// Needed between publishing an index and looking whether the peer sleeps, and between saying
    /// that one is about to sleep and looking at the index again. Acquire and release alone do not
    /// give that.
    fn fence(&self);
}

/// An area shared with a peer domain. Values are copied in and out of it and never borrowed: a
/// caller reads every field once and then checks its own copy.
pub trait SharedMem: IndexMemory {
    /// The area's size in bytes.
    fn len(&self) -> usize;
    /// Returns whether the area has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies `to.len()` bytes out, from the offset `at` on. Panics if the area ends before that.
    fn read(&self, at: usize, to: &mut [u8]);
    /// Copies `from` in, from the offset `at` on. Panics if the area ends before that.
    fn write(&self, at: usize, from: &[u8]);
    /// Returns the address of the area in this program, for callers that let the kernel or other
    /// programs copy from it or to it; `None` if it has none.
    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}

impl<T: IndexMemory + ?Sized> IndexMemory for Rc<T> {
    fn load(&self, at: usize) -> u32 {
        (**self).load(at)
    }
    fn store(&self, at: usize, value: u32) {
        (**self).store(at, value)
    }
    fn load_u8(&self, at: usize) -> u8 {
        (**self).load_u8(at)
    }
    fn store_u8(&self, at: usize, value: u8) {
        (**self).store_u8(at, value)
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        (**self).fetch_or(at, bits)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        (**self).fetch_and(at, bits)
    }
    fn fence(&self) {
        (**self).fence()
    }
}

impl<T: SharedMem + ?Sized> SharedMem for Rc<T> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        (**self).read(at, to)
    }
    fn write(&self, at: usize, from: &[u8]) {
        (**self).write(at, from)
    }
    fn address(&self) -> Option<NonNull<u8>> {
        (**self).address()
    }
}

/// Implements [`IndexMemory`] and [`SharedMem`] for a type by one of its fields.
#[macro_export]
macro_rules! delegate_shared_mem {
    ($type:ty, $field:ident) => {
        impl $crate::IndexMemory for $type {
            #[inline]
            fn load(&self, at: usize) -> u32 {
                self.$field.load(at)
            }
            #[inline]
            fn store(&self, at: usize, value: u32) {
                self.$field.store(at, value)
            }
            #[inline]
            fn load_u8(&self, at: usize) -> u8 {
                self.$field.load_u8(at)
            }
            #[inline]
            fn store_u8(&self, at: usize, value: u8) {
                self.$field.store_u8(at, value)
            }
            #[inline]
            fn fetch_or(&self, at: usize, bits: u8) -> u8 {
                self.$field.fetch_or(at, bits)
            }
            #[inline]
            fn fetch_and(&self, at: usize, bits: u8) -> u8 {
                self.$field.fetch_and(at, bits)
            }
            #[inline]
            fn fence(&self) {
                self.$field.fence()
            }
        }

        impl $crate::SharedMem for $type {
            #[inline]
            fn len(&self) -> usize {
                self.$field.len()
            }
            #[inline]
            fn read(&self, at: usize, to: &mut [u8]) {
                self.$field.read(at, to)
            }
            #[inline]
            fn write(&self, at: usize, from: &[u8]) {
                self.$field.write(at, from)
            }
            #[inline]
            fn address(&self) -> Option<::core::ptr::NonNull<u8>> {
                self.$field.address()
            }
        }
    };
}
