//! Pages for data that the backend reads and writes itself.

use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use xen_abi::blkif::SECTOR;
use xen_platform::{DomId, PAGE_SIZE, Platform, SharedMem};

/// Pages shared with a disk's backend: see [`super::Disk::buffer`]. The backend can read and change
/// them at any time, so nothing secret should be in them, and data that was read into them has to
/// be checked after it was copied. Clones are the same pages; a request in flight holds one, too.
pub struct Buffer<P: Platform>(Rc<SharedPages<P>>);

impl<P: Platform> Buffer<P> {
    pub(crate) fn new(platform: &P, backend: DomId, pages: usize) -> Result<Self, P::Error> {
        Ok(Buffer(Rc::new(SharedPages::new(platform, backend, pages)?)))
    }

    pub(crate) fn pages(&self) -> Rc<SharedPages<P>> {
        self.0.clone()
    }

    /// Returns its size in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.grant().len()
    }

    /// Copies bytes out, from the offset `at` on. Panics if the buffer ends before that.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        self.0.grant().read(at, to)
    }

    /// Copies bytes in, from the offset `at` on. Panics if the buffer ends before that.
    pub fn write(&self, at: usize, from: &[u8]) {
        self.0.grant().write(at, from)
    }
}

impl<P: Platform> Clone for Buffer<P> {
    fn clone(&self) -> Self {
        Buffer(self.0.clone())
    }
}

/// Pages that are shared anew, with the bytes that they had, when a save and restore of the domain
/// has taken their grants away.
pub(crate) struct SharedPages<P: Platform> {
    grant: RefCell<Rc<P::Grant>>,
    /// Count of the domain's resumes when they were shared.
    resumes: Cell<u32>,
}

impl<P: Platform> SharedPages<P> {
    fn new(platform: &P, backend: DomId, pages: usize) -> Result<Self, P::Error> {
        let resumes = platform.resumes().count();
        let grant = platform.share(backend, pages)?;
        Ok(SharedPages { grant: RefCell::new(Rc::new(grant)), resumes: Cell::new(resumes) })
    }

    /// Returns the pages as they are shared now.
    pub fn grant(&self) -> Rc<P::Grant> {
        self.grant.borrow().clone()
    }

    /// Shares the pages anew if their grants are gone.
    pub fn renew(&self, platform: &P, backend: DomId) -> Result<(), P::Error> {
        let resumes = platform.resumes().count();
        if self.resumes.get() == resumes {
            return Ok(());
        }
        let old = self.grant();
        let new = platform.share(backend, old.len() / PAGE_SIZE)?;
        let mut bytes = [0; SECTOR];
        for at in (0..old.len()).step_by(SECTOR) {
            old.read(at, &mut bytes);
            new.write(at, &bytes);
        }
        self.grant.replace(Rc::new(new));
        self.resumes.set(resumes);
        Ok(())
    }
}
