//! The steps of a child between fork(2) and execve(2).

use rustix::fd::BorrowedFd;
use rustix::process::{ioctl_tiocsctty, setsid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The descriptor of standard input (`STDIN_FILENO`, unistd.h).
const STDIN: i32 = 0;

/// Has the program of `command` lead a session, and take its standard input for the controlling
/// terminal of that session.
pub(crate) fn lead_session(command: &mut Command) {
    let lead = || {
        let error = |errno: rustix::io::Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        setsid().map_err(error)?;
        // SAFETY: the standard library has put the child's standard input there by now, and it
        // stays open.
        let stdin = unsafe { BorrowedFd::borrow_raw(STDIN) };
        ioctl_tiocsctty(stdin).map_err(error)
    };
    // SAFETY: `lead` makes two system calls, and neither allocates nor takes a lock, whatever
    // other threads of the parent held when it was forked.
    unsafe {
        command.pre_exec(lead);
    }
}
