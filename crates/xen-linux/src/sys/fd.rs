//! From the standard library's descriptors to rustix's, which without its `std` feature has a type
//! of its own, and back.

use rustix::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::fd::{BorrowedFd, FromRawFd as StdFromRawFd, IntoRawFd as StdIntoRawFd};

/// The same open descriptor, in rustix's type.
pub(crate) fn owned(fd: impl Into<std::os::fd::OwnedFd>) -> OwnedFd {
    let raw = StdIntoRawFd::into_raw_fd(fd.into());
    // SAFETY: `into_raw_fd` just gave up the ownership of this open descriptor, so that there is
    // one owner again.
    unsafe { FromRawFd::from_raw_fd(raw) }
}

/// The same open descriptor, in the standard library's type.
pub(crate) fn to_std(fd: OwnedFd) -> std::os::fd::OwnedFd {
    let raw = IntoRawFd::into_raw_fd(fd);
    // SAFETY: as above, with the types swapped.
    unsafe { StdFromRawFd::from_raw_fd(raw) }
}

/// The same open descriptor, borrowed in the standard library's type.
pub(crate) fn borrowed(fd: &OwnedFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor stays open for as long as its owner is borrowed.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}
