#![doc = include_str!("../README.md")]
//! Xen's public structures, numbers and layouts, as its headers give them.
//!
//! Each item names the header it comes from, relative to `xen/include/public`; each structure's
//! size and offsets are asserted. Only what the project uses is here, for 64-bit x86
//! (`__XEN_INTERFACE_VERSION__` 0x00040d00).
#![no_std]
#![forbid(unsafe_code)]

/// Asserts a structure's size and the offsets of its fields at compile time.
macro_rules! layout {
    ($type:ty, $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(core::mem::offset_of!($type, $field) == $offset);)*
    };
}

pub mod blkif;
pub mod console;
pub mod cpuid;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod memory;
pub mod ring;
pub mod sched;
pub mod start_info;
pub mod vchan;
pub mod vcpu;
pub mod version;
pub mod xen;
pub mod xenbus;
pub mod xs_wire;
