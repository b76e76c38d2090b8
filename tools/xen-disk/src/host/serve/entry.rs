//! A disk that is to be served, and the wish to end that.

use crate::config::Spec;
use crate::disk::Disk;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use xen_platform::{EventCounter, Time};

/// A disk that is to be served, now or once its domain is there.
pub(super) struct Entry {
    /// The disk and its domain.
    pub spec: Spec,
    /// True if it was added by an order, and is in no configuration.
    pub is_added: bool,
    /// Ends that.
    pub ending: Ending,
}

impl Entry {
    /// Makes an entry of which nobody has asked anything.
    pub fn new(spec: Spec) -> Rc<Entry> {
        Rc::new(Entry { spec, is_added: false, ending: Ending::default() })
    }

    /// Makes one that was added by an order.
    pub fn added(spec: Spec) -> Rc<Entry> {
        Rc::new(Entry { spec, is_added: true, ending: Ending::default() })
    }
}

/// The wish to end: the user's, or that of a configuration without the disk.
#[derive(Default)]
pub(super) struct Ending {
    times: Cell<u32>,
    event: EventCounter,
    /// The disk's, while it is served.
    served: RefCell<Option<(Rc<Disk>, Time)>>,
}

impl Ending {
    /// Asks: the first time in good order, the second time at once.
    pub fn ask(&self) {
        self.times.set(self.times.get() + 1);
        if let Some((disk, _)) = &*self.served.borrow() {
            match self.times.get() {
                1 => disk.handle.stop(),
                _ => disk.handle.force(),
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

    /// Hands over the disk, which is served since `start`.
    pub fn begin(&self, disk: Rc<Disk>, start: Time) {
        if self.is_asked() {
            disk.handle.stop();
        }
        self.served.replace(Some((disk, start)));
    }

    /// Returns the disk, and since when it is served.
    pub fn served(&self) -> Option<(Rc<Disk>, Time)> {
        self.served.borrow().clone()
    }

    /// Forgets the disk, which has ended.
    pub fn forget(&self) {
        self.served.replace(None);
    }
}
