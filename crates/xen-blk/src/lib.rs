#![doc = include_str!("../README.md")]
//! Xen's block protocol (io/blkif.h): the wire format, the frontend, the backend, and the handshake
//! that joins them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// Compiles the examples of the guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/block.md")]
struct Guide;

pub mod back;
pub mod front;
pub mod protocol;
pub mod toolstack;
