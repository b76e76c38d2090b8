//! Errors as a user sees them, and their exit codes.

use std::fmt::Display;
use std::process::ExitCode;

/// The meaning of an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// 1: anything without a code of its own.
    Other,
    /// 2: the command line asks for something that cannot be.
    Usage,
    /// 3: there is no such domain, server or disk.
    Missing,
    /// 4: the other domain or its program died, or somebody else removed the disk.
    Gone,
    /// 5: the peer broke the protocol.
    Protocol,
    /// 5: the disk was taken from a guest that did not release it.
    Forced,
    /// 6: written data may not be kept.
    Storage,
    /// 6: `--linger` ended the connection, and the peer might still have sent something.
    Cut,
    /// The exit status of a command that ran at the other end.
    Status(u8),
}

impl Code {
    /// The number that the process exits with.
    pub fn number(self) -> u8 {
        match self {
            Code::Other => 1,
            Code::Usage => 2,
            Code::Missing => 3,
            Code::Gone => 4,
            Code::Protocol | Code::Forced => 5,
            Code::Storage | Code::Cut => 6,
            Code::Status(status) => status,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.number())
    }
}

/// An error for the user: its exit code, and a text with the cure where there is one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// The message.
    pub text: String,
}

impl Failure {
    /// Creates a failure with a code and a message.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Failure { code, text: text.into() }
    }

    /// Creates a failure without a code of its own.
    pub fn other(error: impl Display) -> Self {
        Failure::new(Code::Other, error.to_string())
    }
}

impl From<xen_store::Error> for Failure {
    fn from(error: xen_store::Error) -> Self {
        Failure::other(error)
    }
}

#[cfg(feature = "disk")]
impl From<xen_blk::back::Error> for Failure {
    fn from(error: xen_blk::back::Error) -> Self {
        Failure::other(error)
    }
}

#[cfg(feature = "disk")]
impl From<xen_storage::stack::StackError> for Failure {
    fn from(error: xen_storage::stack::StackError) -> Self {
        use xen_storage::stack::StackError;
        let code = match error {
            StackError::Syntax { .. } => Code::Usage,
            _ => Code::Other,
        };
        Failure::new(code, error.to_string())
    }
}

#[cfg(feature = "vchan")]
impl From<xen_vchan::ConfigError> for Failure {
    fn from(error: xen_vchan::ConfigError) -> Self {
        Failure::new(Code::Usage, error.to_string())
    }
}

#[cfg(feature = "vchan")]
impl<E: Display> From<xen_vchan::Error<E>> for Failure {
    fn from(error: xen_vchan::Error<E>) -> Self {
        use xen_vchan::Error;
        let code = match &error {
            Error::Peer(_) => Code::Protocol,
            Error::Died(_) => Code::Gone,
            Error::Timeout | Error::NoServer { .. } | Error::Stale { .. } | Error::Busy { .. } => {
                Code::Missing
            }
            Error::Config(_) => Code::Usage,
            _ => Code::Other,
        };
        Failure::new(code, error.to_string())
    }
}
