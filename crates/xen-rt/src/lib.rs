//! The runtime of a unikernel: boots under PVH, is a [`Platform`](xen_platform::Platform) over raw
//! hypercalls, and runs an `async fn main` with the console, xenstore and the crash path in place.
//!
//! [`start`] is the table of contents. Everything runs on one virtual CPU, in tasks of one
//! executor; interrupts are on only while it sleeps (see [`arch::idle`]).
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! xen_rt::entry!(main);
//!
//! async fn main(domain: xen_rt::Domain) -> xen_rt::Reason {
//!     log::info!("hello from domain {:?}", domain.id());
//!     xen_rt::control::wait(&domain).await
//! }
//! ```
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod arch;
pub mod balloon;
mod boot;
pub mod console;
pub mod control;
pub mod crash;
mod domain;
mod entry;
#[doc(hidden)]
pub mod libc;
mod log;
pub mod memory;
mod one_cpu;
pub mod options;
// No part of this crate's own tests, which have another entry.
#[cfg(not(test))]
mod pvh;
mod report;
pub mod shell;
mod start_info;
pub mod xen;
mod xenstore;

pub use boot::start;
pub use domain::Domain;
pub use memory::Heap;
pub use xen_abi::sched::Reason;
pub use xen_platform::DomId;
