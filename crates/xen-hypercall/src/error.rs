//! Errors that Xen returns.

use core::fmt;

/// A negative result of a hypercall: an error number of `errno.h` (from the hypervisor) or, for the
/// grant table's single operations, a `GNTST_*` status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The call failed as a whole, with this (positive) error number.
    Errno(i32),
    /// The grant operation failed with this (negative) status.
    Grant(i16),
}

impl Error {
    /// Splits a hypercall's result into value and error.
    pub(crate) fn check(result: i64) -> Result<u64, Error> {
        u64::try_from(result).map_err(|_| Error::Errno(i32::try_from(-result).unwrap_or(i32::MAX)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Errno(number) => write!(f, "{} ({number})", errno_name(number)),
            Error::Grant(status) => write!(f, "{} ({status})", grant_name(status)),
        }
    }
}

impl core::error::Error for Error {}

/// The name of an error number, by `errno.h`.
fn errno_name(number: i32) -> &'static str {
    match number {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        7 => "E2BIG",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        22 => "EINVAL",
        28 => "ENOSPC",
        38 => "ENOSYS",
        95 => "EOPNOTSUPP",
        _ => "error",
    }
}

/// The name of a grant operation's status, by `grant_table.h`.
fn grant_name(status: i16) -> &'static str {
    match status {
        -1 => "general error",
        -2 => "bad domain",
        -3 => "bad grant reference",
        -4 => "bad handle",
        -5 => "bad virtual address",
        -6 => "bad device address",
        -8 => "permission denied",
        -9 => "bad page",
        -12 => "try again",
        -13 => "no space",
        _ => "grant error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate alloc;
    use alloc::string::ToString;

    #[test]
    fn results_split_and_errors_have_names() {
        assert_eq!(Error::check(7), Ok(7));
        let error = Error::check(-22).unwrap_err();
        assert_eq!(error.to_string(), "EINVAL (22)");
        assert_eq!(Error::Grant(-3).to_string(), "bad grant reference (-3)");
    }
}
