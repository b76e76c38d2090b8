#![doc = include_str!("../README.md")]
//! The services that a Xen hypervisor gives a domain, as traits.
//!
//! Protocol crates (`xen-ring`, `xen-store`, `xen-vchan`) are generic over [`Platform`] and know
//! nothing else of the world. Three crates implement it: the kernel over raw hypercalls,
//! `xen-linux` over `/dev/xen/*`, and `xen-sim` in memory for tests. Everything here is
//! single-threaded and never blocks: a function that waits is named `poll_*`.
#![no_std]
#![deny(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("xen-platform copies shared memory with instructions of x86-64");

extern crate alloc;

mod busy_poll;
mod copy;
mod event;
mod ids;
mod mem;
mod platform;
mod quoted;
#[allow(unsafe_code)]
mod raw;
mod time;

pub use busy_poll::BusyPoll;
pub use copy::{CopyBuffer, CopySegment};
pub use event::EventCounter;
pub use ids::{DomId, GrantRef, PAGE_SIZE, Port};
pub use mem::{IndexMemory, SharedMem};
pub use platform::{Access, Channel, Granted, Platform, ReadySince, yield_now};
pub use quoted::Quoted;
pub use raw::{RawShared, copy as copy_raw};
pub use time::{Clock, Elapsed, Time, Timers, deadline, sleep};
