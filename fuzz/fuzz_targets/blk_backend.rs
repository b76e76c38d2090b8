//! A block backend that plays any script of acts, in xenstore and on the rings, against the
//! frontend.
//!
//! `fuzz/run blk_backend` fuzzes with stable Rust, `cargo +nightly fuzz run blk_backend` with
//! cargo-fuzz and an address sanitizer. The body is also the property test
//! `crates/xen-blk/tests/front_anything.rs`.
#![no_main]

#[path = "../../crates/xen-blk/tests/common/mod.rs"]
mod common;
#[path = "../../crates/xen-blk/tests/common/play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|script: &[u8]| play::play(script));
