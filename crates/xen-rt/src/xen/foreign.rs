//! Pages of other domains, mapped here.

use super::death::LiveByte;
use super::events::generation;
use super::{DomId, Error, GrantRef, Port};
use crate::memory::paging::unmap_window;
use crate::memory::{FRAMES, PAGE, map_window};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ptr::NonNull;
use xen_hypercall::grant_table as gnttab;
use xen_platform::{Access, RawShared};

/// A peer's pages, in a row.
pub struct Map {
    shared: RawShared,
    handles: Vec<u32>,
    generation: u32,
    live: RefCell<Vec<LiveByte>>,
}

impl Map {
    /// Maps the pages that `peer` granted as `refs`.
    pub fn new(peer: DomId, refs: &[GrantRef], access: Access) -> Result<Self, Error> {
        let no_room = Error::Window { pages: refs.len() };
        let address = FRAMES.take_window(refs.len()).ok_or(no_room)?;
        let start = NonNull::new(address as *mut u8).expect("the window is not at zero");
        // SAFETY: the range is the map's alone; until it is mapped below nothing touches it.
        let shared = unsafe { RawShared::new(start, refs.len() * PAGE as usize) };
        // From here on, dropping `map` undoes what was done so far.
        let mut map = Map {
            shared,
            handles: Vec::with_capacity(refs.len()),
            generation: generation(),
            live: RefCell::default(),
        };
        for (page, &gref) in refs.iter().enumerate() {
            // SAFETY: a frame number without RAM that was just taken.
            let handle = unsafe { gnttab::map(address + page as u64 * PAGE, peer, gref, access) };
            map.handles.push(handle.map_err(|why| Error::Map { peer, gref, why })?);
        }
        // SAFETY: the peer's pages are there now, and are used as shared memory only.
        unsafe { map_window(address, refs.len(), access == Access::ReadWrite) }.ok_or(no_room)?;
        Ok(map)
    }

    /// Clears the byte at `at` when the domain crashes or the map is dropped, and sends an event to
    /// `port`.
    pub fn clear_on_death(&self, at: usize, port: Port) -> Result<(), Error> {
        assert!(at < self.handles.len() * PAGE as usize);
        // SAFETY: inside the pages, which stay mapped until after `drop` has emptied `live`.
        let byte = unsafe { LiveByte::register(self.shared.start().as_ptr().add(at), port)? };
        self.live.borrow_mut().push(byte);
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        self.live.borrow_mut().clear();
        let address = self.shared.start().as_ptr() as u64;
        let pages = xen_platform::SharedMem::len(&self.shared) / PAGE as usize;
        // SAFETY: the pages were used through this value alone.
        unsafe { unmap_window(address, pages) };
        // After a restore there is nothing that could be unmapped.
        if self.generation != generation() {
            return FRAMES.give_window(address, pages);
        }
        let mut unmapped = true;
        for (page, &handle) in self.handles.iter().enumerate() {
            // SAFETY: as above.
            if let Err(why) = unsafe { gnttab::unmap(address + page as u64 * PAGE, handle) } {
                log::error!("a page of another domain stays mapped at {address:#x}: {why}");
                unmapped = false;
            }
        }
        if unmapped {
            FRAMES.give_window(address, pages);
        }
    }
}

xen_platform::delegate_shared_mem!(Map, shared);
