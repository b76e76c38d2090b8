//! `xen-blk`'s backend, copied when this crate is built, with known bugs in it: [`bugs()`]. Each is
//! off until [`mutant::switch`] turns it on, so one build serves all of them.
//!
//! The bugs are edits of the backend's source. If one does not fit any more, the build says so.
#![forbid(unsafe_code)]
#![allow(clippy::all, reason = "edited copies")]

extern crate alloc;

mod bugs;
pub mod mutant;

pub use bugs::{Bug, all as bugs};

include!(concat!(env!("OUT_DIR"), "/src/lib.rs"));
