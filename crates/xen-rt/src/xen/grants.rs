//! The grant table, version 1, and pages that are shared through it.

use super::death::LiveByte;
use super::events::generation;
use super::{DomId, Error, GrantRef, Port};
use crate::memory::{FRAMES, FreeList, PAGE, Quarantine, map_window};
use crate::one_cpu::OneCpu;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};
use volatile::{VolatilePtr, map_field};
use xen_abi::grant_table::{ENTRIES_PER_FRAME, EntryV1, Flags, RESERVED_REFS};
use xen_abi::memory::MAPSPACE_GRANT_TABLE;
use xen_hypercall::grant_table::query_size;
use xen_hypercall::memory::add_to_physmap;
use xen_platform::{Access, Granted, RawShared, SharedMem};

static TABLE: OneCpu<Option<Table>> = OneCpu::new(None);
/// Grants that were dropped while the peer still mapped them.
static STILL_MAPPED: Quarantine<Pages> = Quarantine::new();

/// The table, at an address range with room for the most frames it may have.
struct Table {
    start: NonNull<EntryV1>,
    frames: u32,
    max_frames: u32,
    /// Frames that the page tables map: after a restore more than the table has.
    mapped: u32,
    free: FreeList,
}

// SAFETY: there is one processor; see `OneCpu`.
unsafe impl Send for Table {}

/// Maps the table's first frame.
pub fn init() -> Result<(), xen_hypercall::Error> {
    let (_, max_frames) = query_size()?;
    let address = FRAMES.take_window(max_frames as usize).expect("the window is empty at boot");
    let start = NonNull::new(address as *mut EntryV1).expect("the window is not at zero");
    let mut table = Table { start, frames: 0, max_frames, mapped: 0, free: FreeList::new() };
    table.begin()?;
    TABLE.with(|slot| *slot = Some(table));
    Ok(())
}

/// Maps the new table of a restored domain, which has no entry of ours. Pages that were set aside
/// because a peer mapped them are free now.
pub fn resume() -> Result<(), xen_hypercall::Error> {
    TABLE.with(|table| {
        let table = table.as_mut().expect("the table is set up at boot");
        (table.frames, table.free) = (0, FreeList::new());
        // The address range has room for the frames of the old limit.
        table.max_frames = table.max_frames.min(query_size()?.1);
        table.begin()
    })?;
    STILL_MAPPED.sweep(|pages| {
        FRAMES.give(pages.address, pages.count);
        false
    });
    Ok(())
}

/// The state of the table at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Address that it is mapped at.
    pub address: u64,
    /// Frames it has.
    pub frames: u32,
    /// Frames it may have.
    pub max_frames: u32,
    /// References in use, with those reserved for the toolstack.
    pub used: u64,
    /// Grants that were given up while the peer still maps them.
    pub still_mapped: usize,
}

/// Returns the present state of the table.
pub fn usage() -> Usage {
    TABLE.with(|table| {
        let Table { start, frames, max_frames, free, .. } =
            table.as_ref().expect("the table is set up at boot");
        Usage {
            address: start.as_ptr() as u64,
            frames: *frames,
            max_frames: *max_frames,
            used: u64::from(frames * ENTRIES_PER_FRAME) - free.total(),
            still_mapped: STILL_MAPPED.len(),
        }
    })
}

impl Table {
    /// Maps the first frame, and leaves the toolstack's references alone.
    fn begin(&mut self) -> Result<(), xen_hypercall::Error> {
        self.grow()?;
        self.free.take(u64::from(RESERVED_REFS)).expect("the reserved references come first");
        Ok(())
    }

    /// Adds a frame.
    fn grow(&mut self) -> Result<(), xen_hypercall::Error> {
        let address = self.start.as_ptr() as u64 + u64::from(self.frames) * PAGE;
        // SAFETY: the window's frame was taken for the table and is not in use yet.
        unsafe { add_to_physmap(MAPSPACE_GRANT_TABLE, self.frames.into(), address / PAGE)? };
        if self.frames == self.mapped {
            // SAFETY: as above.
            unsafe { map_window(address, 1, true) }.ok_or(xen_hypercall::Error::Errno(12))?;
            self.mapped += 1;
        }
        self.free.give(u64::from(self.frames * ENTRIES_PER_FRAME), ENTRIES_PER_FRAME.into());
        self.frames += 1;
        Ok(())
    }

    /// Takes one reference, if need be from a new frame.
    fn take(&mut self) -> Option<GrantRef> {
        loop {
            if let Some(gref) = self.free.take(1) {
                return Some(GrantRef(gref as u32));
            }
            if self.frames == self.max_frames || self.grow().is_err() {
                return None;
            }
        }
    }

    fn entry(&self, gref: GrantRef) -> VolatilePtr<'_, EntryV1> {
        assert!(gref.0 < self.frames * ENTRIES_PER_FRAME);
        // SAFETY: inside the mapped frames; Xen and the peers change nothing but the flags, which
        // go through `flags`.
        unsafe { VolatilePtr::new(self.start.add(gref.0 as usize)) }
    }

    fn flags(&self, gref: GrantRef) -> &AtomicU16 {
        let entry = self.entry(gref);
        let flags = map_field!(entry.flags).as_raw_ptr();
        // SAFETY: an aligned field of the table, which stays mapped; only ever accessed atomically.
        unsafe { AtomicU16::from_ptr(flags.as_ptr()) }
    }

    /// Lets `peer` read a frame, or write it too: the flags last, for they make the entry valid.
    fn grant(&self, gref: GrantRef, peer: DomId, frame: u32, access: Access) {
        let entry = self.entry(gref);
        map_field!(entry.domid).write(peer.0);
        map_field!(entry.frame).write(frame);
        let flags = match access {
            Access::ReadWrite => Flags::PERMIT_ACCESS,
            Access::ReadOnly => Flags::PERMIT_ACCESS | Flags::READONLY,
        };
        self.flags(gref).store(flags.bits(), Ordering::Release);
    }

    /// Takes the permission back, unless the peer has the page mapped. Then it stays as it is.
    fn revoke(&mut self, gref: GrantRef) -> bool {
        let busy = (Flags::READING | Flags::WRITING).bits();
        let revoked = self
            .flags(gref)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |f| (f & busy == 0).then_some(0));
        if revoked.is_ok() {
            self.free.give(gref.0.into(), 1);
        }
        revoked.is_ok()
    }
}

/// Frames and the references they are granted by: what must be given back.
struct Pages {
    address: u64,
    refs: Vec<GrantRef>,
    count: usize,
}

impl Pages {
    /// Revokes what can be revoked, and gives the frames back once all is. Says whether some are
    /// still mapped.
    fn still_mapped(&mut self) -> bool {
        TABLE.with(|table| {
            let table = table.as_mut().expect("there are no grants before the table");
            self.refs.retain(|&gref| !table.revoke(gref));
        });
        if self.refs.is_empty() {
            FRAMES.give(self.address, self.count);
        }
        !self.refs.is_empty()
    }
}

/// Pages shared with a peer.
pub struct Grant {
    shared: RawShared,
    refs: Vec<GrantRef>,
    generation: u32,
    live: RefCell<Vec<LiveByte>>,
}

impl Grant {
    /// Shares `count` fresh, zeroed pages with `peer`, which can reach them in the way of `access`.
    pub fn new(peer: DomId, count: usize, access: Access) -> Result<Self, Error> {
        STILL_MAPPED.sweep(Pages::still_mapped);
        let address = FRAMES.take(count).ok_or(Error::Frames { pages: count })?;
        let start = NonNull::new(address as *mut u8).expect("page 0 is no free frame");
        // SAFETY: RAM frames that were just taken, mapped, outside the heap.
        let shared = unsafe { RawShared::new(start, count * PAGE as usize) };
        shared.zero();
        let mut pages = Pages { address, refs: Vec::with_capacity(count), count };
        let granted = TABLE.with(|table| {
            let table = table.as_mut().expect("the table is set up at boot");
            for page in 0..count as u64 {
                let wanted =
                    Error::Grants { wanted: count, limit: table.max_frames * ENTRIES_PER_FRAME };
                let gref = table.take().ok_or(wanted)?;
                // A version 1 entry has 32 bits for the frame: 16 TiB.
                table.grant(gref, peer, (address / PAGE + page) as u32, access);
                pages.refs.push(gref);
            }
            Ok(())
        });
        match granted {
            Ok(()) => Ok(Grant {
                shared,
                refs: pages.refs,
                generation: generation(),
                live: RefCell::default(),
            }),
            Err(why) => {
                // Nobody knows the references yet, so nobody maps them.
                pages.still_mapped();
                Err(why)
            }
        }
    }

    /// Clears the byte at `at` when the domain crashes or the grant is dropped, and sends an event
    /// to `port`.
    pub fn clear_on_death(&self, at: usize, port: Port) -> Result<(), Error> {
        assert!(at < self.shared.len());
        // SAFETY: inside the pages, which stay mapped until after `drop` has emptied `live`.
        let byte = unsafe { LiveByte::register(self.shared.start().as_ptr().add(at), port)? };
        self.live.borrow_mut().push(byte);
        Ok(())
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.live.borrow_mut().clear();
        let address = self.shared.start().as_ptr() as u64;
        let mut pages = Pages {
            address,
            refs: core::mem::take(&mut self.refs),
            count: self.shared.len() / PAGE as usize,
        };
        if self.generation != generation() {
            // The table that named them is gone, with all domains that could map them.
            FRAMES.give(pages.address, pages.count);
        } else if pages.still_mapped() {
            STILL_MAPPED.add(pages);
        }
    }
}

impl Granted for Grant {
    fn refs(&self) -> &[GrantRef] {
        &self.refs
    }
}

xen_platform::delegate_shared_mem!(Grant, shared);
