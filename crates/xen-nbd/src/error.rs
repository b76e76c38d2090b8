//! Errors, and their numbers in the protocol.

use std::io;

/// A fault of a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The server does not offer what the client needs.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A violation of the protocol by the peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the peer broke the NBD protocol: {0}")]
pub struct ProtocolError(pub String);

impl ProtocolError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        ProtocolError(text.into())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Protocol(error) => io::Error::new(io::ErrorKind::InvalidData, error),
            Error::Refused(_) => io::Error::new(io::ErrorKind::Unsupported, error),
        }
    }
}

/// Error numbers of the protocol.
pub mod errno {
    use std::io;

    /// Operation not permitted.
    pub const EPERM: u32 = 1;
    /// Input or output error.
    pub const EIO: u32 = 5;
    /// No memory.
    pub const ENOMEM: u32 = 12;
    /// Invalid argument.
    pub const EINVAL: u32 = 22;
    /// No space left.
    pub const ENOSPC: u32 = 28;
    /// Value too large.
    pub const EOVERFLOW: u32 = 75;
    /// Operation not supported.
    pub const ENOTSUP: u32 = 95;
    /// The server is about to end.
    pub const ESHUTDOWN: u32 = 108;

    /// Returns the number of an error of a disk.
    pub fn of(error: &io::Error) -> u32 {
        use io::ErrorKind::*;
        match error.kind() {
            PermissionDenied | ReadOnlyFilesystem => EPERM,
            OutOfMemory => ENOMEM,
            // The protocol has ENOTSUP for one case alone, which is not offered here.
            InvalidInput | Unsupported => EINVAL,
            StorageFull | QuotaExceeded | FileTooLarge => ENOSPC,
            _ => EIO,
        }
    }

    /// Returns the error that a number of a server means. One that the protocol does not have is
    /// treated as EINVAL.
    pub fn error(number: u32, text: &str) -> io::Error {
        use io::ErrorKind::*;
        let (kind, name) = match number {
            EPERM => (PermissionDenied, "operation not permitted (EPERM)"),
            EIO => (Other, "input/output error (EIO)"),
            ENOMEM => (OutOfMemory, "no memory (ENOMEM)"),
            ENOSPC => (StorageFull, "no space left (ENOSPC)"),
            EOVERFLOW => (InvalidInput, "value too large (EOVERFLOW)"),
            ENOTSUP => (Unsupported, "operation not supported (ENOTSUP)"),
            ESHUTDOWN => (Other, "the server is about to end (ESHUTDOWN)"),
            _ => (InvalidInput, "invalid argument (EINVAL)"),
        };
        let more = if text.is_empty() { String::new() } else { format!(": {text:?}") };
        io::Error::new(kind, format!("the server answers: {name}{more}"))
    }
}
