//! The four places where the compiler cannot check: ioctl(2), mmap(2), taking over a descriptor,
//! and a child before execve(2). And the system calls that are counted in tests.

mod calls;
mod copy;
mod fd;
mod hypercall;
mod ioctl;
mod map;
mod session;

#[cfg(test)]
pub(crate) use calls::counting::calls;
pub(crate) use calls::{poll, read, write};
pub(crate) use copy::copy_segments;
pub(crate) use fd::{borrowed, owned, to_std};
pub(crate) use hypercall::{FixedYield, is_interdomain, yield_processor};
pub(crate) use ioctl::{
    alloc_grants, bind_interdomain, bind_unbound, free_grants, insert_grants, notify,
    remove_grants, restrict, set_unmap_notify,
};
pub(crate) use map::Mapping;
pub(crate) use session::lead_session;
