//! mmap(2) of shared pages.

use crate::reactor::os_error;
use rustix::fd::AsFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::io;
use std::ptr::{NonNull, null_mut};
use xen_platform::{Access, RawShared};

/// Pages of a device, mapped shared. Dropping it unmaps them.
pub(crate) struct Mapping {
    area: RawShared,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` bytes (whole pages) that `fd` offers at `offset`.
    pub(crate) fn new(
        fd: impl AsFd,
        offset: u64,
        bytes: usize,
        access: Access,
    ) -> io::Result<Mapping> {
        let prot = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        // SAFETY: with no address wished for and no MAP_FIXED the kernel picks unused addresses, so
        // nothing that Rust knows of changes.
        let start = unsafe { mmap(null_mut(), bytes, prot, MapFlags::SHARED, fd, offset) }
            .map_err(os_error)?;
        let start = NonNull::new(start.cast::<u8>())
            .expect("mmap gave address zero, which it was not asked for");
        // SAFETY: the mapping is page-aligned, outside every Rust allocation, readable (writable
        // unless the caller said that it will not write), lives until `drop`, and no one else in
        // the program knows of it.
        let area = unsafe { RawShared::new(start, bytes) };
        Ok(Mapping { area, bytes })
    }

    /// The pages.
    pub(crate) fn area(&self) -> &RawShared {
        &self.area
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; `area` is private and goes with `self`.
        let done = unsafe { munmap(self.area.start().as_ptr().cast(), self.bytes) };
        // munmap fails only for arguments that were never mapped.
        debug_assert!(done.is_ok(), "munmap: {done:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use xen_platform::{IndexMemory, SharedMem};

    #[test]
    fn two_mappings_of_one_page_see_each_other() {
        let file = memfd_create("pages", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 3 * 4096).unwrap();
        let all = Mapping::new(&file, 0, 3 * 4096, Access::ReadWrite).unwrap();
        let last = Mapping::new(&file, 2 * 4096, 4096, Access::ReadOnly).unwrap();
        all.area().write(2 * 4096 + 5, b"seen");
        let mut text = [0; 4];
        last.area().read(5, &mut text);
        assert_eq!((&text, last.area().len()), (b"seen", 4096));
        drop(all);
        assert_eq!(last.area().load(4), u32::from_le_bytes(*b"\0see"));
    }

    #[test]
    fn what_the_device_does_not_offer_is_an_error() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let refused = Mapping::new(crate::sys::owned(one), 0, 4096, Access::ReadWrite);
        assert_eq!(refused.err().unwrap().kind(), io::Error::from_raw_os_error(19).kind());
    }
}
