#![doc = include_str!("../README.md")]
//! Xen's rings over memory that a peer can change at any moment.
//!
//! [`slots`] is the ring of requests and responses, of which block devices are made. [`bytes`]
//! moves bytes through one ring and never waits; [`notify`] is the protocol by which two sides of a
//! ring sleep without missing each other; [`stream`] joins two rings and an event channel to a
//! reader and a writer, as xenstore and the console need them. Which page, which offsets and which
//! peer is the caller's business.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bytes;
pub mod notify;
pub mod slots;
pub mod stream;
mod transfer;

pub use transfer::Piece;
