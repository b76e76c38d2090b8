//! State that the handles of a disk, its transfers and its driver share.
//!
//! ```text
//!   transfer --submit--> queues, in_flight        (requests go out)
//!   driver --push, receive--> queues --> in_flight --> wakers --> transfer   (responses come in)
//!   driver --connect, disconnect--> all, life     (the handshake moves on)
//! ```

use super::config::Config;
use super::error::{Op, Stuck};
use super::info::{Info, Stats};
use super::io::in_flight::{InFlight, TICKS};
use super::io::pool::Pool;
use super::io::queue::{Queue, Queues};
use super::life::{Life, Over};
use super::wakers::Wakers;
use super::xenbus::device::{Connected, XenbusDevice};
use super::xenbus::negotiate::Limits;
use crate::protocol::vdev;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;
use core::time::Duration;
use xen_platform::{EventCounter, Platform};

/// A disk.
pub(crate) struct Device<P: Platform> {
    pub platform: P,
    pub config: Config,
    /// Counts changes of [`State::info`], and the end.
    pub changes: EventCounter,
    state: RefCell<State<P>>,
}

/// The part of a disk that changes.
pub(crate) struct State<P: Platform> {
    pub info: Info,
    pub limits: Limits,
    pub stats: Stats,
    pub queues: Queues<P>,
    pub in_flight: InFlight<P>,
    pub life: Life,
    pub wakers: Wakers,
}

impl<P: Platform> Device<P> {
    /// Creates a disk with its first connection.
    pub fn new(
        platform: &P,
        config: &Config,
        vdev: u32,
        xenbus: &XenbusDevice,
        connected: Connected<P>,
    ) -> Self {
        let (backend, path) = (xenbus.otherend_id, xenbus.otherend.clone());
        let info = Info::new(vdev, backend, path, config.abi, config.units);
        let mut state = State {
            limits: Limits::new(512, 0, info.units),
            info,
            stats: Stats::default(),
            queues: Queues::new(),
            in_flight: InFlight::new(backend, config.bounce_pages),
            life: Life::Open,
            wakers: Wakers::default(),
        };
        state.connect(connected);
        Device {
            platform: platform.clone(),
            config: config.clone(),
            changes: EventCounter::new(),
            state: RefCell::new(state),
        }
    }

    /// Works on the state, and then wakes the tasks that this concerns.
    #[inline]
    pub fn with<T>(&self, work: impl FnOnce(&mut State<P>) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let result = work(&mut state);
        let quiet = state.wakers.is_quiet();
        drop(state);
        if !quiet {
            self.wake();
        }
        result
    }

    #[inline(never)]
    fn wake(&self) {
        let (mut tasks, driver) = self.state.borrow_mut().wakers.take();
        tasks.drain(..).chain(driver).for_each(Waker::wake);
        self.state.borrow_mut().wakers.reuse(tasks);
    }

    /// Has every request fail. The disk keeps the pages that the backend may still use.
    pub fn refuse(&self, over: Over) {
        self.with(|state| state.refuse(over));
        self.changes.signal();
    }

    /// Has every request fail, and gives back all pages and channels.
    pub fn end(&self, over: Over) {
        self.refuse(over);
        // Dropped only when the state is no longer borrowed.
        let given_back = self.with(State::give_back);
        drop(given_back);
        self.changes.signal();
    }

    /// Returns the disk's name.
    pub fn name(&self) -> String {
        self.with(|state| vdev::name(state.info.vdev))
    }

    /// Returns the length of a tick.
    pub fn tick(&self) -> Duration {
        self.config.request_timeout / TICKS
    }
}

impl<P: Platform> State<P> {
    /// Puts a connection in use. Requests that wait go on.
    pub fn connect(&mut self, connected: Connected<P>) {
        let Connected { queues, plan, offer, notes } = connected;
        self.limits = Limits::new(offer.sector_size, offer.indirect_segments, self.info.units);
        let max_transfer = self.limits.max_transfer(self.in_flight.pool.max_pages());
        self.info.connected(plan, &offer, max_transfer);
        self.info.add_notes(notes);
        self.queues.connect(queues);
        // All of them: those with requests to be sent again take these back first.
        self.wakers.wake(self.in_flight.wakers());
    }

    /// Takes the rings out of use. The requests on them keep their turns, to be sent again.
    pub fn disconnect(&mut self) -> Vec<Queue<P>> {
        self.in_flight.requeue();
        self.stats.in_flight = 0;
        self.queues.disconnect()
    }

    /// Takes everything out of use that a save and restore of the domain has taken away: the rings
    /// and the pages of the pool.
    pub fn resume(&mut self, bounce_pages: u32) -> (Vec<Queue<P>>, Pool<P>) {
        self.in_flight.requeue_unread();
        let queues = self.disconnect();
        (queues, self.in_flight.take_pool(self.info.backend, bounce_pages))
    }

    /// Puts a connection with another backend, or with one in another domain, in use.
    pub fn reconnect(&mut self, xenbus: &XenbusDevice, connected: Connected<P>) {
        self.info.backend = xenbus.otherend_id;
        self.info.backend_path = xenbus.otherend.clone();
        self.in_flight.pool.set_peer(xenbus.otherend_id);
        self.connect(connected);
    }

    fn refuse(&mut self, over: Over) {
        self.life.refuse(over);
        self.wakers.wake(self.in_flight.wakers());
    }

    fn give_back(&mut self) -> (Vec<Queue<P>>, Pool<P>) {
        self.life.end();
        let queues = self.disconnect();
        (queues, self.in_flight.take_pool(self.info.backend, 0))
    }

    /// Shows the backend the new requests on the rings.
    pub fn push(&mut self) {
        self.stats.events_sent += self.queues.push();
    }

    /// Has the request try again whose turn it is: there may be room for it.
    pub fn wake_first(&mut self) {
        if !self.in_flight.admission.is_empty() {
            self.wakers.wake(self.in_flight.admission.first());
        }
    }

    /// Lets a tick pass, and has the tasks of late requests look.
    pub fn sweep(&mut self) {
        let late = self.in_flight.sweep();
        self.wakers.wake(late);
    }

    /// Tells if requests are in flight or wait for their turn.
    pub fn is_busy(&self) -> bool {
        self.stats.in_flight > 0 || !self.in_flight.admission.is_empty()
    }

    /// Counts a late request and reports it: sent on `queue` at the tick `since`, or waiting since
    /// then.
    pub fn stuck(
        &mut self,
        (op, sector, sectors): (Op, u64, u64),
        queue: Option<u32>,
        since: u32,
        tick: Duration,
    ) -> Stuck {
        self.stats.timed_out += 1;
        let in_flight = match queue {
            Some(number) => self.queues.get(number).ring.in_flight(),
            None => self.stats.in_flight,
        };
        let stuck = Stuck {
            op,
            sector,
            count: sectors,
            waited: tick * self.in_flight.tick.wrapping_sub(since),
            queue,
            in_flight,
            completed: self.stats.responses,
        };
        log::warn!("disk {}: {stuck}", vdev::name(self.info.vdev));
        stuck
    }
}
