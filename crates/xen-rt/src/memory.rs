//! Memory: which RAM there is, the page tables, the heap and the page frames.

mod balloon;
mod frames;
mod free_list;
mod heap;
mod map;
pub mod paging;

pub use balloon::Balloon;
pub use frames::{Frames, Quarantine};
pub use free_list::FreeList;
pub use heap::{Heap, KernelHeap};
pub use map::{PAGE, Ranges};

use core::ops::Range;
use paging::{Image, TableFrames};

/// The heap of the whole domain.
pub static HEAP: KernelHeap = KernelHeap::new();
/// The page frames outside it.
pub static FRAMES: Frames = Frames::new(&HEAP);

/// Bytes of address space, above all that the memory map names, where pages of Xen and of other
/// domains appear.
const WINDOW_SIZE: u64 = 1 << 30;

/// Switches to the kernel's own page tables and sets up heap and frames. `ram` is all RAM of the
/// memory map, `busy` the end of what must be kept behind the image: what Xen loaded there. Xen has
/// memory for all but `excess` pages of it: these are held back. Panics, naming the lack, if there
/// is too little.
///
/// # Safety
/// To be called once, on the page tables of `boot/pvh.S`; `ram` must be RAM, free but for the image
/// and `busy`.
pub unsafe fn init(ram: &Ranges, image: &Image, guards: &[u64], busy: Range<u64>, excess: u64) {
    let mut free = ram.clone();
    free.remove(0, PAGE);
    free.remove(image.text.start, image.data.end);
    free.remove(busy.start, busy.end);

    let held = free.cut_top(excess * PAGE);

    // The page tables come from the first free megabytes, which the boot tables map.
    let tables = tables_needed(ram) * PAGE;
    let low = free.iter().find(|r| r.end - r.start >= tables && r.start + tables <= 1 << 30);
    let low = low.unwrap_or_else(|| {
        panic!("no room for {} KiB of page tables: give the domain more memory", tables / 1024)
    });
    let mut frames = TableFrames(low.start..low.start + tables);
    // SAFETY: by the caller's promise, and the frames were just found free.
    unsafe { paging::build(ram, image, guards, &mut frames) }
        .expect("the page tables' size was computed");
    free.remove(low.start, frames.0.start);

    let largest = free.largest().expect("there is RAM beside the image");
    free.remove(largest.start, largest.end);
    // SAFETY: the range is mapped now, free, and nobody else's; called once.
    unsafe { HEAP.init(largest.start as usize, largest.end as usize) };
    FRAMES.init(&free, window(ram));
    crate::balloon::init(ram.bytes() / PAGE, held.iter());
}

/// The window: from the first whole GiB above RAM on, and above 4 GiB, below which the special
/// pages and the local APIC lie. A domain's RAM may reach up to them.
pub fn window(ram: &Ranges) -> Range<u64> {
    let top = ram.iter().map(|r| r.end).max().unwrap_or(0).max(4 << 30);
    let start = top.next_multiple_of(1 << 30);
    start..start + WINDOW_SIZE
}

/// At most how many tables it takes to map `ram`: the root; for each range a table of each level at
/// either end; one for each GiB in between; and the image's own.
fn tables_needed(ram: &Ranges) -> u64 {
    let ranges = ram.iter().count() as u64;
    let gib: u64 = ram.iter().map(|r| (r.end - r.start) >> 30).sum();
    1 + ranges * 6 + gib + 4
}

/// Maps `count` pages at `start`, outside RAM. `None` when no frames are left for page tables.
///
/// # Safety
/// As for [`paging::map_window`].
pub unsafe fn map_window(start: u64, count: usize, writable: bool) -> Option<()> {
    // One table covers 2 MiB, and the tables above it come at most once each.
    let tables = count / 512 + 4;
    let address = FRAMES.take(tables)?;
    let mut frames = TableFrames(address..address + tables as u64 * PAGE);
    // SAFETY: the caller's promise.
    let mapped = unsafe { paging::map_window(start, count, writable, &mut frames) };
    let left = (frames.0.end - frames.0.start) / PAGE;
    if left > 0 {
        FRAMES.give(frames.0.start, left as usize);
    }
    mapped
}
