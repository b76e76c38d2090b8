//! The system calls of a data path, in one place so that a test can count them.

use rustix::event::{PollFd, Timespec};
use rustix::fd::AsFd;
use rustix::io::Result;

/// poll(2).
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize> {
    count();
    rustix::event::poll(fds, timeout)
}

/// read(2).
pub(crate) fn read(fd: impl AsFd, to: &mut [u8]) -> Result<usize> {
    count();
    rustix::io::read(fd, to)
}

/// write(2).
pub(crate) fn write(fd: impl AsFd, from: &[u8]) -> Result<usize> {
    count();
    rustix::io::write(fd, from)
}

#[cfg(not(test))]
fn count() {}

#[cfg(test)]
use counting::count;

#[cfg(test)]
pub(crate) mod counting {
    use std::cell::Cell;

    thread_local!(static CALLS: Cell<usize> = const { Cell::new(0) });

    pub(super) fn count() {
        CALLS.set(CALLS.get() + 1);
    }

    /// Number of calls that this thread has made so far.
    pub(crate) fn calls() -> usize {
        CALLS.get()
    }
}
