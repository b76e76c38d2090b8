//! The page tables: every address means itself, and no page is both writable and executable.

use super::map::{PAGE, Ranges};
use core::ops::Range;
use spin::Mutex;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::MapToError;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

const LARGE: u64 = Size2MiB::SIZE;

/// Addresses of the image's parts, by `linker.ld`.
#[derive(Clone, Debug)]
pub struct Image {
    /// Code: readable, executable.
    pub text: Range<u64>,
    /// Constants: readable.
    pub rodata: Range<u64>,
    /// Variables and stacks: readable, writable.
    pub data: Range<u64>,
}

/// Page frames for page tables, from one range of RAM that the present tables map.
pub struct TableFrames(pub Range<u64>);

// SAFETY: each frame of the range, which the caller of `build` gave away, is handed out once.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let start = self.0.start;
        (start + PAGE <= self.0.end).then(|| self.0.start += PAGE)?;
        Some(PhysFrame::containing_address(PhysAddr::new(start)))
    }
}

/// The page tables in use.
static TABLES: Mutex<Option<OffsetPageTable<'static>>> = Mutex::new(None);

/// Builds the tables and switches to them.
///
/// `ram` is mapped readable and writable, `image` by its parts; page 0 and the `guards` are left
/// out, so that touching them is an exception. Returns `None` when `frames` is too small.
///
/// # Safety
/// The present tables must map the image and `frames` to themselves; `frames` must be RAM that
/// nothing uses.
pub unsafe fn build(
    ram: &Ranges,
    image: &Image,
    guards: &[u64],
    frames: &mut TableFrames,
) -> Option<()> {
    let root = frames.allocate_frame()?.start_address().as_u64() as *mut PageTable;
    // SAFETY: a fresh frame, mapped to itself.
    let root = unsafe {
        root.write(PageTable::new());
        &mut *root
    };
    // SAFETY: every frame that becomes a table is mapped to itself, now and in the new tables (they
    // are RAM).
    let mut tables = unsafe { OffsetPageTable::new(root, VirtAddr::zero()) };

    let read_write =
        PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    let small_end = image.data.end.next_multiple_of(LARGE);
    for range in ram.iter() {
        for part in outside(range, image.text.start..image.data.end) {
            map_range(&mut tables, part, small_end, read_write, &[], frames)?;
        }
    }
    let parts = [
        (image.text.clone(), PageTableFlags::PRESENT),
        (image.rodata.clone(), PageTableFlags::PRESENT | PageTableFlags::NO_EXECUTE),
        (image.data.clone(), read_write),
    ];
    for (part, flags) in parts {
        map_range(&mut tables, part, small_end, flags, guards, frames)?;
    }

    let root = PhysFrame::containing_address(PhysAddr::new(core::ptr::from_ref(
        tables.level_4_table(),
    ) as u64));
    // SAFETY: the new tables map all that is in use: the image with the stack, and RAM with the
    // tables themselves.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
    *TABLES.lock() = Some(tables);
    Some(())
}

/// Returns the parts of `range` below and above `hole`.
fn outside(range: Range<u64>, hole: Range<u64>) -> [Range<u64>; 2] {
    [range.start..range.end.min(hole.start), range.start.max(hole.end)..range.end]
}

/// Maps a range to itself: with 2 MiB pages where they fit above `small_end`, else with 4 KiB
/// pages. Page 0 and the pages in `skip` are left out.
fn map_range(
    tables: &mut OffsetPageTable<'static>,
    range: Range<u64>,
    small_end: u64,
    flags: PageTableFlags,
    skip: &[u64],
    frames: &mut TableFrames,
) -> Option<()> {
    let mut at = range.start;
    while at < range.end {
        if at >= small_end && at.is_multiple_of(LARGE) && at + LARGE <= range.end {
            map_page::<Size2MiB>(tables, at, flags, frames).ok()?;
            at += LARGE;
        } else {
            if at != 0 && !skip.contains(&at) {
                map_page::<Size4KiB>(tables, at, flags, frames).ok()?;
            }
            at += PAGE;
        }
    }
    Some(())
}

fn map_page<S: PageSize>(
    tables: &mut OffsetPageTable<'static>,
    at: u64,
    flags: PageTableFlags,
    frames: &mut TableFrames,
) -> Result<(), MapToError<S>>
where
    OffsetPageTable<'static>: Mapper<S>,
{
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(at));
    let page = Page::<S>::containing_address(VirtAddr::new(at));
    let parents = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: the page was not mapped before (else this fails), so nothing loses its mapping; what
    // may be done with the memory is for the caller of `build` or `map_window` to see to.
    unsafe { tables.map_to_with_table_flags(page, frame, flags, parents, frames)?.ignore() };
    Ok(())
}

/// Maps `count` pages outside RAM to themselves. `frames` pays for new tables.
///
/// # Safety
/// The pages must hold what the caller means to use as raw memory, and be mapped by nobody else.
pub unsafe fn map_window(
    start: u64,
    count: usize,
    writable: bool,
    frames: &mut TableFrames,
) -> Option<()> {
    let mut flags = PageTableFlags::PRESENT | PageTableFlags::NO_EXECUTE;
    flags.set(PageTableFlags::WRITABLE, writable);
    let mut tables = TABLES.lock();
    let tables = tables.as_mut()?;
    for page in 0..count as u64 {
        map_page::<Size4KiB>(tables, start + page * PAGE, flags, frames).ok()?;
    }
    Some(())
}

/// Takes the mapping of `count` pages away again.
///
/// # Safety
/// Nothing may use the pages any more.
pub unsafe fn unmap_window(start: u64, count: usize) {
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().expect("page tables are built before anything is mapped");
    for page in 0..count as u64 {
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(start + page * PAGE));
        if let Ok((_, flush)) = tables.unmap(page) {
            flush.flush();
        }
    }
}
