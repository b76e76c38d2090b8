//! Handle of a disk that is being served.

use crate::back::error::PeerError;
use crate::back::stats::Stats;
use alloc::rc::Rc;
use core::cell::{Cell, Ref, RefCell, RefMut};
use core::task::{Context, Poll};
use xen_abi::xenbus::State;
use xen_platform::EventCounter;

/// End that the program has asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Wanted {
    Serve,
    Stop,
    Force,
}

/// Stops a backend and looks at it. Clones are the same; it can be made before the backend is
/// started.
#[derive(Clone)]
pub struct Handle(Rc<Inner>);

struct Inner {
    wanted: Cell<Wanted>,
    asked: EventCounter,
    stats: RefCell<Stats>,
    state: Cell<State>,
    broken: RefCell<Option<PeerError>>,
}

impl Default for Handle {
    fn default() -> Self {
        Handle(Rc::new(Inner {
            wanted: Cell::new(Wanted::Serve),
            asked: EventCounter::new(),
            stats: RefCell::default(),
            state: Cell::new(State::INITIALISING),
            broken: RefCell::new(None),
        }))
    }
}

impl Handle {
    /// Creates a handle for a backend that is still to be started.
    pub fn new() -> Handle {
        Self::default()
    }

    /// Asks the frontend to let go of the disk: requests go on being served until it does.
    pub fn stop(&self) {
        self.ask(Wanted::Stop)
    }

    /// Ends the disk without waiting for the frontend. Operations of the storage are still
    /// finished.
    pub fn force(&self) {
        self.ask(Wanted::Force)
    }

    fn ask(&self, wanted: Wanted) {
        self.0.wanted.set(wanted.max(self.0.wanted.get()));
        self.0.asked.signal();
    }

    /// Returns the counters.
    pub fn stats(&self) -> Ref<'_, Stats> {
        self.0.stats.borrow()
    }

    /// Returns the backend's state.
    pub fn state(&self) -> State {
        self.0.state.get()
    }

    /// Returns the last breach of the protocol by the frontend.
    pub fn broken(&self) -> Option<PeerError> {
        self.0.broken.borrow().clone()
    }

    pub(super) fn wanted(&self) -> Wanted {
        self.0.wanted.get()
    }

    pub(super) fn asked(&self) -> u32 {
        self.0.asked.count()
    }

    pub(super) fn poll_asked(&self, seen: &mut u32, cx: &mut Context<'_>) -> Poll<()> {
        self.0.asked.poll_after(seen, cx)
    }

    pub(super) fn count(&self) -> RefMut<'_, Stats> {
        self.0.stats.borrow_mut()
    }

    pub(super) fn set_state(&self, state: State) {
        self.0.state.set(state)
    }

    pub(super) fn set_broken(&self, why: PeerError) {
        self.0.broken.replace(Some(why));
    }
}
