//! The shared file's pages in memory: all `unsafe` of this program.

use crate::native::Error;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ptr::{NonNull, null_mut};
use xen_platform::{GrantRef, Granted, PAGE_SIZE, RawShared, SharedMem};

/// Takes over a descriptor that the parent has left open for this process.
pub fn inherited(number: i32) -> OwnedFd {
    // SAFETY: the parent has opened it for this program, which takes each number once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Copies private memory by the routine that copies shared memory.
pub fn copy_as_shared(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len());
    // SAFETY: both are valid for their length, and a slice that can be written overlaps no other.
    unsafe { xen_platform::copy_raw(to.as_mut_ptr(), from.as_ptr(), from.len()) }
}

/// Pages of the shared file, mapped.
pub struct Pages {
    area: RawShared,
    refs: Vec<GrantRef>,
}

impl Pages {
    /// Maps `count` pages from the page `first` on.
    pub fn map(file: &OwnedFd, first: u32, count: usize) -> Result<Self, Error> {
        let (bytes, at) = (count * PAGE_SIZE, u64::from(first) * PAGE_SIZE as u64);
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: with no address wished for, the kernel picks unused ones.
        let start = unsafe { mmap(null_mut(), bytes, prot, MapFlags::SHARED, file, at) }?;
        let start = NonNull::new(start.cast::<u8>()).expect("mmap gave address zero");
        // SAFETY: the mapping is page-aligned, outside every Rust allocation, readable and
        // writable, lives until `drop`, and nothing else in the program knows of it.
        let area = unsafe { RawShared::new(start, bytes) };
        let refs = (first..).take(count).map(GrantRef).collect();
        Ok(Pages { area, refs })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; `area` is private and goes with `self`.
        let done = unsafe { munmap(self.area.start().as_ptr().cast(), self.area.len()) };
        debug_assert!(done.is_ok(), "munmap: {done:?}");
    }
}

xen_platform::delegate_shared_mem!(Pages, area);

impl Granted for Pages {
    fn refs(&self) -> &[GrantRef] {
        &self.refs
    }
}
