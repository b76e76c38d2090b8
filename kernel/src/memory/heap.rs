//! The global heap, and the border between it and the page frames.
//!
//! Both live in the largest range of RAM: the heap grows from its bottom up, frames are claimed from its top down, so
//! neither needs a share fixed in advance.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;
use spin::Mutex;

/// By how much the heap grows at a time, so that it need not grow often.
const GROWTH: usize = 256 * 1024;

/// The heap and the unclaimed addresses above it.
struct Arena {
    heap: Heap,
    /// The first byte that the heap has not claimed.
    bottom: usize,
    /// The end of what nobody has claimed: above it lie page frames.
    top: usize,
}

impl Arena {
    /// Claims enough for an allocation of `layout`, or whatever is left if that is less.
    fn grow(&mut self, layout: Layout) -> bool {
        let need = layout.size() + layout.align() + 64;
        let want = need.max(GROWTH).next_multiple_of(4096).min(self.top - self.bottom);
        if want < need {
            return false;
        }
        // SAFETY: the bytes from `bottom` on are mapped RAM that adjoins the heap and that nothing else has claimed.
        unsafe { self.heap.extend(want) };
        self.bottom += want;
        true
    }
}

/// The global allocator.
pub struct KernelHeap(Mutex<Arena>);

impl KernelHeap {
    /// A heap without memory.
    pub const fn new() -> Self {
        KernelHeap(Mutex::new(Arena { heap: Heap::empty(), bottom: 0, top: 0 }))
    }

    /// Gives the heap its range: page-aligned addresses.
    ///
    /// # Safety
    /// The range must be mapped RAM that nothing else uses, for ever, but for what [`KernelHeap::claim_top`] returns.
    /// To be called once.
    pub unsafe fn init(&self, bottom: usize, top: usize) {
        let mut arena = self.0.lock();
        let first = GROWTH.min(top - bottom);
        // SAFETY: by the caller's promise.
        unsafe { arena.heap.init(bottom as *mut u8, first) };
        arena.bottom = bottom + first;
        arena.top = top;
    }

    /// Takes `bytes` (whole pages) off the top, away from the heap for ever. Returns their start.
    pub fn claim_top(&self, bytes: usize) -> Option<usize> {
        let mut arena = self.0.lock();
        let top = arena.top.checked_sub(bytes)?;
        (top >= arena.bottom).then(|| arena.top = top)?;
        Some(top)
    }

    /// Bytes in use, bytes the heap has claimed, bytes nobody has claimed yet.
    pub fn usage(&self) -> (usize, usize, usize) {
        let arena = self.0.lock();
        (arena.heap.used(), arena.heap.size(), arena.top - arena.bottom)
    }
}

impl Default for KernelHeap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: memory comes from `linked_list_allocator`, which keeps the contract; the lock makes it exclusive.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arena = self.0.lock();
        loop {
            if let Ok(block) = arena.heap.allocate_first_fit(layout) {
                return block.as_ptr();
            }
            if !arena.grow(layout) {
                return null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block from `alloc` with this layout.
            unsafe { self.0.lock().heap.deallocate(block, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;

    #[test]
    fn heap_and_frames_share_one_range() {
        const SIZE: usize = 2 << 20;
        let heap = KernelHeap::new();
        // SAFETY: a fresh block of this size, used by nothing else and never freed.
        let bottom = unsafe { System.alloc(Layout::from_size_align(SIZE, 4096).unwrap()) } as usize;
        // SAFETY: as above.
        unsafe { heap.init(bottom, bottom + SIZE) };

        assert_eq!(heap.claim_top(4096), Some(bottom + SIZE - 4096));
        let layout = Layout::from_size_align(1 << 20, 16).unwrap();
        // SAFETY: the layout is not empty.
        let block = unsafe { heap.alloc(layout) };
        assert!(!block.is_null(), "the heap grows over what is unclaimed");
        // SAFETY: as above.
        assert!(unsafe { heap.alloc(layout) }.is_null(), "but not over frames");
        assert_eq!(heap.claim_top(SIZE), None, "nor do frames eat the heap");
        // SAFETY: the block came from this heap with this layout.
        unsafe { heap.dealloc(block, layout) };
        assert_eq!(heap.usage().0, 0);
    }
}
