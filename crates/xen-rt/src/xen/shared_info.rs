//! The page that the domain shares with Xen: pending events, time.

use crate::memory::{FRAMES, PAGE, map_window};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use spin::Once;
use volatile::VolatilePtr;
use xen_abi::memory::MAPSPACE_SHARED_INFO;
use xen_abi::xen::{VcpuTimeInfo, WallClock, shared_info as at};
use xen_hypercall::memory::add_to_physmap;

/// The page, mapped.
pub struct SharedInfo(NonNull<u8>);

// SAFETY: every access is atomic or volatile, and the page is mapped for ever.
unsafe impl Send for SharedInfo {}
// SAFETY: as above.
unsafe impl Sync for SharedInfo {}

static PAGE_OF_XEN: Once<SharedInfo> = Once::new();

/// Has Xen put the page into the address space, with all events masked.
pub fn init() -> Result<(), xen_hypercall::Error> {
    let address = FRAMES.take_window(1).expect("the window is empty at boot");
    let start = NonNull::new(address as *mut u8).expect("the window is not at zero");
    let page = SharedInfo(start);
    page.place()?;
    // SAFETY: a frame without RAM that nothing else uses.
    unsafe { map_window(address, 1, true) }.expect("memory for one page table at boot");
    page.mask_all();
    PAGE_OF_XEN.call_once(|| page);
    Ok(())
}

/// Has Xen put the page of a restored domain where the old one was, with all events masked.
pub fn resume() -> Result<(), xen_hypercall::Error> {
    shared_info().place()?;
    shared_info().mask_all();
    Ok(())
}

/// The page, once it is there.
pub fn get() -> Option<&'static SharedInfo> {
    PAGE_OF_XEN.get()
}

/// Returns the page, for callers that run only after [`init`].
pub fn shared_info() -> &'static SharedInfo {
    get().expect("there are no events before the shared info page")
}

impl SharedInfo {
    /// Has Xen put the page at its address.
    fn place(&self) -> Result<(), xen_hypercall::Error> {
        // SAFETY: a frame without RAM that is the page's alone.
        unsafe { add_to_physmap(MAPSPACE_SHARED_INFO, 0, self.0.as_ptr() as u64 / PAGE) }
    }

    fn mask_all(&self) {
        let masks = (0..64).map(|word| self.word(at::EVTCHN_MASK + word * 8));
        masks.for_each(|mask| mask.store(u64::MAX, Ordering::Relaxed));
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: every caller names a 64-bit field inside the page.
        unsafe { AtomicU64::from_ptr(self.0.add(at).as_ptr().cast()) }
    }

    /// Clears the "something is pending" mark; returns true if it was set.
    #[inline]
    pub fn take_upcall(&self) -> bool {
        // SAFETY: the first byte of the page.
        let mark = unsafe { AtomicU8::from_ptr(self.0.add(at::UPCALL_PENDING).as_ptr()) };
        mark.load(Ordering::Relaxed) != 0 && mark.swap(0, Ordering::SeqCst) != 0
    }

    /// Takes the set of words that have pending events, a bit for each.
    #[inline]
    pub fn take_selector(&self) -> u64 {
        self.word(at::PENDING_SEL).swap(0, Ordering::SeqCst)
    }

    /// Takes the pending and unmasked events of a word, a bit for each port.
    #[inline]
    pub fn take_pending(&self, word: usize) -> u64 {
        let mask = self.word(at::EVTCHN_MASK + word * 8).load(Ordering::Relaxed);
        let pending = self.word(at::EVTCHN_PENDING + word * 8);
        pending.fetch_and(mask, Ordering::SeqCst) & !mask
    }

    /// Forgets an old event of a port and lets new ones through.
    pub fn open(&self, port: u32) {
        let (word, bit) = (port as usize / 64 * 8, 1 << (port % 64));
        self.word(at::EVTCHN_MASK + word).fetch_and(!bit, Ordering::SeqCst);
        // An event that came while the port was masked raised no upcall: raise it now.
        if self.word(at::EVTCHN_PENDING + word).load(Ordering::SeqCst) & bit != 0 {
            self.word(at::PENDING_SEL).fetch_or(1 << (port / 64), Ordering::SeqCst);
            // SAFETY: the first byte of the page.
            unsafe { AtomicU8::from_ptr(self.0.as_ptr()) }.store(1, Ordering::SeqCst);
        }
    }

    /// Lets no more events of a port through.
    pub fn mask(&self, port: u32) {
        self.word(at::EVTCHN_MASK + port as usize / 64 * 8)
            .fetch_or(1 << (port % 64), Ordering::SeqCst);
    }

    /// Returns Xen's record of the time, and the processor's counter by `read_tsc`, which is read
    /// while the record holds: a record that Xen replaces meanwhile says nothing about it.
    #[inline]
    pub fn time(&self, read_tsc: impl Fn() -> u64) -> (VcpuTimeInfo, u64) {
        self.consistent(at::TIME, |t: &VcpuTimeInfo| t.version, read_tsc)
    }

    /// Returns Xen's record of the wall clock, read at one moment.
    pub fn wall_clock(&self) -> WallClock {
        self.consistent(at::WALL_CLOCK, |t: &WallClock| t.version, || ()).0
    }

    /// Reads a structure that Xen marks with an odd or a new version while it changes it, and
    /// something else while the structure holds.
    #[inline]
    fn consistent<T: Copy, R>(
        &self,
        at: usize,
        version: impl Fn(&T) -> u32,
        beside: impl Fn() -> R,
    ) -> (T, R) {
        // SAFETY: both callers name a structure of plain numbers inside the page, which is mapped
        // for ever.
        let place = unsafe { VolatilePtr::new_read_only(self.0.add(at).cast::<T>()) };
        loop {
            let before = version(&place.read());
            fence(Ordering::Acquire);
            let (value, other) = (place.read(), beside());
            fence(Ordering::Acquire);
            if before & 1 == 0 && before == version(&value) && before == version(&place.read()) {
                return (value, other);
            }
        }
    }
}
