//! The page that the two ends of a vchan share: `io/libxenvchan.h`, `struct vchan_interface`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Indices of a ring, in bytes modulo 2^32 (`struct ring_shared`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Indices {
    /// Consumer index; written by the reader.
    pub cons: u32,
    /// Producer index; written by the writer.
    pub prod: u32,
}

layout!(Indices, 8, cons @ 0, prod @ 4);

/// The page's head. Behind it, at [`GRANTS`], follows one grant reference for each page of a ring
/// that does not lie in this page: first those of the left ring, then those of the right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Interface {
    /// The ring from the client to the server.
    pub left: Indices,
    /// The ring from the server to the client.
    pub right: Indices,
    /// The left ring's size as a power of two. Set by the server before anyone else sees the page.
    pub left_order: u16,
    /// The right ring's size, likewise.
    pub right_order: u16,
    /// Liveness of the client.
    pub cli_live: Live,
    /// Liveness of the server.
    pub srv_live: Live,
    /// Events that the server wants from the client ([`NOTIFY_WRITE`], [`NOTIFY_READ`]): set by the
    /// server, looked at and cleared by the client.
    pub cli_notify: u8,
    /// Events that the client wants from the server: set by the client, looked at and cleared by
    /// the server.
    pub srv_notify: u8,
}

layout!(
    Interface,
    24,
    left @ 0,
    right @ 8,
    left_order @ 16,
    right_order @ 18,
    cli_live @ 20,
    srv_live @ 21,
    cli_notify @ 22,
    srv_notify @ 23,
);

/// Liveness of an end (`cli_live`, `srv_live`). A peer can write any byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Live(pub u8);

impl Live {
    /// It has left.
    pub const EXITED: Live = Live(0);
    /// It is connected.
    pub const CONNECTED: Live = Live(1);
    /// No client has come yet; only in `cli_live`.
    pub const NOT_YET: Live = Live(2);
}

/// "Send an event when you have written" (`VCHAN_NOTIFY_WRITE`).
pub const NOTIFY_WRITE: u8 = 0x1;
/// "Send an event when you have read" (`VCHAN_NOTIFY_READ`).
pub const NOTIFY_READ: u8 = 0x2;

/// Offset of the list of grant references in the page, in bytes (`grants`).
pub const GRANTS: usize = size_of::<Interface>();

/// The order of a ring that lies at [`ORDER_10_AT`] in the page itself.
pub const ORDER_10: u8 = 10;
/// Offset of a ring of order 10, in bytes from the start of the page.
pub const ORDER_10_AT: usize = 1024;
/// The order of a ring that lies at [`ORDER_11_AT`] in the page itself.
pub const ORDER_11: u8 = 11;
/// Offset of a ring of order 11, in bytes from the start of the page.
pub const ORDER_11_AT: usize = 2048;
/// The smallest order of a ring that has pages of its own, `2^(order - 12)` of them.
pub const ORDER_PAGES: u8 = 12;
