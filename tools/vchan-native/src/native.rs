//! The platform of one process: as `xen-linux` is over `/dev/xen/*`, this is over the shared file
//! and the eventfds, with the same waits: poll(2), then read(2).

use crate::clock;
use crate::machine::Machine;
use crate::pages::Pages;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use xen_exec::Turn;
use xen_platform::{
    Access, Channel, Clock, CopySegment, DomId, EventCounter, GrantRef, Platform, Port, Time,
    Timers,
};

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused: {0}")]
pub struct Error(std::io::Error);

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Error(std::io::Error::from_raw_os_error(errno.raw_os_error()))
    }
}

/// The only port.
const PORT: Port = Port(1);

/// Number of turns between two looks at the eventfd while tasks can move, as in `xen-linux`.
const LOOK_EVERY: u32 = 16;

/// The platform.
#[derive(Clone)]
pub struct Native(Rc<Inner>);

struct Inner {
    machine: Machine,
    is_server: bool,
    timers: Timers,
    looked: Cell<Time>,
    unlooked: Cell<u32>,
    yields: EventCounter,
    resumes: EventCounter,
    events: EventCounter,
}

impl Native {
    /// Makes the platform of one end.
    pub fn new(machine: Machine, is_server: bool) -> Self {
        Native(Rc::new(Inner {
            machine,
            is_server,
            timers: Timers::new(),
            looked: Cell::new(clock::now()),
            unlooked: Cell::new(0),
            yields: EventCounter::new(),
            resumes: EventCounter::new(),
            events: EventCounter::new(),
        }))
    }

    /// Returns the machine.
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// The turn of the executor.
    pub fn turn(&self, turn: Turn) {
        let inner = &*self.0;
        if turn == Turn::Idle && inner.yields.is_awaited() {
            std::thread::yield_now();
            inner.yields.signal();
            return;
        }
        inner.unlooked.set(inner.unlooked.get() + 1);
        if turn == Turn::Busy && inner.unlooked.get() < LOOK_EVERY {
            return;
        }
        inner.unlooked.set(0);
        self.look(turn);
    }

    /// Waits for an event or a time, unless tasks can move, and hands out what has come.
    fn look(&self, turn: Turn) {
        let inner = &*self.0;
        let own = if inner.is_server { &inner.machine.wakes.0 } else { &inner.machine.wakes.1 };
        let until = match turn {
            Turn::Busy => Some(0),
            Turn::Idle => inner.timers.next().map(|at| at.0.saturating_sub(clock::now().0)),
        };
        let limit = until.map(|nanos| Timespec {
            tv_sec: (nanos / 1_000_000_000).cast_signed(),
            tv_nsec: (nanos % 1_000_000_000).cast_signed(),
        });
        let mut fds = [PollFd::new(own, PollFlags::IN)];
        let ready = poll(&mut fds, limit.as_ref()).unwrap_or(0);
        if ready > 0 && rustix::io::read(own, &mut [0u8; 8]).is_ok() {
            inner.events.signal();
        } else if turn == Turn::Idle {
            let now = clock::now();
            inner.looked.set(now);
            inner.timers.fire(now);
        }
    }
}

impl Clock for Native {
    fn now(&self) -> Time {
        clock::now()
    }

    fn poll_until(&self, at: Time, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.looked.get() >= at {
            return Poll::Ready(());
        }
        self.0.timers.wake_at(at, cx);
        Poll::Pending
    }
}

/// The only event channel.
pub struct NativeChannel(Native);

impl Channel for NativeChannel {
    fn port(&self) -> Port {
        PORT
    }

    fn notify(&self) {
        let machine = &self.0.0.machine;
        let peer = if self.0.0.is_server { &machine.wakes.1 } else { &machine.wakes.0 };
        let _ = rustix::io::write(peer, &1u64.to_ne_bytes());
    }

    fn seen(&self) -> u32 {
        self.0.0.events.count()
    }

    fn poll_after(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.0.0.events.poll_after(seen, cx)
    }

    fn is_bound(&self) -> bool {
        true
    }
}

impl Platform for Native {
    type Grant = Pages;
    type Map = Pages;
    type Channel = NativeChannel;
    type Error = Error;

    fn yields(&self) -> &EventCounter {
        &self.0.yields
    }

    fn resumes(&self) -> &EventCounter {
        &self.0.resumes
    }

    fn domid(&self) -> Option<DomId> {
        Some(DomId(self.0.is_server.into()))
    }

    fn share(&self, _peer: DomId, pages: usize) -> Result<Pages, Error> {
        self.0.machine.take_pages(pages)
    }

    fn share_read_only(&self, peer: DomId, pages: usize) -> Result<Pages, Error> {
        self.share(peer, pages)
    }

    fn map(&self, _peer: DomId, refs: &[GrantRef], _access: Access) -> Result<Pages, Error> {
        Pages::map(&self.0.machine.memory, refs[0].0, refs.len())
    }

    /// Nothing here copies between domains.
    fn copy(&self, _peer: DomId, _pieces: &mut [CopySegment<'_>]) -> Result<(), Error> {
        Err(Errno::OPNOTSUPP.into())
    }

    fn listen(&self, _peer: DomId) -> Result<NativeChannel, Error> {
        Ok(NativeChannel(self.clone()))
    }

    fn connect(&self, _peer: DomId, _port: Port) -> Result<NativeChannel, Error> {
        Ok(NativeChannel(self.clone()))
    }

    /// A process that dies ends the measurement.
    fn clear_grant_on_death(
        &self,
        _grant: &Pages,
        _at: usize,
        _channel: &NativeChannel,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn clear_map_on_death(
        &self,
        _map: &Pages,
        _at: usize,
        _channel: &NativeChannel,
    ) -> Result<(), Error> {
        Ok(())
    }
}
