//! Every order in which two ends of a connection can move and sleep, tried by a model checker: the
//! real [`Link::until`] and the real event counters, over indices, live bytes and notify bytes that
//! loom watches. A wake-up that gets lost leaves an end asleep for ever, for no clock ticks here,
//! and loom calls that a deadlock.
//!
//! The bytes themselves are not watched: `xen-ring`'s own model does that.
//!
//! Seen with the code broken on purpose: without `rings.arm` in `until`, and without the fences of
//! `notify`, these models end in a deadlock.

extern crate std;

use super::Link;
use crate::info::{Info, Role};
use crate::keys::Keys;
use crate::memory::{Memory, Pages};
use crate::monitor::PeerMonitor;
use crate::rings::{Rings, WaitFor};
use crate::{Order, Orders};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use loom::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};
use loom::sync::{Arc, Condvar, Mutex};
use std::sync::atomic::AtomicU8 as PlainByte;
use xen_abi::vchan::{Indices, Interface, Live};
use xen_platform::{
    Access, Channel, Clock, CopySegment, DomId, EventCounter, GrantRef, Granted, IndexMemory,
    Platform, Port, SharedMem, Time,
};

/// Bytes of the smaller ring, which the client writes into.
const SIZE: usize = 1024;

/// Offset of the live and notify bytes.
const BYTES: usize = 20;

/// The page, and the events on their way to each end.
struct World {
    indices: [AtomicU32; 4],
    bytes: [AtomicU8; 4],
    data: Vec<PlainByte>,
    pending: [(Mutex<u32>, Condvar); 2],
}

/// One domain's view of it: of the server (0) or the client (1).
#[derive(Clone)]
struct Side(Arc<World>, usize, Rc<EventCounter>);

struct Port2 {
    side: Side,
    events: EventCounter,
}

impl IndexMemory for Side {
    fn load(&self, at: usize) -> u32 {
        self.0.indices[at / 4].load(Ordering::Acquire)
    }
    fn store(&self, at: usize, value: u32) {
        self.0.indices[at / 4].store(value, Ordering::Release)
    }
    fn load_u8(&self, at: usize) -> u8 {
        self.0.bytes[at - BYTES].load(Ordering::Acquire)
    }
    fn store_u8(&self, at: usize, value: u8) {
        self.0.bytes[at - BYTES].store(value, Ordering::Release)
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.0.bytes[at - BYTES].fetch_or(bits, Ordering::AcqRel)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.0.bytes[at - BYTES].fetch_and(bits, Ordering::AcqRel)
    }
    fn fence(&self) {
        fence(Ordering::SeqCst)
    }
}

impl SharedMem for Side {
    fn len(&self) -> usize {
        self.0.data.len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        for (to, byte) in to.iter_mut().zip(&self.0.data[at..]) {
            *to = byte.load(std::sync::atomic::Ordering::Relaxed);
        }
    }
    fn write(&self, at: usize, from: &[u8]) {
        for (from, byte) in from.iter().zip(&self.0.data[at..]) {
            byte.store(*from, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Granted for Side {
    fn refs(&self) -> &[GrantRef] {
        &[]
    }
}

impl Channel for Port2 {
    fn port(&self) -> Port {
        Port(1)
    }
    fn notify(&self) {
        let (count, came) = &self.side.0.pending[1 - self.side.1];
        *count.lock().unwrap() += 1;
        came.notify_one();
    }
    fn seen(&self) -> u32 {
        self.events.count()
    }
    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.events.poll_after(seen, cx)
    }
    fn is_bound(&self) -> bool {
        true
    }
}

impl Clock for Side {
    fn now(&self) -> Time {
        Time::default()
    }
    fn poll_until(&self, _: Time, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Platform for Side {
    type Grant = Side;
    type Map = Side;
    type Channel = Port2;
    type Error = Infallible;

    fn yields(&self) -> &EventCounter {
        &self.2
    }
    fn resumes(&self) -> &EventCounter {
        unreachable!("nothing is suspended")
    }
    fn domid(&self) -> Option<DomId> {
        None
    }
    fn share(&self, _: DomId, _: usize) -> Result<Side, Infallible> {
        Ok(self.clone())
    }
    fn share_read_only(&self, _: DomId, _: usize) -> Result<Side, Infallible> {
        Ok(self.clone())
    }
    fn map(&self, _: DomId, _: &[GrantRef], _: Access) -> Result<Side, Infallible> {
        Ok(self.clone())
    }
    fn copy(&self, _: DomId, _: &mut [CopySegment<'_>]) -> Result<(), Infallible> {
        Ok(())
    }
    fn listen(&self, _: DomId) -> Result<Port2, Infallible> {
        Ok(Port2 { side: self.clone(), events: EventCounter::new() })
    }
    fn connect(&self, peer: DomId, _: Port) -> Result<Port2, Infallible> {
        self.listen(peer)
    }
    fn clear_grant_on_death(&self, _: &Side, _: usize, _: &Port2) -> Result<(), Infallible> {
        Ok(())
    }
    fn clear_map_on_death(&self, _: &Side, _: usize, _: &Port2) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A world of two ends that have met, with `filled` bytes from the client that nobody has read.
fn world(filled: u32) -> Arc<World> {
    let index = AtomicU32::new;
    let byte = AtomicU8::new;
    Arc::new(World {
        indices: [index(0), index(filled), index(0), index(0)],
        bytes: [byte(Live::CONNECTED.0), byte(Live::CONNECTED.0), byte(0), byte(0)],
        data: (0..4096).map(|_| PlainByte::new(0)).collect(),
        pending: [(Mutex::new(0), Condvar::new()), (Mutex::new(0), Condvar::new())],
    })
}

/// One end, and the events that it has taken note of.
struct End {
    link: Link<Side>,
    taken: u32,
    seen: u32,
}

impl End {
    fn new(world: &Arc<World>, role: Role, filled: u32) -> Self {
        let side = Side(world.clone(), usize::from(role == Role::Client), Rc::default());
        let order = |order| Order::new(order).unwrap();
        let orders = Orders::new(order(10), order(11)).unwrap();
        let control = || Memory::Own(side.clone());
        let pages = Pages { control: control(), left: None, right: None };
        let zero = Indices { cons: 0, prod: 0 };
        let head = Interface {
            left: Indices { cons: 0, prod: filled },
            right: zero,
            left_order: 10,
            right_order: 11,
            cli_live: Live::CONNECTED,
            srv_live: Live::CONNECTED,
            cli_notify: 0,
            srv_notify: 0,
        };
        let rings = match role {
            Role::Server => Rings::server(pages, orders, 0),
            Role::Client => Rings::client(pages, orders, &head).unwrap(),
        };
        let peer = DomId(1);
        let info = Info {
            peer,
            role,
            control_ref: GrantRef(8),
            left_refs: Vec::new(),
            right_refs: Vec::new(),
            port: Port(1),
            local_port: Port(1),
            orders,
        };
        let (store, _) = xen_store::Connection::new();
        let monitor = PeerMonitor::new(&side, &store, peer, None);
        let channel = side.listen(peer).unwrap();
        let link =
            Link::new(Keys::new(peer, "data/vchan"), info, Vec::new(), channel, rings, monitor);
        link.met.set(true);
        link.half_close.set(true);
        link.busy_poll_looks.set(0);
        End { link, taken: 0, seen: 0 }
    }

    /// Repeats `attempt` as the readers and writers do, and sleeps as a domain does.
    fn until<T>(
        &mut self,
        wait_for: WaitFor,
        attempt: impl FnMut(&Link<Side>) -> Result<Option<T>, super::Failure<Side>>,
    ) -> T {
        let End { link, taken, seen } = self;
        let mut work = pin!(link.until(seen, wait_for, attempt));
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done.unwrap();
            }
            let (count, came) = &link.channel.side.0.pending[link.channel.side.1];
            let mut count = count.lock().unwrap();
            while *count == *taken {
                count = came.wait(count).unwrap();
            }
            *taken = *count;
            drop(count);
            link.channel.events.signal();
        }
    }

    /// Ends without giving the pages back, which would wake the other end.
    fn leave(self) {
        drop(self.link.rings.take());
    }

    fn read(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        self.until(WaitFor::Data, |link| link.try_read(&mut buffer))
    }

    fn write(&mut self) {
        self.until(WaitFor::Space, |link| link.try_write(b"x"));
    }
}

/// Tries both ends in every order, with as many switches between them at any place as bugs of two
/// threads are known to need.
fn check(filled: u32, server: fn(&mut End), client: fn(&mut End)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let world = world(filled);
        let theirs = world.clone();
        let thread = loom::thread::spawn(move || {
            let mut end = End::new(&theirs, Role::Client, filled);
            client(&mut end);
            end.leave();
        });
        let mut end = End::new(&world, Role::Server, filled);
        server(&mut end);
        end.leave();
        thread.join().unwrap();
    });
}

#[test]
fn reader_that_sleeps_is_woken_for_each_byte() {
    check(
        0,
        |server| {
            for _ in 0..2 {
                assert_eq!(server.read(1), 1);
            }
        },
        |client| (0..2).for_each(|_| client.write()),
    );
}

#[test]
fn writer_that_sleeps_is_woken_for_space() {
    check(
        SIZE as u32,
        |server| {
            assert_eq!(server.read(SIZE), SIZE);
            assert_eq!(server.read(SIZE), 1);
        },
        |client| client.write(),
    );
}

#[test]
fn echo_wakes_both_ends() {
    check(
        0,
        |server| {
            assert_eq!(server.read(1), 1);
            server.write();
        },
        |client| {
            client.write();
            assert_eq!(client.read(1), 1);
        },
    );
}

#[test]
fn end_of_output_wakes_the_reader_and_its_receipt_the_writer() {
    check(
        0,
        |server| while server.read(1) > 0 {},
        |client| {
            client.write();
            client.link.finish().unwrap();
            client.until(WaitFor::Space, Link::try_drained);
        },
    );
}
