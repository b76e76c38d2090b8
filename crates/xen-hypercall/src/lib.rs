#![doc = include_str!("../README.md")]
//! Hypercalls from a 64-bit x86 HVM or PVH guest.
//!
//! [`raw`] makes the call, with `vmcall` or `vmmcall` in line (hypercall pages are deprecated:
//! XSA-466, XSA-469); the other modules have one typed function for each operation that the project
//! uses. [`raw::init`] must be called first.
#![no_std]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("xen-hypercall makes the hypercalls of 64-bit x86");

mod error;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod raw;
pub mod sched;
pub mod vcpu;
pub mod version;

pub use error::Error;
