//! The console ring: `io/console.h`, `struct xencons_interface`.

/// Bytes of the ring to the guest (`in`), which starts at offset 0.
pub const IN_SIZE: u32 = 1024;
/// Bytes of the ring from the guest (`out`), which starts behind the other.
pub const OUT_SIZE: u32 = 2048;
/// Offset of `in`.
pub const IN: usize = 0;
/// Offset of `out`.
pub const OUT: usize = 1024;
/// Offset of `in_cons`.
pub const IN_CONS: usize = 3072;
/// Offset of `in_prod`.
pub const IN_PROD: usize = 3076;
/// Offset of `out_cons`.
pub const OUT_CONS: usize = 3080;
/// Offset of `out_prod`.
pub const OUT_PROD: usize = 3084;

/// The I/O port that takes a guest's bytes for the hypervisor's own log
/// (`XEN_HVM_DEBUGCONS_IOPORT`, `arch-x86/xen.h`).
pub const DEBUG_PORT: u16 = 0xe9;
