//! The sizes of the two rings, and where each size puts a ring.

use core::fmt;
use xen_abi::vchan::{GRANTS, ORDER_10, ORDER_10_AT, ORDER_11, ORDER_11_AT, ORDER_PAGES};

/// A ring's size as a power of two: 10 (1 KiB) to 20 (1 MiB).
///
/// The lower limit is io/libxenvchan.h's; the upper one is libxenvchan's own (`MAX_RING_SHIFT`,
/// tools/libs/vchan), which refuses larger rings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Order(u8);

impl Order {
    /// 1 KiB.
    pub const MIN: Order = Order(10);
    /// 1 MiB.
    pub const MAX: Order = Order(20);

    /// `None` if there are no rings of this order.
    pub const fn new(order: u16) -> Option<Order> {
        if Self::MIN.0 as u16 <= order && order <= Self::MAX.0 as u16 {
            Some(Order(order as u8))
        } else {
            None
        }
    }

    /// The smallest ring for at least `bytes` bytes. `None` if they are more than the largest
    /// holds.
    pub const fn for_size(bytes: usize) -> Option<Order> {
        if bytes > Self::MAX.bytes() as usize {
            return None;
        }
        let order = bytes.next_power_of_two().trailing_zeros() as u8;
        Some(Order(if order < Self::MIN.0 { Self::MIN.0 } else { order }))
    }

    /// The power.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u32 {
        1 << self.0
    }

    /// Returns the number of pages of the ring's own; none if it lies in the shared page.
    pub const fn pages(self) -> usize {
        if self.0 < ORDER_PAGES { 0 } else { 1 << (self.0 - ORDER_PAGES) }
    }

    /// Returns the offset of the ring in the shared page, in bytes; `None` if it has pages of its
    /// own.
    pub(crate) const fn place(self) -> Option<usize> {
        match self.0 {
            ORDER_10 => Some(ORDER_10_AT),
            ORDER_11 => Some(ORDER_11_AT),
            _ => None,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The orders of a vchan's two rings, which can stand beside each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orders {
    left: Order,
    right: Order,
}

/// Two rings whose sizes cannot stand beside each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OrderClash {
    /// Both would lie in the same part of the shared page.
    #[error("both rings cannot be of order {0}: make one of them larger")]
    SamePlace(Order),
    /// The list of the larger ring's pages reaches into the smaller ring.
    #[error(
        "a ring of order {large} has so long a list of pages that no ring of order {small} fits beside it: make it order 11"
    )]
    ListTooLong {
        /// The ring in the shared page.
        small: Order,
        /// The ring with the pages.
        large: Order,
    },
}

impl Orders {
    /// `left` from the client to the server, `right` the other way.
    pub fn new(left: Order, right: Order) -> Result<Orders, OrderClash> {
        if left == right && left.place().is_some() {
            return Err(OrderClash::SamePlace(left));
        }
        let orders = Orders { left, right };
        let (small, large) = (left.min(right), left.max(right));
        match small.place() {
            Some(at) if orders.head_len() > at => Err(OrderClash::ListTooLong { small, large }),
            _ => Ok(orders),
        }
    }

    /// Returns the smallest rings for at least these bytes, chosen as libxenvchan does: two small
    /// ones share the page, and beside a ring with pages of its own the other is at least of order
    /// 11. `None` if either is more than 1 MiB.
    pub fn for_sizes(left: usize, right: usize) -> Option<Orders> {
        let (small, medium, paged) = (Order(ORDER_10), Order(ORDER_11), Order(ORDER_PAGES));
        let (left, right) = (Order::for_size(left)?, Order::for_size(right)?);
        let (left, right) = match (left, right) {
            (l, r) if l <= small && r <= medium => (small, medium),
            (l, r) if l <= medium && r <= small => (medium, small),
            (l, r) if l <= medium => (medium, r.max(paged)),
            (l, r) if r <= medium => (l, medium),
            both => both,
        };
        Some(Orders { left, right })
    }

    /// The ring from the client to the server.
    pub const fn left(self) -> Order {
        self.left
    }

    /// The ring from the server to the client.
    pub const fn right(self) -> Order {
        self.right
    }

    /// Bytes of the shared page in front of the rings: the head and the list of grants. Two words
    /// behind them are free at every pair of orders.
    pub(crate) const fn head_len(self) -> usize {
        GRANTS + 4 * (self.left.pages() + self.right.pages())
    }

    /// Offset of the word with the server's status, in bytes from the start of the shared page.
    pub(crate) const fn status_at(self) -> usize {
        self.head_len()
    }

    /// Offset of the word with the size of the client's terminal, likewise.
    pub(crate) const fn window_at(self) -> usize {
        self.head_len() + 4
    }
}
