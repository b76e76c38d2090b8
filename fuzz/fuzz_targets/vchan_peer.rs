//! A vchan peer that plays any script of acts, against a server and against a client.
//!
//! `fuzz/run vchan_peer` fuzzes with stable Rust, `cargo +nightly fuzz run vchan_peer` with
//! cargo-fuzz and an address sanitizer. The body is also the property test
//! `crates/xen-vchan/tests/anything.rs`.
#![no_main]

#[path = "../../crates/xen-vchan/tests/common/mod.rs"]
mod common;
#[path = "../../crates/xen-vchan/tests/common/play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|script: &[u8]| play::play(script));
