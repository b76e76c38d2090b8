//! Several futures in one task.

use crate::environment::Error;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub use xen_exec::{Boxed, join_all};

/// Runs all of `works`, and fails with the first error in their order.
pub fn try_join_all<'a>(works: Vec<Boxed<'a, Result<(), Error>>>) -> Boxed<'a, Result<(), Error>> {
    Box::pin(async { join_all(works).await.into_iter().collect() })
}
