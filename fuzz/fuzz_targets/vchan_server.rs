//! A vchan server under four clients that play any script of acts, and then an honest one.
//!
//! The body is also the property test `crates/xen-vchan/tests/crowd.rs`.
#![no_main]

#[path = "../../crates/xen-vchan/tests/common/mod.rs"]
mod common;
#[path = "../../crates/xen-vchan/tests/common/crowd.rs"]
mod crowd;

libfuzzer_sys::fuzz_target!(|script: &[u8]| crowd::play(script));
