//! The xenstore wire protocol: message header, message types, limits, error names and the shared
//! page of a domain's connection. Source: `io/xs_wire.h`; what the payloads mean stands in Xen's
//! `docs/misc/xenstore.txt`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header of every message, in native byte order (`struct xsd_sockmsg`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Type of the message.
    pub kind: MessageType,
    /// Chosen by the client; the answer carries the same.
    pub req_id: u32,
    /// The transaction, or 0 for none.
    pub tx_id: u32,
    /// Bytes of payload that follow; at most [`PAYLOAD_MAX`].
    pub len: u32,
}

layout!(Header, 16, kind @ 0, req_id @ 4, tx_id @ 8, len @ 12);

/// Type of a message (`enum xsd_sockmsg_type`). Any number can come in; the names are those that
/// this project uses.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct MessageType(pub u32);

#[expect(
    missing_docs,
    reason = "the header's names; the client's functions of the same names say what they do"
)]
impl MessageType {
    pub const DIRECTORY: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const GET_PERMS: Self = Self(3);
    pub const WATCH: Self = Self(4);
    pub const UNWATCH: Self = Self(5);
    pub const TRANSACTION_START: Self = Self(6);
    pub const TRANSACTION_END: Self = Self(7);
    pub const GET_DOMAIN_PATH: Self = Self(10);
    pub const WRITE: Self = Self(11);
    pub const MKDIR: Self = Self(12);
    pub const RM: Self = Self(13);
    pub const SET_PERMS: Self = Self(14);
    pub const WATCH_EVENT: Self = Self(15);
    pub const ERROR: Self = Self(16);
    pub const IS_DOMAIN_INTRODUCED: Self = Self(17);
    pub const DIRECTORY_PART: Self = Self(22);
}

/// The longest payload in bytes (`XENSTORE_PAYLOAD_MAX`). xenstored ends the connection of a client
/// that sends more.
pub const PAYLOAD_MAX: usize = 4096;
/// The longest path that starts with `/`, in bytes (`XENSTORE_ABS_PATH_MAX`).
pub const ABS_PATH_MAX: usize = 3072;
/// The longest path that does not start with `/`, in bytes (`XENSTORE_REL_PATH_MAX`).
pub const REL_PATH_MAX: usize = 2048;

/// Payloads of ERROR messages: the names of errors, as in `xsd_errors`, those that this project
/// tells apart.
#[expect(missing_docs, reason = "the names are what they say in errno(3)")]
pub mod error_name {
    pub const EINVAL: &str = "EINVAL";
    pub const EACCES: &str = "EACCES";
    pub const EEXIST: &str = "EEXIST";
    pub const ENOENT: &str = "ENOENT";
    pub const ENOMEM: &str = "ENOMEM";
    pub const ENOSPC: &str = "ENOSPC";
    pub const EIO: &str = "EIO";
    pub const ENOSYS: &str = "ENOSYS";
    pub const EROFS: &str = "EROFS";
    pub const EBUSY: &str = "EBUSY";
    pub const EAGAIN: &str = "EAGAIN";
    pub const E2BIG: &str = "E2BIG";
    pub const EPERM: &str = "EPERM";
}

/// Bytes in each of the page's two rings (`XENSTORE_RING_SIZE`).
pub const RING_SIZE: usize = 1024;

/// The page that a domain shares with xenstored (`struct xenstore_domain_interface`). It is never
/// mapped as this type: the fields' offsets are what it is for.
///
/// The indices run on freely modulo 2^32 and are not 0 when a kernel starts whose firmware or
/// predecessor used the page.
#[repr(C)]
pub struct DomainInterface {
    /// The ring of requests to xenstored.
    pub req: [u8; RING_SIZE],
    /// The ring of replies and watch events.
    pub rsp: [u8; RING_SIZE],
    /// Written by xenstored: how far it has taken requests.
    pub req_cons: u32,
    /// Written by the domain: how far it has put requests.
    pub req_prod: u32,
    /// Written by the domain: how far it has taken replies.
    pub rsp_cons: u32,
    /// Written by xenstored: how far it has put replies.
    pub rsp_prod: u32,
    /// Features of xenstored (`XENSTORE_SERVER_FEATURE_*`).
    pub server_features: u32,
    /// 0 while connected, 1 while a reconnection that the domain asked for goes on
    /// (`XENSTORE_CONNECTED` and on).
    pub connection: u32,
    /// Reason for which xenstored gave the connection up, 0 for none (`XENSTORE_ERROR_*`).
    pub error: u32,
}

/// Bit of [`DomainInterface::server_features`]: a domain can ask for a reconnection
/// (`XENSTORE_SERVER_FEATURE_RECONNECTION`).
pub const SERVER_FEATURE_RECONNECTION: u32 = 1;
/// Bit of [`DomainInterface::server_features`]: [`DomainInterface::error`] is in use
/// (`XENSTORE_SERVER_FEATURE_ERROR`).
pub const SERVER_FEATURE_ERROR: u32 = 2;
/// Value of [`DomainInterface::connection`] while there is one (`XENSTORE_CONNECTED`).
pub const CONNECTED: u32 = 0;
/// Value of [`DomainInterface::connection`] from the domain's request for a reconnection until
/// xenstored has made it (`XENSTORE_RECONNECT`).
pub const RECONNECT: u32 = 1;

layout!(
    DomainInterface,
    2076,
    req @ 0,
    rsp @ 1024,
    req_cons @ 2048,
    req_prod @ 2052,
    rsp_cons @ 2056,
    rsp_prod @ 2060,
    server_features @ 2064,
    connection @ 2068,
    error @ 2072,
);
