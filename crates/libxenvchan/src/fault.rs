//! Reasons for which a call fails, and the errno for each.

use core::ffi::c_int;
use std::io;
use xen_store::ErrorKind;
use xen_vchan::{ConfigError, Error};

/// The reason for which a call fails: the errno for the program, and the text for its log.
#[derive(Debug)]
pub struct Fault {
    /// The value of errno.
    pub errno: c_int,
    /// The text.
    pub text: String,
    /// True if the text is of use to someone who did not ask for it: not that a server is not there
    /// yet, or that a peer has left.
    pub is_news: bool,
}

impl Fault {
    /// Makes a fault that is news.
    pub fn new(errno: c_int, text: impl Into<String>) -> Self {
        Fault { errno, text: text.into(), is_news: true }
    }
}

impl From<Error<xen_linux::Error>> for Fault {
    fn from(error: Error<xen_linux::Error>) -> Self {
        let errno = match &error {
            Error::Platform(refused) => platform(refused),
            other => errno(other),
        };
        let is_news = !matches!(
            error,
            Error::Closed
                | Error::Died(_)
                | Error::NoServer { .. }
                | Error::Stale { .. }
                | Error::Busy { .. }
        );
        Fault { errno, text: error.to_string(), is_news }
    }
}

impl From<xen_linux::Error> for Fault {
    fn from(error: xen_linux::Error) -> Self {
        Fault::new(platform(&error), error.to_string())
    }
}

/// Returns the errno for an error of the platform.
fn platform(error: &xen_linux::Error) -> c_int {
    match error {
        xen_linux::Error::Open { reason, .. } | xen_linux::Error::Refused { reason, .. } => {
            reason.raw_os_error().unwrap_or(libc::EIO)
        }
        xen_linux::Error::NoXen => libc::ENODEV,
        _ => libc::EIO,
    }
}

/// Returns the errno for an error of a vchan, on any platform.
pub fn errno<E>(error: &Error<E>) -> c_int {
    match error {
        Error::Peer(_) => libc::EPROTO,
        Error::Closed => libc::EPIPE,
        Error::Died(_) => libc::ECONNRESET,
        Error::Timeout => libc::ETIMEDOUT,
        Error::NoServer { .. } => libc::ENOENT,
        Error::Stale { .. } => libc::ECONNREFUSED,
        Error::Busy { .. } => libc::EBUSY,
        Error::Config(ConfigError::PacketTooLarge { .. }) => libc::EMSGSIZE,
        Error::Config(_) => libc::EINVAL,
        Error::Store(error) => match error.kind {
            ErrorKind::Access | ErrorKind::NotPermitted => libc::EACCES,
            _ => libc::EIO,
        },
        _ => libc::EIO,
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::new(error.raw_os_error().unwrap_or(libc::EIO), error.to_string())
    }
}
