//! The shared page with its two rings, from one end. Never waits.

use crate::info::Role;
use crate::memory::{Memory, Pages};
use crate::{Order, Orders, PeerError, WindowSize};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::mem::offset_of;
use core::ptr::NonNull;
use xen_abi::vchan::{Indices, Interface, Live, NOTIFY_READ, NOTIFY_WRITE};
use xen_platform::{IndexMemory, Platform, SharedMem};
use xen_ring::Piece;
use xen_ring::bytes::{Consumer, Corrupt, Field, Layout, Producer};
use xen_ring::notify;

/// One of the two rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// From the client to the server.
    Left,
    /// From the server to the client.
    Right,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Left => "left",
            Side::Right => "right",
        })
    }
}

impl Side {
    /// The ring's size.
    pub(crate) fn order(self, orders: Orders) -> Order {
        match self {
            Side::Left => orders.left(),
            Side::Right => orders.right(),
        }
    }

    /// Returns the offsets of the ring's fields, if its data starts at `data` in its area.
    fn layout(self, orders: Orders, data: usize) -> Layout {
        let indices = match self {
            Side::Left => offset_of!(Interface, left),
            Side::Right => offset_of!(Interface, right),
        };
        Layout {
            prod: indices + offset_of!(Indices, prod),
            cons: indices + offset_of!(Indices, cons),
            data,
            size: self.order(orders).bytes(),
        }
    }
}

/// Bits of a notify byte beside those of io/libxenvchan.h, by which two ends of this crate close
/// each direction on its own. Every other implementation sets and clears its own two bits alone
/// (`docs/vchan.md` has the proof).
pub(crate) mod half_close {
    /// This end announces the end of its output.
    pub const CAPABLE: u8 = 0x80;
    /// The output of this end is complete.
    pub const FINISHED: u8 = 0x40;
    /// This end has read all of the peer's output and seen its end.
    pub const SEEN: u8 = 0x20;
}

/// Marks the status word as written; the status is in the lowest byte.
const STATUS_SET: u32 = 0x100;

/// The offsets of the bytes at the end of the page's head, from one end's point of view.
#[derive(Clone, Copy)]
struct Offsets {
    own_live: usize,
    peer_live: usize,
    /// The notify byte in which this end asks for events.
    own_notify: usize,
    /// The notify byte in which the peer does.
    peer_notify: usize,
}

impl Offsets {
    fn of(role: Role) -> Self {
        let (cli_live, srv_live) =
            (offset_of!(Interface, cli_live), offset_of!(Interface, srv_live));
        // Each byte is named after the end that looks at it, so an end asks in the other's.
        let (cli_notify, srv_notify) =
            (offset_of!(Interface, cli_notify), offset_of!(Interface, srv_notify));
        match role {
            Role::Server => Offsets {
                own_live: srv_live,
                peer_live: cli_live,
                own_notify: cli_notify,
                peer_notify: srv_notify,
            },
            Role::Client => Offsets {
                own_live: cli_live,
                peer_live: srv_live,
                own_notify: srv_notify,
                peer_notify: cli_notify,
            },
        }
    }
}

/// Addresses of the shared pages in this program; `None` where the platform has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// The page with the head.
    pub page: Option<NonNull<u8>>,
    /// The first byte of the left ring.
    pub left: Option<NonNull<u8>>,
    /// The first byte of the right ring.
    pub right: Option<NonNull<u8>>,
}

/// One end of both rings.
pub(crate) struct Rings<P: Platform> {
    pages: Pages<P>,
    offsets: Offsets,
    orders: Orders,
    /// The ring this end reads from, and the one it writes into.
    sides: (Side, Side),
    consumer: Consumer,
    producer: Producer,
}

/// The event that an end waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitFor {
    /// The peer writes.
    Data,
    /// The peer reads.
    Space,
}

impl WaitFor {
    pub const fn bit(self) -> u8 {
        match self {
            WaitFor::Data => NOTIFY_WRITE,
            WaitFor::Space => NOTIFY_READ,
        }
    }
}

impl<P: Platform> Rings<P> {
    /// The server's end of a fresh page whose indices all are `start`.
    pub fn server(pages: Pages<P>, orders: Orders, start: u32) -> Self {
        let consumer =
            Consumer::new(Side::Left.layout(orders, orders.left().place().unwrap_or(0)), start);
        let producer =
            Producer::new(Side::Right.layout(orders, orders.right().place().unwrap_or(0)), start);
        let sides = (Side::Left, Side::Right);
        Rings { pages, offsets: Offsets::of(Role::Server), orders, sides, consumer, producer }
    }

    /// The client's end of a page whose head was copied to `head`: the server may have written
    /// already.
    pub fn client(pages: Pages<P>, orders: Orders, head: &Interface) -> Result<Self, PeerError> {
        let right = Side::Right.layout(orders, orders.right().place().unwrap_or(0));
        let left = Side::Left.layout(orders, orders.left().place().unwrap_or(0));
        let blame = |side| move |corrupt| PeerError::Ring { side, corrupt };
        let consumer =
            Consumer::at(right, head.right.prod, head.right.cons).map_err(blame(Side::Right))?;
        let producer =
            Producer::at(left, head.left.prod, head.left.cons).map_err(blame(Side::Left))?;
        let sides = (Side::Right, Side::Left);
        Ok(Rings { pages, offsets: Offsets::of(Role::Client), orders, sides, consumer, producer })
    }

    pub fn places(&self) -> Places {
        let ring = |side: Side| {
            let within = side.order(self.orders).place().unwrap_or(0);
            let start = self.pages.data(side).address()?;
            NonNull::new(start.as_ptr().wrapping_add(within))
        };
        let page = self.pages.control.address();
        Places { page, left: ring(Side::Left), right: ring(Side::Right) }
    }

    /// Reads without blocking; 0 bytes if the ring is empty. Returns what the peer got by it, too.
    #[inline(always)]
    pub fn read(&mut self, to: &mut [u8]) -> Result<(usize, Option<WaitFor>), PeerError> {
        let Rings { pages, consumer, sides: (side, _), .. } = self;
        let n = consumer
            .read(&pages.control, pages.data(*side), to)
            .map_err(|corrupt| self.blame_writer(corrupt))?;
        Ok((n, (n > 0).then_some(WaitFor::Space)))
    }

    /// Fills `to`, if that many bytes are there; returns whether they were, and what the peer got
    /// by it.
    #[inline(always)]
    pub fn recv(&mut self, to: &mut [u8]) -> Result<(bool, Option<WaitFor>), PeerError> {
        let Rings { pages, consumer, sides: (side, _), .. } = self;
        let done = consumer
            .read_all(&pages.control, pages.data(*side), to)
            .map_err(|corrupt| self.blame_writer(corrupt))?;
        Ok((done, done.then_some(WaitFor::Space)))
    }

    /// Writes as much as there is space for. Returns what the peer got by it, too.
    #[inline(always)]
    pub fn write(&mut self, from: &[u8]) -> Result<(usize, Option<WaitFor>), PeerError> {
        let Rings { pages, producer, sides: (_, side), .. } = self;
        let n = producer
            .write(&pages.control, pages.data(*side), from)
            .map_err(|corrupt| self.blame_reader(corrupt))?;
        Ok((n, (n > 0).then_some(WaitFor::Data)))
    }

    /// Writes all of `from`, if there is space for it; returns whether there was, and what the peer
    /// got by it.
    #[inline(always)]
    pub fn send(&mut self, from: &[u8]) -> Result<(bool, Option<WaitFor>), PeerError> {
        let Rings { pages, producer, sides: (_, side), .. } = self;
        let done = producer
            .write_all(&pages.control, pages.data(*side), from)
            .map_err(|corrupt| self.blame_reader(corrupt))?;
        Ok((done, done.then_some(WaitFor::Data)))
    }

    /// Has up to `most` bytes moved from the ring that this end reads into the one that it writes;
    /// returns their number, and what the peer got by it.
    pub fn transfer(
        &mut self,
        most: usize,
        mover: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(usize, Option<WaitFor>), PeerError> {
        let Rings { pages, consumer, producer, sides, .. } = self;
        let data: (&dyn SharedMem, &dyn SharedMem) = (pages.data(sides.0), pages.data(sides.1));
        match consumer.transfer(producer, &pages.control, data, most, mover) {
            Ok(n) => Ok((n, (n > 0).then_some(WaitFor::Data))),
            Err(corrupt) if corrupt.field == Field::Prod => Err(self.blame_writer(corrupt)),
            Err(corrupt) => Err(self.blame_reader(corrupt)),
        }
    }

    /// Returns the number of bytes to read now.
    #[inline(always)]
    pub fn available(&mut self) -> Result<usize, PeerError> {
        self.consumer.available(&self.pages.control).map_err(|corrupt| self.blame_writer(corrupt))
    }

    /// Returns the number of bytes of space now.
    pub fn space(&mut self) -> Result<usize, PeerError> {
        self.producer.space(&self.pages.control).map_err(|corrupt| self.blame_reader(corrupt))
    }

    /// True if the peer has read everything.
    pub fn is_drained(&mut self) -> Result<bool, PeerError> {
        self.producer.is_empty(&self.pages.control).map_err(|corrupt| self.blame_reader(corrupt))
    }

    /// Asks the peer for an event. The caller then looks again before it sleeps.
    #[inline(always)]
    pub fn arm(&self, wait_for: WaitFor) {
        notify::arm(&self.pages.control, self.offsets.own_notify, wait_for.bit());
    }

    /// True if the peer wants an event once this end has written.
    pub fn peer_awaits_data(&self) -> bool {
        self.pages.control.load_u8(self.offsets.peer_notify) & WaitFor::Data.bit() != 0
    }

    /// Has the peer be told by `channel` if this end dies without a word.
    pub fn announce_death(&self, platform: &P, channel: &P::Channel) -> Result<(), P::Error> {
        match &self.pages.control {
            Memory::Own(page) => {
                platform.clear_grant_on_death(page, self.offsets.own_live, channel)
            }
            Memory::Peer(page) => platform.clear_map_on_death(page, self.offsets.own_live, channel),
        }
    }

    #[inline(always)]
    pub fn peer_live(&self) -> Live {
        Live(self.pages.control.load_u8(self.offsets.peer_live))
    }

    /// Tells the peer that this end is there, or has left.
    pub fn set_live(&self, live: Live) {
        self.pages.control.store_u8(self.offsets.own_live, live.0);
    }

    /// The used bytes of the page: its head and the list of grants.
    pub fn head(&self) -> Vec<u8> {
        let mut head = vec![0; self.orders.head_len()];
        self.pages.control.read(0, &mut head);
        head
    }

    /// Takes back the peer's request for an event, by these bits of its notify byte. Returns true
    /// if there was one: the event must be sent.
    #[inline(always)]
    pub fn take_peer_request(&self, bits: u8) -> bool {
        notify::wanted(&self.pages.control, self.offsets.peer_notify, bits)
    }

    fn peer_has(&self, bit: u8) -> bool {
        self.pages.control.load_u8(self.offsets.peer_notify) & bit != 0
    }

    /// Says that this end can half-close.
    pub fn announce_half_close(&self) {
        self.pages.control.fetch_or(self.offsets.own_notify, half_close::CAPABLE);
    }

    /// True if the peer can half-close.
    pub fn peer_can_half_close(&self) -> bool {
        self.peer_has(half_close::CAPABLE)
    }

    /// Says that this end's output is complete; returns what the peer got by it.
    pub fn finish(&self) -> WaitFor {
        self.pages.control.fetch_or(self.offsets.own_notify, half_close::FINISHED);
        WaitFor::Data
    }

    /// True if the peer's output is complete. What it wrote is visible then.
    #[inline(always)]
    pub fn peer_finished(&self) -> bool {
        self.peer_has(half_close::FINISHED)
    }

    /// Says that this end has seen the end of the peer's output; returns what the peer got by it.
    pub fn acknowledge_finish(&self) -> Option<WaitFor> {
        let before = self.pages.control.fetch_or(self.offsets.own_notify, half_close::SEEN);
        (before & half_close::SEEN == 0).then_some(WaitFor::Space)
    }

    /// True if the peer has seen the end of this end's output.
    pub fn peer_saw_finish(&self) -> bool {
        self.peer_has(half_close::SEEN)
    }

    /// Writes the server's status behind the list of grants, where no ring lies.
    pub fn set_status(&self, status: u8) {
        self.pages.control.store(self.orders.status_at(), STATUS_SET | u32::from(status));
    }

    /// Returns the server's status, if it wrote one.
    pub fn status(&self) -> Option<u8> {
        let word = self.pages.control.load(self.orders.status_at());
        (word & !0xff == STATUS_SET).then_some(word as u8)
    }

    /// Writes the size of the client's terminal behind the server's status.
    pub fn set_window(&self, size: WindowSize) {
        self.pages.control.store(self.orders.window_at(), size.to_word());
    }

    /// Returns the size of the client's terminal, if it wrote one that can be.
    pub fn window(&self) -> Option<WindowSize> {
        WindowSize::from_word(self.pages.control.load(self.orders.window_at()))
    }

    #[cold]
    fn blame_writer(&self, corrupt: Corrupt) -> PeerError {
        PeerError::Ring { side: self.sides.0, corrupt }
    }

    #[cold]
    fn blame_reader(&self, corrupt: Corrupt) -> PeerError {
        PeerError::Ring { side: self.sides.1, corrupt }
    }
}
