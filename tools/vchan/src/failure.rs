//! Why the tool ended otherwise than asked, and the exit code for it.

use std::fmt::Display;
use xen_vchan::{ConfigError, Error};

/// The exit code, by its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Anything without a code of its own.
    Other = 1,
    /// What was asked for cannot be.
    Usage = 2,
    /// There is no such domain, or nobody in it.
    NoServer = 3,
    /// The peer died.
    Died = 4,
    /// The peer broke the protocol.
    Protocol = 5,
}

/// What went wrong, for the user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// Its exit code.
    pub code: Code,
    /// What happened, with its cure where there is one.
    pub text: String,
}

impl Failure {
    /// A failure with this code and text.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Failure { code, text: text.into() }
    }
}

impl From<xen_store::Error> for Failure {
    fn from(error: xen_store::Error) -> Self {
        Failure::new(Code::Other, error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Code::Usage, error.to_string())
    }
}

impl<E: Display> From<Error<E>> for Failure {
    fn from(error: Error<E>) -> Self {
        let code = match &error {
            Error::Platform(_) | Error::Store(_) | Error::Closed => Code::Other,
            Error::Peer(_) => Code::Protocol,
            Error::Died(_) => Code::Died,
            Error::Timeout | Error::NoServer { .. } | Error::Stale { .. } | Error::Busy { .. } => Code::NoServer,
            Error::Config(_) => Code::Usage,
        };
        Failure::new(code, error.to_string())
    }
}
