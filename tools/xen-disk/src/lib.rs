//! The tool `xen-disk`, but for its `main`: storages, layers over them, and how they are served to a domain, over any
//! platform, so that it can be tested without Xen.
#![deny(unsafe_code)]

mod args;
pub mod config;
pub mod control;
mod convert;
pub mod disk;
pub mod domain;
mod failure;
mod generate;
pub mod layer;
pub mod pool;
pub mod report;
pub mod served;
pub mod stack;
pub mod storage;

pub use args::*;
pub use convert::{Copied, Progress, convert};
pub use failure::{Code, Failure};
pub use generate::generate;
