//! The processor: stacks, descriptor tables, exceptions.

pub mod backtrace;
mod descriptors;
pub mod idle;
mod stacks;
pub mod traps;

pub(crate) use descriptors::init;
pub use stacks::{MAIN_STACK, MAIN_STACK_SIZE, guard_pages};
