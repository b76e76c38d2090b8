//! The unikernel's image. The entry and all that it needs are `xen-rt`'s.
#![no_std]
#![no_main]

xen_rt::entry!(kernel::main);
