//! Why the tool ended otherwise than asked, and the exit code for it.

use crate::stack::StackError;
use std::fmt::Display;

/// The exit code, by its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Anything without a code of its own.
    Other = 1,
    /// What was asked for cannot be.
    Usage = 2,
    /// There is no such domain or no such disk.
    Missing = 3,
    /// The domain died, or somebody else removed the disk.
    Gone = 4,
    /// The disk was taken from a guest that did not let go of it.
    Forced = 5,
    /// What was written may not be kept.
    Storage = 6,
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

    /// A failure without a code of its own.
    pub fn other(error: impl Display) -> Self {
        Failure::new(Code::Other, error.to_string())
    }
}

impl From<xen_store::Error> for Failure {
    fn from(error: xen_store::Error) -> Self {
        Failure::other(error)
    }
}

impl From<xen_blk::back::Error> for Failure {
    fn from(error: xen_blk::back::Error) -> Self {
        Failure::other(error)
    }
}

impl From<StackError> for Failure {
    fn from(error: StackError) -> Self {
        let code = match error {
            StackError::Syntax { .. } => Code::Usage,
            StackError::Open { .. } => Code::Other,
        };
        Failure::new(code, error.to_string())
    }
}
