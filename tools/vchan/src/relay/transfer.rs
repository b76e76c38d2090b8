//! The counts of a relay.

use std::cell::Cell;
use xen_platform::Platform;
use xen_vchan::{Connection, Live, Role};

/// The bytes that went through a relay, and where they are.
#[derive(Default)]
pub(crate) struct Transfer {
    received: Cell<u64>,
    /// Bytes that were received wait for room in the output, or the ring was not looked into since.
    delivering: Cell<bool>,
    sent: Cell<u64>,
    /// Bytes that were read from the input and are not in the ring yet.
    unsent: Cell<usize>,
}

impl Transfer {
    /// Bytes that came from the peer.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    pub fn delivering(&self, count: usize) {
        self.received.set(self.received.get() + count as u64);
        self.delivering.set(true);
    }

    pub fn delivered(&self) {
        self.delivering.set(false);
    }

    pub fn is_delivering(&self) -> bool {
        self.delivering.get()
    }

    pub fn to_send(&self, count: usize) {
        self.unsent.set(count);
    }

    pub fn sent(&self, count: usize) {
        self.unsent.set(self.unsent.get() - count);
        self.sent.set(self.sent.get() + count as u64);
    }

    /// Bytes that were put into the ring.
    pub fn total_sent(&self) -> u64 {
        self.sent.get()
    }

    pub fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// Number of bytes that were read from the input and that the peer has not read. To be asked
    /// before the connection is closed.
    pub fn not_taken<P: Platform>(&self, connection: &Connection<P>) -> u64 {
        let in_ring = connection.split().1.unread().unwrap_or(0);
        self.unsent() as u64 + in_ring as u64
    }

    /// Describes what went through, and which end closed the channel first. To be asked before the
    /// connection is closed.
    pub fn summary<P: Platform>(&self, connection: &Connection<P>) -> String {
        let (own, peer) = match connection.info().role {
            Role::Client => ("client", "server"),
            Role::Server => ("server", "client"),
        };
        let first = match connection.state() {
            Live::Connected | Live::Closed => format!("the {own} closed first"),
            Live::Left => format!("the {peer} closed first"),
            Live::Died => format!("the {peer} died"),
            Live::Broken => format!("the {peer} broke the protocol"),
        };
        let unread = self.not_taken(connection);
        let lost =
            if unread > 0 { format!(" ({unread} of them not taken)") } else { String::new() };
        format!("{} bytes sent{lost}, {} received; {first}", self.sent.get(), self.received.get())
    }
}
