//! Shared pages, and the checked way to reach them.

use super::process::Process;
use super::watch::{AccessKind, MemoryAccess};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use xen_platform::{DomId, GrantRef, IndexMemory, PAGE_SIZE, SharedMem};

/// Byte of a page that was given back: a domain that still reads it shall notice.
pub(crate) const POISON: u8 = 0xdb;

/// Byte that a dead domain reads: nobody answers.
const NOBODY: u8 = 0xff;

/// One page, and the grant it was last shared under.
pub(crate) struct Page {
    pub owner: Cell<DomId>,
    pub gref: Cell<GrantRef>,
    bytes: RefCell<[u8; PAGE_SIZE]>,
}

impl Page {
    pub fn new(owner: DomId, gref: GrantRef) -> Rc<Page> {
        Rc::new(Page {
            owner: Cell::new(owner),
            gref: Cell::new(gref),
            bytes: RefCell::new([0; PAGE_SIZE]),
        })
    }

    pub fn fill(&self, value: u8) {
        self.bytes.borrow_mut().fill(value)
    }

    pub fn set(&self, at: usize, value: u8) {
        self.bytes.borrow_mut()[at] = value
    }

    /// Returns a page of `owner` with the same bytes.
    pub fn copy(&self, owner: DomId) -> Rc<Page> {
        let copy = Page::new(owner, self.gref.get());
        *copy.bytes.borrow_mut() = *self.bytes.borrow();
        copy
    }
}

/// Pages in a row, as one user reaches them.
pub(crate) struct Area {
    /// The process that reaches them; `None` for a test that looks from outside.
    pub by: Option<Rc<Process>>,
    /// Shared with the holding, which gives a resumed domain copies of its own pages.
    pub pages: Pages,
    pub writable: bool,
    /// The pages belong to another domain.
    pub foreign: bool,
    /// The generation of the process that made it.
    pub generation: u32,
}

/// The pages that a grant or a mapping reaches, in order.
pub(crate) type Pages = Rc<RefCell<Vec<Rc<Page>>>>;

impl Area {
    /// Checks an access and shows it to the watchers. Returns false if its process is dead, so
    /// that nothing must happen.
    fn begin(&self, at: usize, len: usize, align: usize, kind: AccessKind) -> bool {
        let size = self.len();
        let inside = at.checked_add(len).is_some_and(|end| end <= size);
        assert!(inside, "{len} bytes at {at} of a shared area of {size}");
        assert!(at % align == 0, "misaligned offset {at} in a shared area");
        let Some(by) = &self.by else { return true };
        if !self.is_there(by) {
            return false;
        }
        assert!(
            self.writable || kind == AccessKind::Read,
            "domain {} writes {len} bytes at {at} of pages that it mapped read-only",
            by.domid()
        );
        if by.world.is_watched() {
            self.pieces(at, len, |page, range, _| {
                by.world.show(&MemoryAccess {
                    by: by.domid(),
                    owner: page.owner.get(),
                    gref: page.gref.get(),
                    at: range.start,
                    len: range.len(),
                    kind,
                });
            });
        }
        // Once more: a watcher may have killed it.
        self.is_there(by)
    }

    /// Returns whether an access reaches memory: not that of a dead process, nor a mapping from
    /// before the domain was resumed. A resumed domain's own memory is still there.
    fn is_there(&self, by: &Process) -> bool {
        by.is_alive() && (!self.foreign || self.generation == by.generation())
    }

    /// Calls `each` with the page, the range in it and the range in the whole, for every page that
    /// `at..at + len` touches.
    fn pieces(
        &self,
        at: usize,
        len: usize,
        mut each: impl FnMut(&Page, Range<usize>, Range<usize>),
    ) {
        let pages = self.pages.borrow();
        let mut done = 0;
        while done < len {
            let (page, start) = ((at + done) / PAGE_SIZE, (at + done) % PAGE_SIZE);
            let piece = (len - done).min(PAGE_SIZE - start);
            each(&pages[page], start..start + piece, done..done + piece);
            done += piece;
        }
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut value = [0; N];
        self.pieces(at, N, |page, from, to| value[to].copy_from_slice(&page.bytes.borrow()[from]));
        value
    }

    fn put(&self, at: usize, from: &[u8]) {
        self.pieces(at, from.len(), |page, to, part| {
            page.bytes.borrow_mut()[to].copy_from_slice(&from[part])
        });
    }

    fn update(&self, at: usize, change: impl Fn(u8) -> u8) -> u8 {
        if !self.begin(at, 1, 1, AccessKind::Update) {
            return NOBODY;
        }
        let [old] = self.get(at);
        self.put(at, &[change(old)]);
        old
    }
}

impl IndexMemory for Area {
    fn load(&self, at: usize) -> u32 {
        let alive = self.begin(at, 4, 4, AccessKind::Read);
        u32::from_le_bytes(if alive { self.get(at) } else { [NOBODY; 4] })
    }
    fn store(&self, at: usize, value: u32) {
        if self.begin(at, 4, 4, AccessKind::Write) {
            self.put(at, &value.to_le_bytes());
        }
    }
    fn load_u8(&self, at: usize) -> u8 {
        let alive = self.begin(at, 1, 1, AccessKind::Read);
        u8::from_le_bytes(if alive { self.get(at) } else { [NOBODY] })
    }
    fn store_u8(&self, at: usize, value: u8) {
        if self.begin(at, 1, 1, AccessKind::Write) {
            self.put(at, &[value]);
        }
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.update(at, |old| old | bits)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.update(at, |old| old & bits)
    }
    /// One thread sees its own accesses in order: there is nothing to do.
    fn fence(&self) {}
}

impl SharedMem for Area {
    fn len(&self) -> usize {
        self.pages.borrow().len() * PAGE_SIZE
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        if !self.begin(at, to.len(), 1, AccessKind::Read) {
            return to.fill(NOBODY);
        }
        self.pieces(at, to.len(), |page, from, part| {
            to[part].copy_from_slice(&page.bytes.borrow()[from])
        });
    }
    fn write(&self, at: usize, from: &[u8]) {
        if self.begin(at, from.len(), 1, AccessKind::Write) {
            self.put(at, from);
        }
    }
}

/// Makes a type with a field `area` shared memory.
macro_rules! shared_memory {
    ($name:ty) => {
        impl xen_platform::IndexMemory for $name {
            fn load(&self, at: usize) -> u32 {
                self.area.load(at)
            }
            fn store(&self, at: usize, value: u32) {
                self.area.store(at, value)
            }
            fn load_u8(&self, at: usize) -> u8 {
                self.area.load_u8(at)
            }
            fn store_u8(&self, at: usize, value: u8) {
                self.area.store_u8(at, value)
            }
            fn fetch_or(&self, at: usize, bits: u8) -> u8 {
                self.area.fetch_or(at, bits)
            }
            fn fetch_and(&self, at: usize, bits: u8) -> u8 {
                self.area.fetch_and(at, bits)
            }
            fn fence(&self) {
                self.area.fence()
            }
        }

        impl xen_platform::SharedMem for $name {
            fn len(&self) -> usize {
                self.area.len()
            }
            fn read(&self, at: usize, to: &mut [u8]) {
                self.area.read(at, to)
            }
            fn write(&self, at: usize, from: &[u8]) {
                self.area.write(at, from)
            }
        }
    };
}
pub(crate) use shared_memory;

/// A granted page as the test reaches it, from outside all domains: always writable, never counted,
/// never watched.
pub struct RawPage {
    pub(crate) area: Area,
}

shared_memory!(RawPage);
