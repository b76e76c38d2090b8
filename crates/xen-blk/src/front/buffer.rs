//! Pages for data that the backend reads and writes itself.

use alloc::rc::Rc;
use xen_platform::{Platform, SharedMem};

/// Pages shared with a disk's backend: see [`super::Disk::buffer`]. The backend can read and change them at any time, so
/// nothing secret should be in them, and what is read from them has to be checked after it was copied. Clones are the
/// same pages; a request under way holds one, too.
pub struct Buffer<P: Platform>(Rc<P::Grant>);

impl<P: Platform> Buffer<P> {
    pub(crate) fn new(grant: P::Grant) -> Self {
        Buffer(Rc::new(grant))
    }

    pub(crate) fn grant(&self) -> Rc<P::Grant> {
        self.0.clone()
    }

    /// How many bytes it has.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Copies bytes out, from the offset `at` on. Panics if the buffer ends before that.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        self.0.read(at, to)
    }

    /// Copies bytes in, from the offset `at` on. Panics if the buffer ends before that.
    pub fn write(&self, at: usize, from: &[u8]) {
        self.0.write(at, from)
    }
}

impl<P: Platform> Clone for Buffer<P> {
    fn clone(&self) -> Self {
        Buffer(self.0.clone())
    }
}
