//! Private memory for the data of requests, in whole aligned pages, used again and again.

use alloc::vec;
use alloc::vec::Vec;
use xen_platform::PAGE_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

/// Bytes that begin at the start of a page.
#[derive(Default)]
pub(in crate::back) struct Buffer {
    pages: Vec<Page>,
    len: usize,
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        &self.pages.as_bytes()[..self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.pages.as_mut_bytes()[..self.len]
    }

    fn capacity(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }
}

/// Buffers for reuse.
pub(in crate::back) struct Pool {
    free: Vec<Buffer>,
    /// Bytes in `free`.
    held: usize,
    /// Largest number of bytes that are held.
    max: usize,
}

impl Pool {
    pub fn new(max: usize) -> Pool {
        Pool { free: Vec::new(), held: 0, max }
    }

    /// Returns a buffer of `len` bytes, which may hold old data of this disk.
    pub fn take(&mut self, len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        let mut buffer = match self.free.iter().rposition(|buffer| buffer.capacity() >= len) {
            Some(found) => self.free.swap_remove(found),
            None => {
                return Buffer { pages: vec![Page([0; PAGE_SIZE]); len.div_ceil(PAGE_SIZE)], len };
            }
        };
        self.held -= buffer.capacity();
        buffer.len = len;
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Buffer) {
        if buffer.capacity() > 0 && self.held + buffer.capacity() <= self.max {
            self.held += buffer.capacity();
            self.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_used_again_and_bounded() {
        let mut pool = Pool::new(3 * PAGE_SIZE);
        let mut one = pool.take(PAGE_SIZE + 512);
        assert_eq!(one.bytes().len(), PAGE_SIZE + 512);
        assert!(one.bytes().as_ptr().addr() % PAGE_SIZE == 0);
        one.bytes_mut().fill(7);
        let at = one.bytes().as_ptr();
        let two = pool.take(2 * PAGE_SIZE);
        pool.give(one);
        pool.give(two);
        assert_eq!(pool.held, 2 * PAGE_SIZE, "the second would be too much");
        let again = pool.take(512);
        assert_eq!((again.bytes().as_ptr(), again.bytes().len(), pool.held), (at, 512, 0));
    }
}
