//! The shared page with its two rings, from one end. Never waits.

use crate::info::Role;
use crate::memory::{Memory, Pages};
use crate::{Order, Orders, PeerError};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::mem::offset_of;
use xen_abi::vchan::{Indices, Interface, Live, NOTIFY_READ, NOTIFY_WRITE};
use xen_platform::{IndexMemory, Platform, SharedMem};
use xen_ring::bytes::{Consumer, Corrupt, Layout, Producer};
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

    /// Where the ring's fields lie, if its data starts at `data` in its area.
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

/// The bytes at the end of the page's head, from one end's point of view.
#[derive(Clone, Copy)]
struct Bytes {
    own_live: usize,
    peer_live: usize,
    /// Where this end asks for events.
    own_wishes: usize,
    /// Where the peer does.
    peer_wishes: usize,
}

impl Bytes {
    fn of(role: Role) -> Self {
        let (cli_live, srv_live) = (offset_of!(Interface, cli_live), offset_of!(Interface, srv_live));
        // Each byte is named after who looks at it, so an end's own wishes are in the other's.
        let (cli_notify, srv_notify) = (offset_of!(Interface, cli_notify), offset_of!(Interface, srv_notify));
        match role {
            Role::Server => {
                Bytes { own_live: srv_live, peer_live: cli_live, own_wishes: cli_notify, peer_wishes: srv_notify }
            }
            Role::Client => {
                Bytes { own_live: cli_live, peer_live: srv_live, own_wishes: srv_notify, peer_wishes: cli_notify }
            }
        }
    }
}

/// One end of both rings.
pub(crate) struct Rings<P: Platform> {
    pages: Pages<P>,
    bytes: Bytes,
    orders: Orders,
    /// The ring this end reads from, and the one it writes into.
    sides: (Side, Side),
    consumer: Consumer,
    producer: Producer,
}

/// What an end waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// That the peer writes.
    Data,
    /// That the peer reads.
    Space,
}

impl Wish {
    pub const fn bit(self) -> u8 {
        match self {
            Wish::Data => NOTIFY_WRITE,
            Wish::Space => NOTIFY_READ,
        }
    }
}

impl<P: Platform> Rings<P> {
    /// The server's end of a fresh page whose indices all are `start`.
    pub fn server(pages: Pages<P>, orders: Orders, start: u32) -> Self {
        let consumer = Consumer::new(Side::Left.layout(orders, orders.left().place().unwrap_or(0)), start);
        let producer = Producer::new(Side::Right.layout(orders, orders.right().place().unwrap_or(0)), start);
        let sides = (Side::Left, Side::Right);
        Rings { pages, bytes: Bytes::of(Role::Server), orders, sides, consumer, producer }
    }

    /// The client's end of a page whose head was copied to `head`: the server may have written already.
    pub fn client(pages: Pages<P>, orders: Orders, head: &Interface) -> Result<Self, PeerError> {
        let right = Side::Right.layout(orders, orders.right().place().unwrap_or(0));
        let left = Side::Left.layout(orders, orders.left().place().unwrap_or(0));
        let blame = |side| move |corrupt| PeerError::Ring { side, corrupt };
        let consumer = Consumer::at(right, head.right.prod, head.right.cons).map_err(blame(Side::Right))?;
        let producer = Producer::at(left, head.left.prod, head.left.cons).map_err(blame(Side::Left))?;
        let sides = (Side::Right, Side::Left);
        Ok(Rings { pages, bytes: Bytes::of(Role::Client), orders, sides, consumer, producer })
    }

    /// Reads what is there; 0 if there is nothing. And what the peer got by it.
    #[inline(always)]
    pub fn read(&mut self, to: &mut [u8]) -> Result<(usize, Option<Wish>), PeerError> {
        let Rings { pages, consumer, sides: (side, _), .. } = self;
        let n = consumer.read(&pages.control, pages.data(*side), to).map_err(|corrupt| self.blame_writer(corrupt))?;
        Ok((n, (n > 0).then_some(Wish::Space)))
    }

    /// Fills `to` if so much is there; says whether it was. And what the peer got by it.
    #[inline(always)]
    pub fn recv(&mut self, to: &mut [u8]) -> Result<(bool, Option<Wish>), PeerError> {
        let Rings { pages, consumer, sides: (side, _), .. } = self;
        let done =
            consumer.read_all(&pages.control, pages.data(*side), to).map_err(|corrupt| self.blame_writer(corrupt))?;
        Ok((done, done.then_some(Wish::Space)))
    }

    /// Writes what there is space for; 0 if there is none. And what the peer got by it.
    #[inline(always)]
    pub fn write(&mut self, from: &[u8]) -> Result<(usize, Option<Wish>), PeerError> {
        let Rings { pages, producer, sides: (_, side), .. } = self;
        let n =
            producer.write(&pages.control, pages.data(*side), from).map_err(|corrupt| self.blame_reader(corrupt))?;
        Ok((n, (n > 0).then_some(Wish::Data)))
    }

    /// Writes all of `from` if there is space for it; says whether there was. And what the peer got by it.
    #[inline(always)]
    pub fn send(&mut self, from: &[u8]) -> Result<(bool, Option<Wish>), PeerError> {
        let Rings { pages, producer, sides: (_, side), .. } = self;
        let done = producer
            .write_all(&pages.control, pages.data(*side), from)
            .map_err(|corrupt| self.blame_reader(corrupt))?;
        Ok((done, done.then_some(Wish::Data)))
    }

    /// How many bytes can be read now.
    #[inline(always)]
    pub fn available(&mut self) -> Result<usize, PeerError> {
        self.consumer.available(&self.pages.control).map_err(|corrupt| self.blame_writer(corrupt))
    }

    /// How many bytes can be written now.
    pub fn space(&mut self) -> Result<usize, PeerError> {
        self.producer.space(&self.pages.control).map_err(|corrupt| self.blame_reader(corrupt))
    }

    /// Whether the peer has read everything.
    pub fn is_drained(&mut self) -> Result<bool, PeerError> {
        self.producer.is_empty(&self.pages.control).map_err(|corrupt| self.blame_reader(corrupt))
    }

    /// Asks the peer for an event. The caller then looks again before it sleeps.
    #[inline(always)]
    pub fn arm(&self, wish: Wish) {
        notify::arm(&self.pages.control, self.bytes.own_wishes, wish.bit());
    }

    /// Whether the peer wants an event once this end has written.
    pub fn peer_awaits_data(&self) -> bool {
        self.pages.control.load_u8(self.bytes.peer_wishes) & Wish::Data.bit() != 0
    }

    /// Has the peer be told by `channel` if this end dies without a word.
    pub fn announce_death(&self, platform: &P, channel: &P::Channel) -> Result<(), P::Error> {
        match &self.pages.control {
            Memory::Own(page) => platform.clear_grant_on_death(page, self.bytes.own_live, channel),
            Memory::Peer(page) => platform.clear_map_on_death(page, self.bytes.own_live, channel),
        }
    }

    #[inline(always)]
    pub fn peer_live(&self) -> Live {
        Live(self.pages.control.load_u8(self.bytes.peer_live))
    }

    /// Tells the peer whether this end is there.
    pub fn set_live(&self, live: Live) {
        self.pages.control.store_u8(self.bytes.own_live, live.0);
    }

    /// The used bytes of the page: its head and the list of grants.
    pub fn head(&self) -> Vec<u8> {
        let mut head = vec![0; self.orders.head_len()];
        self.pages.control.read(0, &mut head);
        head
    }

    /// Whether the peer wants an event for what was done, by the bits of its wishes. Its request is taken back by this, so
    /// the event must be sent.
    #[inline(always)]
    pub fn peer_wishes(&self, wishes: u8) -> bool {
        notify::wanted(&self.pages.control, self.bytes.peer_wishes, wishes)
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
