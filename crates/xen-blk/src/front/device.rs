//! What the handles of a disk, its transfers and its driver share.

use super::bus::{Bus, Connected};
use super::offer::Limits;
use super::pool::Pool;
use super::rings::Queue;
use super::slab::{Slab, Stage};
use super::waiting::Waiting;
use super::{Error, Info, Op, PeerError, Stats, Stuck, Why, Wishes};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;
use core::time::Duration;
use xen_platform::{EventCounter, Platform};

/// In so many steps the time goes by after which a request is late.
pub(crate) const STEPS: u32 = 4;

/// Why nothing can be asked of the disk any more.
#[derive(Clone, Debug)]
pub(crate) enum Over {
    Gone(Why),
    Peer(PeerError),
}

impl<E> From<Over> for Error<E> {
    fn from(over: Over) -> Self {
        match over {
            Over::Gone(why) => Error::Gone(why),
            Over::Peer(wrong) => Error::Peer(wrong),
        }
    }
}

/// A disk.
pub(crate) struct Device<P: Platform> {
    pub platform: P,
    pub wishes: Wishes,
    /// Counts changes of [`State::info`], and the end.
    pub changes: EventCounter,
    state: RefCell<State<P>>,
}

pub(crate) struct State<P: Platform> {
    pub info: Info,
    pub limits: Limits,
    pub stats: Stats,
    /// None while there is no connection.
    pub queues: Vec<Queue<P>>,
    /// How many connections there were.
    pub generation: u32,
    pub slab: Slab<P>,
    pub pool: Pool<P>,
    pub waiting: Waiting,
    /// A barrier is under way, and nothing is sent before it is answered.
    pub exclusive: bool,
    /// The ring that the next request goes to.
    pub next_queue: u32,
    /// Time, in steps of a quarter of the timeout.
    pub epoch: u32,
    pub over: Option<Over>,
    /// All is given back.
    pub ended: bool,
    /// The disk is to be closed once nothing is under way: why no more is taken.
    pub closing: Option<Why>,
    pub driver: Option<Waker>,
    /// The driver has something to do, and was woken.
    pub driver_woken: bool,
    /// It is to be woken once the state is no longer borrowed.
    wake_driver: bool,
    /// Whom to wake once the state is no longer borrowed.
    pub wakes: Vec<Waker>,
}

impl<P: Platform> Device<P> {
    /// A disk with a connection just made.
    pub fn new(platform: &P, wishes: &Wishes, vdev: u32, bus: &Bus, connected: Connected<P>) -> Self {
        let info = Info::new(vdev, bus, wishes);
        let pool = Pool::new(info.backend, wishes.bounce_pages);
        let mut state = State {
            limits: Limits::new(512, 0, info.units),
            info,
            stats: Stats::default(),
            queues: Vec::new(),
            generation: 0,
            slab: Slab::new(),
            pool,
            waiting: Waiting::default(),
            exclusive: false,
            next_queue: 0,
            epoch: 0,
            over: None,
            ended: false,
            closing: None,
            driver: None,
            driver_woken: false,
            wake_driver: false,
            wakes: Vec::new(),
        };
        state.connect(connected);
        Device {
            platform: platform.clone(),
            wishes: wishes.clone(),
            changes: EventCounter::new(),
            state: RefCell::new(state),
        }
    }

    /// Works on the state, and then wakes whom it concerns: wakers may drop futures that come back here.
    #[inline]
    pub fn with<T>(&self, work: impl FnOnce(&mut State<P>) -> T) -> T {
        let mut state = self.state.borrow_mut();
        let result = work(&mut state);
        let quiet = state.wakes.is_empty() && !state.wake_driver;
        drop(state);
        if !quiet {
            self.wake();
        }
        result
    }

    #[inline(never)]
    fn wake(&self) {
        let mut state = self.state.borrow_mut();
        let driver = match core::mem::take(&mut state.wake_driver) {
            true => state.driver.clone(),
            false => None,
        };
        let mut wakes = core::mem::take(&mut state.wakes);
        drop(state);
        wakes.drain(..).chain(driver).for_each(Waker::wake);
        // The memory is used again.
        self.state.borrow_mut().wakes.append(&mut wakes);
    }

    /// The disk cannot be used any more. It keeps what the backend may still use.
    pub fn refuse(&self, over: Over) {
        self.with(|state| state.refuse(over));
        self.changes.signal();
    }

    /// The disk cannot be used any more, and gives back all it has.
    pub fn end(&self, over: Over) {
        self.refuse(over);
        // Dropped only when the state is no longer borrowed.
        let given_back = self.with(State::give_back);
        drop(given_back);
        self.changes.signal();
    }

    /// The disk's name.
    pub fn name(&self) -> String {
        self.with(|state| super::name(state.info.vdev))
    }

    /// How long a step of time takes.
    pub fn step(&self) -> Duration {
        self.wishes.request_timeout / STEPS
    }
}

impl<P: Platform> State<P> {
    /// Puts a connection in use. Those who wait go on.
    pub fn connect(&mut self, connected: Connected<P>) {
        let Connected { queues, plan, offer, notes } = connected;
        self.limits = Limits::new(offer.sector_size, offer.indirect_segments, self.info.units);
        let max_transfer = self.limits.max_transfer(self.pool.most());
        self.info.connected(plan, &offer, max_transfer);
        self.info.add_notes(notes);
        self.queues = queues;
        self.generation += 1;
        self.wake_first();
    }

    /// Takes the rings out of use; the requests on them keep their turn, to be sent again.
    pub fn disconnect(&mut self) -> Vec<Queue<P>> {
        self.exclusive = false;
        for index in 0..self.slab.slots.len() as u16 {
            let epoch = self.epoch;
            let slot = self.slab.get(index);
            if slot.stage != Stage::Flying {
                continue;
            }
            slot.stage = Stage::Again;
            self.pool.give(&mut slot.pages);
            let (ticket, waker) = (slot.work.ticket, slot.waker.clone());
            match slot.abandoned {
                true => self.slab.give(index),
                false => self.waiting.keep_place(ticket, waker, epoch),
            }
        }
        self.stats.in_flight = 0;
        core::mem::take(&mut self.queues)
    }

    fn refuse(&mut self, over: Over) {
        self.over.get_or_insert(over);
        self.wakes.extend(self.slab.slots.iter_mut().filter_map(|slot| slot.waker.take()));
        self.wakes.extend(self.waiting.wakers());
    }

    fn give_back(&mut self) -> (Vec<Queue<P>>, Pool<P>) {
        self.ended = true;
        let queues = self.disconnect();
        for slot in &mut self.slab.slots {
            slot.pages.clear();
        }
        (queues, core::mem::replace(&mut self.pool, Pool::new(self.info.backend, 0)))
    }

    /// Shows the backend what is new on the rings.
    pub fn push(&mut self) {
        for queue in &mut self.queues {
            self.stats.events_sent += u64::from(queue.push());
        }
    }

    /// Gives a slot back, with all it holds.
    pub fn release(&mut self, index: u16) {
        self.pool.give(&mut self.slab.get(index).pages);
        self.slab.give(index);
    }

    /// Has the driver look at what there is to do. It is woken once, until it has looked.
    pub fn wake_driver(&mut self) {
        self.wake_driver |= !core::mem::replace(&mut self.driver_woken, true);
    }

    /// There may be room for whoever waits first.
    pub fn wake_first(&mut self) {
        if !self.waiting.is_empty() {
            self.wakes.extend(self.waiting.first());
        }
    }

    /// A step of time has passed: finds requests that are late, and has their tasks look.
    pub fn sweep(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        let epoch = self.epoch;
        let is_late = move |since: u32| epoch.wrapping_sub(since) > STEPS;
        for slot in &mut self.slab.slots {
            if slot.stage == Stage::Flying && !slot.late && !slot.abandoned && is_late(slot.epoch) {
                slot.late = true;
                self.wakes.extend(slot.waker.clone());
            }
        }
        self.wakes.extend(self.waiting.mark_late(is_late));
    }

    /// Whether time matters to anyone.
    pub fn is_busy(&self) -> bool {
        self.stats.in_flight > 0 || !self.waiting.is_empty()
    }

    /// A report of a late request.
    pub fn stuck(
        &mut self,
        op: Op,
        sector: u64,
        sectors: u64,
        queue: Option<u32>,
        since: u32,
        step: Duration,
    ) -> Stuck {
        self.stats.timed_out += 1;
        let in_flight = match queue {
            Some(number) => self.queues[number as usize].ring.in_flight(),
            None => self.stats.in_flight,
        };
        let waited = step * self.epoch.wrapping_sub(since);
        let stuck = Stuck { op, sector, count: sectors, waited, queue, in_flight, answered: self.stats.responses };
        log::warn!("{}: {stuck}", super::name(self.info.vdev));
        stuck
    }
}
