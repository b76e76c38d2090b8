//! Watching the accesses to shared memory: counting reads, and changing memory in the middle of an
//! operation.

use crate::World;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use xen_platform::{DomId, GrantRef};

/// Effect of an access on the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessKind {
    /// It takes a copy of them.
    Read,
    /// It replaces them without looking.
    Write,
    /// It looks and replaces, in one step (`fetch_or`, `fetch_and`).
    Update,
}

/// One access to one shared page. An access across a page boundary is shown as one for each page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryAccess {
    /// The domain that makes it.
    pub by: DomId,
    /// The domain that the page belongs to.
    pub owner: DomId,
    /// The owner's grant reference for the page.
    pub gref: GrantRef,
    /// The first byte's offset in the page.
    pub at: usize,
    /// Number of bytes.
    pub len: usize,
    /// Effect on them.
    pub kind: AccessKind,
}

impl MemoryAccess {
    /// Returns whether the access touches the byte at `at` of the page that `owner` shared as
    /// `gref`.
    pub fn touches(&self, owner: DomId, gref: GrantRef, at: usize) -> bool {
        (self.owner, self.gref) == (owner, gref) && (self.at..self.at + self.len).contains(&at)
    }
}

type Look = dyn FnMut(&MemoryAccess);

/// The watchers of a world, each under a number of its own.
#[derive(Default)]
pub(crate) struct Watchers {
    list: RefCell<Vec<(u64, Rc<RefCell<Look>>)>>,
    next: Cell<u64>,
}

impl Watchers {
    fn add(&self, look: Rc<RefCell<Look>>) -> u64 {
        let id = self.next.replace(self.next.get() + 1);
        self.list.borrow_mut().push((id, look));
        id
    }
}

impl World {
    /// Calls `look` before every access that a domain makes to shared memory. It may change the
    /// memory through a [`crate::RawPage`] (a peer that changes a field after it was checked), or
    /// through a domain of its own, whose accesses it is not shown.
    pub fn on_access(&self, look: impl FnMut(&MemoryAccess) + 'static) -> AccessHook {
        AccessHook { id: self.0.watchers.add(Rc::new(RefCell::new(look))), world: self.clone() }
    }

    /// Counts, from now on, how often `reader` reads each byte of shared memory.
    pub fn count_reads(&self, reader: DomId) -> ReadCount {
        let counts = Rc::new(RefCell::new(Counts::new()));
        let shared = counts.clone();
        let hook = self.on_access(move |access| {
            if access.by == reader && access.kind != AccessKind::Write {
                let mut counts = shared.borrow_mut();
                for at in access.at..access.at + access.len {
                    *counts.entry((access.owner, access.gref, at)).or_default() += 1;
                }
            }
        });
        ReadCount { counts, _hook: hook }
    }

    pub(crate) fn is_watched(&self) -> bool {
        !self.0.watchers.list.borrow().is_empty()
    }

    pub(crate) fn show(&self, access: &MemoryAccess) {
        let watchers: Vec<_> =
            self.0.watchers.list.borrow().iter().map(|(_, look)| look.clone()).collect();
        for look in watchers {
            // Busy: this access is the watcher's own doing.
            if let Ok(mut look) = look.try_borrow_mut() {
                look(access);
            }
        }
    }
}

/// A function that sees every access to shared memory, for as long as this value lives
/// ([`World::on_access`]).
#[must_use = "the hook is removed when this is dropped"]
pub struct AccessHook {
    world: World,
    id: u64,
}

impl Drop for AccessHook {
    fn drop(&mut self) {
        let mut list = self.world.0.watchers.list.borrow_mut();
        let Some(index) = list.iter().position(|(id, _)| *id == self.id) else { return };
        let removed = list.remove(index);
        drop(list);
        drop(removed);
    }
}

type Counts = BTreeMap<(DomId, GrantRef, usize), u32>;

/// Counts of the reads of each byte of shared memory by one domain ([`World::count_reads`]).
pub struct ReadCount {
    counts: Rc<RefCell<Counts>>,
    _hook: AccessHook,
}

impl ReadCount {
    /// Returns the number of reads of the byte at `at` of the page that `owner` shared as `gref`.
    pub fn of(&self, owner: DomId, gref: GrantRef, at: usize) -> u32 {
        self.counts.borrow().get(&(owner, gref, at)).copied().unwrap_or(0)
    }

    /// Returns the number of reads of the byte most read in `range` of that page.
    pub fn most(&self, owner: DomId, gref: GrantRef, range: Range<usize>) -> u32 {
        let counts = self.counts.borrow();
        counts
            .range((owner, gref, range.start)..(owner, gref, range.end))
            .map(|(_, n)| *n)
            .max()
            .unwrap_or(0)
    }

    /// Every byte that was read more than once, as owner, grant and offset in the page.
    pub fn repeated(&self) -> Vec<(DomId, GrantRef, usize)> {
        self.counts.borrow().iter().filter(|(_, n)| **n > 1).map(|(at, _)| *at).collect()
    }

    /// Starts again from zero: a new operation begins.
    pub fn reset(&self) {
        self.counts.borrow_mut().clear()
    }
}
