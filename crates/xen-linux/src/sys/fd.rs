//! From the standard library's descriptors to rustix's, which without its `std` feature has a type of its own.

use rustix::fd::{FromRawFd, OwnedFd};
use std::os::fd::IntoRawFd;

/// The same open descriptor, in rustix's type.
pub(crate) fn owned(fd: impl Into<std::os::fd::OwnedFd>) -> OwnedFd {
    let raw = fd.into().into_raw_fd();
    // SAFETY: `into_raw_fd` just gave up the ownership of this open descriptor, so that there is one owner again.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
