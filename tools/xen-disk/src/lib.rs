//! The tool `xen-disk`, but for its `main`: storages, layers over them, and how they are served to a domain.
#![deny(unsafe_code)]

pub mod layer;
pub mod stack;
pub mod storage;
