//! The global heap, and the border between it and the page frames.
//!
//! Both live in the largest range of RAM: the heap grows from its bottom up, frames are claimed
//! from its top down and given back there, so neither needs a share fixed in advance.
//!
//! Frames and large allocations leave [`RESERVE`] bytes to small ones, which have no way to fail.
//! So a newcomer that needs a ring and a buffer is turned away before everything is gone, and those
//! that are there go on.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap as FreeBlocks;
use spin::Mutex;

/// By how much the heap grows at a time, so that it need not grow often.
const GROWTH: usize = 256 * 1024;

/// Bytes that frames and large allocations leave to small ones.
pub const RESERVE: usize = 128 * 1024;

/// Size in bytes above which an allocation is large: to be made with `try_reserve`.
pub const LARGE: usize = 8 * 1024;

/// The heap and the unclaimed addresses above it.
struct Arena {
    heap: FreeBlocks,
    /// The first byte that the heap has not claimed.
    bottom: usize,
    /// The end of what nobody has claimed: above it lie page frames.
    top: usize,
}

impl Arena {
    /// Returns true if `bytes` can be taken without touching the reserve.
    fn spares(&self, bytes: usize) -> bool {
        let available = self.top - self.bottom + self.heap.free();
        available.checked_sub(bytes).is_some_and(|left| left >= RESERVE)
    }

    /// Claims enough for an allocation of `layout`, or whatever is left if that is less.
    fn grow(&mut self, layout: Layout) -> bool {
        let need = layout.size() + layout.align() + 64;
        let want = need.max(GROWTH).next_multiple_of(4096).min(self.top - self.bottom);
        if want < need {
            return false;
        }
        // SAFETY: the bytes from `bottom` on are mapped RAM that adjoins the heap and that nothing
        // else has claimed.
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
        KernelHeap(Mutex::new(Arena { heap: FreeBlocks::empty(), bottom: 0, top: 0 }))
    }

    /// Gives the heap its range: page-aligned addresses.
    ///
    /// # Safety
    /// The range must be mapped RAM that nothing else uses, for ever, but for what
    /// [`KernelHeap::claim_top`] returns. To be called once.
    pub unsafe fn init(&self, bottom: usize, top: usize) {
        let mut arena = self.0.lock();
        let first = GROWTH.min(top - bottom);
        // SAFETY: by the caller's promise.
        unsafe { arena.heap.init(bottom as *mut u8, first) };
        arena.bottom = bottom + first;
        arena.top = top;
    }

    /// Takes `bytes` (whole pages) off the top, unless that touches the reserve. Returns their
    /// start.
    pub fn claim_top(&self, bytes: usize) -> Option<usize> {
        let mut arena = self.0.lock();
        if !arena.spares(bytes) {
            return None;
        }
        let top = arena.top.checked_sub(bytes)?;
        (top >= arena.bottom).then(|| arena.top = top)?;
        Some(top)
    }

    /// Returns the end of the heap's range: the lowest address that was claimed.
    pub fn top(&self) -> usize {
        self.0.lock().top
    }

    /// Gives the lowest `bytes` that were claimed back to the heap's range.
    ///
    /// # Safety
    /// Nothing may use them any more.
    pub unsafe fn give_top(&self, bytes: usize) {
        self.0.lock().top += bytes;
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

// SAFETY: memory comes from `linked_list_allocator`, which keeps the contract; the lock makes it
// exclusive.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arena = self.0.lock();
        if layout.size() > LARGE && !arena.spares(layout.size()) {
            return null_mut();
        }
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

/// The domain's heap as a global allocator.
pub struct Heap;

// SAFETY: `KernelHeap` keeps the contract.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { super::HEAP.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { super::HEAP.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests;
