//! Page frames that lie outside the heap: for page tables, and for memory that is shared with other
//! domains.

use super::free_list::FreeList;
use super::heap::KernelHeap;
use super::map::{PAGE, Ranges};
use alloc::vec::Vec;
use spin::Mutex;

/// Frames in RAM, and the numbers of frames where there is no RAM.
pub struct Frames {
    heap: &'static KernelHeap,
    ram: Mutex<FreeList>,
    window: Mutex<FreeList>,
}

impl Frames {
    /// No frames but those that `heap` lets go of.
    pub const fn new(heap: &'static KernelHeap) -> Self {
        Frames { heap, ram: Mutex::new(FreeList::new()), window: Mutex::new(FreeList::new()) }
    }

    /// Adds RAM that the heap does not have, and a hole in the address space where pages of Xen and
    /// of other domains can appear.
    pub fn init(&self, ram: &Ranges, window: core::ops::Range<u64>) {
        for range in ram.iter() {
            self.ram.lock().give(range.start / PAGE, (range.end - range.start) / PAGE);
        }
        self.window.lock().give(window.start / PAGE, (window.end - window.start) / PAGE);
    }

    /// Takes `count` frames of RAM in a row; returns the first one's address.
    pub fn take(&self, count: usize) -> Option<u64> {
        // The highest ones, so that those next to the heap become free first and go back to it.
        let known = self.ram.lock().take_high(count as u64);
        let frame = known.or_else(|| {
            self.heap.claim_top(count * PAGE as usize).map(|start| start as u64 / PAGE)
        });
        frame.map(|frame| frame * PAGE)
    }

    /// Gives `count` frames from `address` on back. Those that adjoin the heap's range are the
    /// heap's again.
    pub fn give(&self, address: u64, count: usize) {
        let mut ram = self.ram.lock();
        ram.give(address / PAGE, count as u64);
        let adjoining = ram.take_from(self.heap.top() as u64 / PAGE);
        // SAFETY: these frames are free, and no longer in the list.
        unsafe { self.heap.give_top((adjoining * PAGE) as usize) };
    }

    /// Takes `count` frame numbers without RAM in a row; returns the first one's address.
    pub fn take_window(&self, count: usize) -> Option<u64> {
        self.window.lock().take(count as u64).map(|frame| frame * PAGE)
    }

    /// Gives `count` frame numbers from `address` on back.
    pub fn give_window(&self, address: u64, count: usize) {
        self.window.lock().give(address / PAGE, count as u64);
    }

    /// Bytes of RAM that are free here; the heap has more.
    pub fn free_bytes(&self) -> u64 {
        self.ram.lock().total() * PAGE
    }
}

/// Pages that peers still map although we let go of them: set aside until they are given up.
///
/// `still_used` says whether a page is still mapped; [`Quarantine::sweep`] asks it again.
pub struct Quarantine<T>(Mutex<Vec<T>>);

impl<T> Quarantine<T> {
    /// Empty.
    pub const fn new() -> Self {
        Quarantine(Mutex::new(Vec::new()))
    }

    /// Sets something aside.
    pub fn add(&self, thing: T) {
        self.0.lock().push(thing);
    }

    /// Lets go of everything for which `still_used` says false.
    pub fn sweep(&self, mut still_used: impl FnMut(&mut T) -> bool) {
        self.0.lock().retain_mut(&mut still_used);
    }

    /// Returns the number of things that are set aside.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Returns true if nothing is set aside.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Default for Quarantine<T> {
    fn default() -> Self {
        Self::new()
    }
}
