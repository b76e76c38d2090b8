//! State that is global because the machine is: safe to share because there is one processor.

use core::cell::RefCell;

/// A global value that is borrowed for the length of a closure.
///
/// Unlike a lock it needs no value that may move between threads, and using it twice at once is a
/// bug that panics instead of hanging.
pub struct OneCpu<T>(RefCell<T>);

// SAFETY: the kernel runs on one virtual CPU, and the interrupt handler runs no Rust code, so
// nothing ever runs beside the code that uses the value.
unsafe impl<T> Sync for OneCpu<T> {}

impl<T> OneCpu<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        OneCpu(RefCell::new(value))
    }

    /// Lends the value to `use_it`.
    pub fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.0.borrow_mut())
    }
}
