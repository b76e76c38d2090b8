//! The stacks, each above a page that is never mapped, so that an overflow is an exception and not
//! a mystery.

use core::cell::UnsafeCell;
use core::ops::Range;

/// A guard page and a stack of `SIZE` bytes above it.
#[repr(C, align(4096))]
pub struct Stack<const SIZE: usize> {
    guard: UnsafeCell<[u8; 4096]>,
    space: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: nothing but the processor touches a stack's bytes.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

impl<const SIZE: usize> Stack<SIZE> {
    const fn new() -> Self {
        Stack { guard: UnsafeCell::new([0; 4096]), space: UnsafeCell::new([0; SIZE]) }
    }

    fn guard_page(&self) -> u64 {
        self.guard.get() as u64
    }

    /// The addresses of the stack's bytes.
    pub fn range(&self) -> Range<u64> {
        let start = self.space.get() as u64;
        start..start + SIZE as u64
    }

    /// The address a stack pointer starts from.
    pub fn top(&self) -> u64 {
        self.range().end
    }
}

/// Bytes from the symbol [`MAIN_STACK`] to the top of the main stack, its guard page included.
pub const MAIN_STACK_SIZE: usize = 4096 + 64 * 1024;

/// The stack everything runs on.
pub static MAIN_STACK: Stack<{ 64 * 1024 }> = Stack::new();
/// The stack for exceptions.
pub static TRAP_STACK: Stack<{ 16 * 1024 }> = Stack::new();
/// The stack for a fault while another fault is delivered.
pub static DOUBLE_FAULT_STACK: Stack<{ 8 * 1024 }> = Stack::new();

/// The pages that must not be mapped.
pub fn guard_pages() -> [u64; 3] {
    [MAIN_STACK.guard_page(), TRAP_STACK.guard_page(), DOUBLE_FAULT_STACK.guard_page()]
}

/// The stack that has this address, for walks that must not leave it.
pub fn stack_of(address: u64) -> Option<Range<u64>> {
    [MAIN_STACK.range(), TRAP_STACK.range(), DOUBLE_FAULT_STACK.range()]
        .into_iter()
        .find(|r| r.contains(&address))
}
