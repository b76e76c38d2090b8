//! Shared pages: one's own through `gntalloc`, a peer's through `gntdev`.

use crate::sys::{self, Mapping};
use crate::{Error, Linux, error};
use rustix::fd::OwnedFd;
use std::ptr::NonNull;
use std::rc::Rc;
use xen_platform::{Access, DomId, GrantRef, Granted, IndexMemory, PAGE_SIZE, Port, SharedMem};

/// Mapped pages and what has to be given back after unmapping them.
///
/// The order of the fields is the order in which they are dropped: both devices want munmap(2)
/// before their own request.
pub struct Pages<R> {
    mapping: Mapping,
    held: R,
}

/// Pages of one's own that a peer may map.
pub type LinuxGrant = Pages<Grants>;
/// A peer's pages.
pub type LinuxMap = Pages<Foreign>;

/// Grants in `gntalloc`: dropping them frees the pages, in the kernel's time if the peer still maps
/// them.
pub struct Grants {
    gntalloc: Rc<OwnedFd>,
    index: u64,
    refs: Vec<GrantRef>,
}

/// Entries in the table of `gntdev`.
pub struct Foreign {
    gntdev: Rc<OwnedFd>,
    index: u64,
    pages: usize,
    first: GrantRef,
}

impl Drop for Grants {
    fn drop(&mut self) {
        let freed = sys::free_grants(&*self.gntalloc, self.index, self.refs.len());
        debug_assert!(freed.is_ok(), "giving back grants {:?}: {freed:?}", self.refs);
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let removed = sys::remove_grants(&*self.gntdev, self.index, self.pages);
        debug_assert!(removed.is_ok(), "removing the mapping at {:#x}: {removed:?}", self.index);
    }
}

impl LinuxGrant {
    pub(crate) fn share(
        linux: &Linux,
        peer: DomId,
        pages: usize,
        access: Access,
    ) -> Result<Self, Error> {
        assert!(pages > 0, "no pages to share");
        let gntalloc = linux.gntalloc()?;
        let refused = |reason| error::share(peer, pages, reason);
        let (index, refs) = sys::alloc_grants(&*gntalloc, peer, pages, access).map_err(refused)?;
        let held = Grants { gntalloc, index, refs };
        let mapping = Mapping::new(&*held.gntalloc, index, pages * PAGE_SIZE, Access::ReadWrite)
            .map_err(refused)?;
        Ok(Pages { mapping, held })
    }

    /// See [`Platform::clear_grant_on_death`](xen_platform::Platform::clear_grant_on_death).
    pub(crate) fn clear_on_death(&self, at: usize, port: Port) -> Result<(), Error> {
        assert!(at < self.len(), "byte {at} of {}", self.len());
        sys::set_unmap_notify(&*self.held.gntalloc, self.held.index + at as u64, port)
            .map_err(|reason| error::notice("/dev/xen/gntalloc", reason))
    }
}

impl LinuxMap {
    pub(crate) fn map(
        linux: &Linux,
        peer: DomId,
        refs: &[GrantRef],
        access: Access,
    ) -> Result<Self, Error> {
        assert!(!refs.is_empty(), "no grants to map");
        let gntdev = linux.gntdev()?;
        let refused =
            |reason| error::map(format!("map {} of domain {peer}", named(refs)), peer, reason);
        let index = sys::insert_grants(&*gntdev, peer, refs).map_err(refused)?;
        let held = Foreign { gntdev, index, pages: refs.len(), first: refs[0] };
        let mapping =
            Mapping::new(&*held.gntdev, index, refs.len() * PAGE_SIZE, access).map_err(refused)?;
        Ok(Pages { mapping, held })
    }

    /// The grant of the first page.
    pub(crate) fn first(&self) -> GrantRef {
        self.held.first
    }

    /// See [`Platform::clear_map_on_death`](xen_platform::Platform::clear_map_on_death).
    pub(crate) fn clear_on_death(&self, at: usize, port: Port) -> Result<(), Error> {
        assert!(at < self.len(), "byte {at} of {}", self.len());
        sys::set_unmap_notify(&*self.held.gntdev, self.held.index + at as u64, port)
            .map_err(|reason| error::notice("/dev/xen/gntdev", reason))
    }
}

/// Grants as an error names them, at most a few of them.
fn named(refs: &[GrantRef]) -> String {
    match refs {
        [one] => format!("grant {one}"),
        [first, .., last] => format!("{} grants ({first} to {last})", refs.len()),
        [] => "no grants".to_string(),
    }
}

impl Granted for LinuxGrant {
    fn refs(&self) -> &[GrantRef] {
        &self.held.refs
    }
}

impl<R> SharedMem for Pages<R> {
    fn len(&self) -> usize {
        self.mapping.area().len()
    }
    fn read(&self, at: usize, to: &mut [u8]) {
        self.mapping.area().read(at, to)
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.mapping.area().write(at, from)
    }
    fn address(&self) -> Option<NonNull<u8>> {
        self.mapping.area().address()
    }
}

impl<R> IndexMemory for Pages<R> {
    fn load(&self, at: usize) -> u32 {
        self.mapping.area().load(at)
    }
    fn store(&self, at: usize, value: u32) {
        self.mapping.area().store(at, value)
    }
    fn load_u8(&self, at: usize) -> u8 {
        self.mapping.area().load_u8(at)
    }
    fn store_u8(&self, at: usize, value: u8) {
        self.mapping.area().store_u8(at, value)
    }
    fn fetch_or(&self, at: usize, bits: u8) -> u8 {
        self.mapping.area().fetch_or(at, bits)
    }
    fn fetch_and(&self, at: usize, bits: u8) -> u8 {
        self.mapping.area().fetch_and(at, bits)
    }
    fn fence(&self) {
        self.mapping.area().fence()
    }
}
