//! A disk that is to be served, and the wish to end that.

use crate::config::Spec;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use xen_blk::back::Handle;
use xen_platform::EventCounter;

/// A disk that is to be served, now or once its domain is there.
pub(super) struct Entry {
    /// The disk and its domain.
    pub spec: Spec,
    /// Ends that.
    pub ending: Ending,
}

impl Entry {
    /// Makes an entry of which nobody has asked anything.
    pub fn new(spec: Spec) -> Rc<Entry> {
        Rc::new(Entry { spec, ending: Ending::default() })
    }
}

/// The wish to end: the user's, or that of a configuration without the disk.
#[derive(Default)]
pub(super) struct Ending {
    times: Cell<u32>,
    event: EventCounter,
    /// The disk's, while it is served.
    handle: RefCell<Option<Handle>>,
}

impl Ending {
    /// Asks: the first time in good order, the second time at once.
    pub fn ask(&self) {
        self.times.set(self.times.get() + 1);
        if let Some(handle) = &*self.handle.borrow() {
            match self.times.get() {
                1 => handle.stop(),
                _ => handle.force(),
            }
        }
        self.event.signal();
    }

    /// Returns true once it was asked.
    pub fn is_asked(&self) -> bool {
        self.times.get() > 0
    }

    /// Waits until it is asked.
    pub async fn asked(&self) {
        poll_fn(|cx| self.event.poll_after(&mut 0, cx)).await;
    }

    /// Hands over the disk that is served from now on.
    pub fn begin(&self, handle: Handle) {
        if self.is_asked() {
            handle.stop();
        }
        self.handle.replace(Some(handle));
    }

    /// Forgets the disk, which has ended.
    pub fn forget(&self) {
        self.handle.replace(None);
    }
}
