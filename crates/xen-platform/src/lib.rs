//! What a Xen hypervisor gives a domain, as traits.
//!
//! Protocol crates (`xen-ring`, `xen-store`, `xen-vchan`) are generic over [`Platform`] and know nothing else of the
//! world. Three crates implement it: the kernel over raw hypercalls, `xen-linux` over `/dev/xen/*`, and `xen-sim` in
//! memory for tests. Everything here is single-threaded and never blocks: what has to wait is a `poll_*` function.
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod copy;
mod event;
mod ids;
mod mem;
mod platform;
#[allow(unsafe_code)]
mod raw;
mod time;

pub use copy::{Bytes, Piece};
pub use event::EventCounter;
pub use ids::{DomId, GrantRef, PAGE_SIZE, Port};
pub use mem::{IndexMemory, SharedMem};
pub use platform::{Access, Channel, Granted, Platform, ReadySince, pause};
pub use raw::{RawShared, copy as copy_raw};
pub use time::{Clock, Elapsed, Time, Timers, deadline, sleep};
