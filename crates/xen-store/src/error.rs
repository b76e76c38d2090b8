//! Errors by the side to blame: xenstored said no ([`ErrorKind`]), it broke the protocol
//! ([`Malformed`]), or the stream to it ended ([`TransportError`]).

use crate::Op;
use crate::path::PathError;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::fmt;
use core::ops::Deref;
use xen_abi::xs_wire::{MessageType, error_name};
use xen_platform::{DomId, Quoted};

/// Why a request failed: dereferences to a [`Refusal`]. As large as a pointer, for it is handed on
/// at many steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error(Box<Refusal>);

/// A request, and what went wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The request.
    pub op: Op,
    /// The path it was asked of; for the requests about a domain, that domain's folder; empty where
    /// there is none.
    pub path: String,
    /// The reason.
    pub kind: ErrorKind,
}

impl Error {
    /// That `op`, asked of `path`, failed with `kind`.
    pub fn new(op: Op, path: &str, kind: impl Into<ErrorKind>) -> Self {
        Self::boxed(op, path.into(), kind.into())
    }

    pub(crate) fn of_domain(op: Op, domain: DomId, kind: ErrorKind) -> Self {
        Self::boxed(op, crate::path::of_domain(domain), kind)
    }

    #[cold]
    fn boxed(op: Op, path: String, kind: ErrorKind) -> Self {
        Error(Box::new(Refusal { op, path, kind }))
    }

    /// Returns true if the path does not exist (or its parent, where that is needed).
    pub fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NoEntry)
    }

    /// Returns true if the connection to xenstored is over, so that nothing can be asked any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, ErrorKind::Closed(_))
    }
}

impl Deref for Error {
    type Target = Refusal;

    fn deref(&self) -> &Refusal {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { op, path, kind } = &**self;
        let gap = if path.is_empty() { "" } else { " " };
        write!(f, "xenstore: cannot {op}{gap}{path}: {kind}")
    }
}

impl core::error::Error for Error {}

/// Reason for which a request failed. The upper ones are xenstored's answers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// ENOENT.
    #[error("there is no such entry (ENOENT)")]
    NoEntry,
    /// EACCES.
    #[error("this domain may not; the entry's owner or dom0 must permit it (EACCES)")]
    Access,
    /// EAGAIN, for a transaction also after as many attempts as are made.
    #[error("other clients keep changing the same entries; try again later (EAGAIN)")]
    Again,
    /// EEXIST.
    #[error("it exists already (EEXIST)")]
    Exists,
    /// EINVAL.
    #[error(
        "xenstored finds the request invalid; a relative path works only inside a domain (EINVAL)"
    )]
    Invalid,
    /// ENOSPC.
    #[error(
        "this domain's xenstore quota is used up; remove entries or raise the quota in dom0 \
         (ENOSPC)"
    )]
    NoSpace,
    /// E2BIG.
    #[error("it is more than xenstored's limits allow (E2BIG)")]
    TooBig,
    /// EPERM.
    #[error("only dom0 may do this (EPERM)")]
    NotPermitted,
    /// EBUSY.
    #[error("xenstored is busy with it (EBUSY)")]
    Busy,
    /// ENOMEM.
    #[error("xenstored has no memory left (ENOMEM)")]
    NoMemory,
    /// EIO.
    #[error("xenstored has trouble with its database; see its log in dom0 (EIO)")]
    Io,
    /// ENOSYS.
    #[error("this xenstored does not know the request (ENOSYS)")]
    NotSupported,
    /// EROFS.
    #[error("xenstored takes no changes now (EROFS)")]
    ReadOnly,
    /// Any other error, with xenstored's name for it.
    #[error("xenstored says {0}")]
    Other(String),
    /// The connection is over; it was not sent, or whether it was carried out is not known.
    #[error(transparent)]
    Closed(#[from] TransportError),
    /// The path cannot be; nothing was sent.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The request has too many bytes; nothing was sent.
    #[error("the request would be {len} bytes, xenstore takes {max}")]
    TooLong {
        /// Bytes of payload: path, value and separators.
        len: usize,
        /// The most that can be sent.
        max: usize,
    },
    /// The value should be text and is not UTF-8.
    #[error("the value is not text")]
    NotText,
    /// The value should be a decimal number of the wanted size.
    #[error("the value {} is not a decimal number in range", Quoted(.0))]
    NotNumber(String),
}

impl ErrorKind {
    /// The meaning of an ERROR message's text.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            error_name::ENOENT => ErrorKind::NoEntry,
            error_name::EACCES => ErrorKind::Access,
            error_name::EAGAIN => ErrorKind::Again,
            error_name::EEXIST => ErrorKind::Exists,
            error_name::EINVAL => ErrorKind::Invalid,
            error_name::ENOSPC => ErrorKind::NoSpace,
            error_name::E2BIG => ErrorKind::TooBig,
            error_name::EPERM => ErrorKind::NotPermitted,
            error_name::EBUSY => ErrorKind::Busy,
            error_name::ENOMEM => ErrorKind::NoMemory,
            error_name::EIO => ErrorKind::Io,
            error_name::ENOSYS => ErrorKind::NotSupported,
            error_name::EROFS => ErrorKind::ReadOnly,
            other => ErrorKind::Other(other.to_string()),
        }
    }
}

/// Why the connection to xenstored is over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// xenstored ended it between two messages.
    #[error("xenstored ended the connection")]
    Ended,
    /// It ended within a message.
    #[error("the connection to xenstored ended in the middle of a message")]
    Truncated,
    /// Nothing can be read any more, with the stream's reason.
    #[error("cannot read from xenstored: {0}")]
    Read(String),
    /// Nothing can be written any more, with the stream's reason.
    #[error("cannot write to xenstored: {0}")]
    Write(String),
    /// xenstored broke the protocol.
    #[error("xenstored broke the protocol: {0}")]
    Malformed(#[from] Malformed),
    /// The driver's future was dropped.
    #[error("the connection to xenstored was given up here")]
    Dropped,
}

/// A message that breaks the protocol.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message of type {} for request {req_id}: {flaw}", kind.0)]
pub struct Malformed {
    /// Kind that the message claims.
    pub kind: MessageType,
    /// Which request it says it answers.
    pub req_id: u32,
    /// Its flaw.
    pub flaw: Flaw,
}

/// A flaw of a message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// The header announces more than a message may have.
    #[error("a payload of {0} bytes is announced")]
    Length(u32),
    /// No request with that number is under way.
    #[error("there is no such request")]
    UnknownRequest,
    /// The request was another one.
    #[error("the request was of type {}", .0.0)]
    WrongType(MessageType),
    /// A watch event with a token that was never given.
    #[error("the watch token {} was never given", Quoted(.0))]
    UnknownToken(String),
    /// A watch event for a path outside what is watched.
    #[error("the event's path {} is not within the watched one", Quoted(.0))]
    Stray(String),
    /// Text is not UTF-8.
    #[error("the text is not UTF-8")]
    NotText,
    /// The last string does not end with a NUL.
    #[error("the last string has no end")]
    NoNul,
    /// There is no string where at least one must be.
    #[error("there is no string in it")]
    NoStrings,
    /// There are more or fewer strings than there must be.
    #[error("there are {found} strings instead of {expected}")]
    Strings {
        /// Number found.
        found: usize,
        /// Number expected.
        expected: usize,
    },
    /// The text is not one of those that can stand there.
    #[error("unexpected text {}", Quoted(.0))]
    Text(String),
    /// A path or the name of a child cannot be one.
    #[error("{} cannot be a name", Quoted(.0))]
    Name(String),
    /// A permission is not a letter and a domain's number.
    #[error("{} is no permission", Quoted(.0))]
    Permission(String),
    /// A part of a list of children has neither children nor the end mark.
    #[error("the part of the list is empty")]
    NoProgress,
}
