//! Files mapped into memory, and what happens if their pages are not there.
//!
//! A page of a mapping may be missing: somebody made the file shorter, the device under it failed,
//! or the file system is full when a hole is first written. The kernel says so with SIGBUS, which
//! would end the program and all its disks. So the handler here puts an empty page in its place and
//! marks the mapping; each copy looks at the mark afterwards.
#![allow(
    unsafe_code,
    reason = "mapped memory is reached through pointers, and a signal handler is installed"
)]

use super::Pages;
use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use nix::libc;
use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Once, RwLock};
use xen_platform::copy_raw;

const PAGE: usize = 4096;

/// A mapped file.
pub(super) struct Mapped {
    memory: MmapRaw,
    /// Copies out hold it for reading, copies in for writing: the memory is this program's alone
    /// only in between.
    lock: RwLock<()>,
    slot: &'static Slot,
}

/// Whose changes go where.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// To the file.
    Shared,
    /// Nowhere: the file stays as it is.
    Private,
    /// There are none.
    ReadOnly,
}

impl Mapped {
    /// Maps the first `len` bytes of the file.
    pub fn new(file: &File, len: usize, sharing: Sharing) -> io::Result<Self> {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install);
        let mut options = MmapOptions::new();
        options.len(len);
        let memory = match sharing {
            Sharing::Shared => options.map_raw(file)?,
            Sharing::ReadOnly => options.map_raw_read_only(file)?,
            // SAFETY: no reference into the mapping is ever made, here or through `MmapRaw`: others
            // may change the file.
            Sharing::Private => unsafe { options.no_reserve_swap().map_copy(file)? }.into(),
        };
        let slot = Slot::take(memory.as_ptr().addr(), len)?;
        Ok(Mapped { memory, lock: RwLock::new(()), slot })
    }

    /// Copies from the mapping, within it.
    pub fn read(&self, at: usize, to: &mut [u8]) -> io::Result<()> {
        let _held = self.lock.read().expect("no holder panics");
        assert!(
            at.checked_add(to.len()).is_some_and(|end| end <= self.memory.len()),
            "a read past the mapping"
        );
        // SAFETY: the range is within the mapping, which lives as long as `self`; writers of this
        // program wait for the lock. What other programs write meanwhile is any bytes, and bytes
        // are all that is copied.
        unsafe {
            ptr::copy_nonoverlapping(self.memory.as_ptr().add(at), to.as_mut_ptr(), to.len())
        };
        self.intact()
    }

    /// Copies into the mapping, within it; not for one that is read-only.
    pub fn write(&self, at: usize, from: &[u8]) -> io::Result<()> {
        let _held = self.lock.write().expect("no holder panics");
        assert!(
            at.checked_add(from.len()).is_some_and(|end| end <= self.memory.len()),
            "a write past the mapping"
        );
        // SAFETY: as above; nobody else in this program reads or writes while the lock is held.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), self.memory.as_mut_ptr().add(at), from.len())
        };
        self.intact()
    }

    /// Copies from the mapping to all that is left of `to`; false if there is no way.
    pub fn read_pages(&self, at: usize, to: &dyn Pages) -> io::Result<bool> {
        let _held = self.lock.read().expect("no holder panics");
        self.with_pages(at, to, |page, mapped, len| {
            // SAFETY: the range is within the mapping, as above, and the page is the guest's,
            // mapped while `to` is borrowed.
            unsafe { copy_raw(page, mapped, len) }
        })
    }

    /// Copies into the mapping from all that is left of `from`; false if there is no way.
    pub fn write_pages(&self, at: usize, from: &dyn Pages) -> io::Result<bool> {
        let _held = self.lock.write().expect("no holder panics");
        self.with_pages(at, from, |page, mapped, len| {
            // SAFETY: as above, the other way; nobody else in this program reads or writes while
            // the lock is held.
            unsafe { copy_raw(mapped, page, len) }
        })
    }

    fn with_pages(
        &self,
        mut at: usize,
        pages: &dyn Pages,
        copy: impl Fn(*mut u8, *mut u8, usize),
    ) -> io::Result<bool> {
        let Some(areas) = pages.areas() else { return Ok(false) };
        let len: usize = areas.iter().map(|area| area.len).sum();
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.memory.len()),
            "a copy past the mapping"
        );
        for area in areas {
            copy(area.start.as_ptr(), self.memory.as_mut_ptr().wrapping_add(at), area.len);
            at += area.len;
        }
        self.intact().map(|()| true)
    }

    /// Fails if a page was missing.
    pub fn check(&self) -> io::Result<()> {
        self.intact()
    }

    /// Gives the changes in whole pages of a private mapping back, so that they read as the file
    /// does.
    pub fn forget(&self, at: usize, len: usize) -> io::Result<()> {
        let (first, end) = (at.next_multiple_of(PAGE), (at + len) / PAGE * PAGE);
        if first >= end {
            return Ok(());
        }
        let _held = self.lock.write().expect("no holder panics");
        // SAFETY: the range is checked by the callee, there are no references into it, and nobody
        // reads while it changes.
        unsafe { self.memory.unchecked_advise_range(UncheckedAdvice::DontNeed, first, end - first) }
    }

    fn intact(&self) -> io::Result<()> {
        if self.slot.broken.load(Ordering::Acquire) {
            let text = "a page of the mapped file is missing: the file was cut, its device failed, or its file system \
                        is full; open it anew";
            return Err(io::Error::other(text));
        }
        Ok(())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.slot.free();
    }
}

/// Place of a mapping, for the handler. It may run at any moment in any thread, so all it looks at
/// is atomic.
struct Slot {
    /// 0 while the slot is free.
    start: AtomicUsize,
    end: AtomicUsize,
    broken: AtomicBool,
}

/// More mappings than one program serves disks.
static SLOTS: [Slot; 256] = [const {
    Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), broken: AtomicBool::new(false) }
}; 256];

impl Slot {
    fn take(start: usize, len: usize) -> io::Result<&'static Slot> {
        let free = |slot: &&Slot| {
            slot.start.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot =
            SLOTS.iter().find(free).ok_or_else(|| io::Error::other("too many files are mapped"))?;
        slot.broken.store(false, Ordering::Release);
        slot.end.store(start + len, Ordering::Release);
        Ok(slot)
    }

    fn free(&self) {
        self.end.store(0, Ordering::Release);
        self.start.store(0, Ordering::Release);
    }
}

fn install() {
    // SAFETY: an all-zero sigaction is a valid value of that C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls nothing that a
    // handler may not.
    let done = unsafe { libc::sigaction(libc::SIGBUS, &action, ptr::null_mut()) };
    assert_eq!(done, 0, "sigaction(2) for SIGBUS: {}", io::Error::last_os_error());
}

extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, and for SIGBUS the address is set.
    let address = unsafe { (*info).si_addr() }.addr();
    let hit = |slot: &&Slot| {
        (slot.start.load(Ordering::Acquire)..slot.end.load(Ordering::Acquire)).contains(&address)
    };
    if let Some(slot) = SLOTS.iter().find(hit) {
        slot.broken.store(true, Ordering::Release);
        let page = ptr::without_provenance_mut(address / PAGE * PAGE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: the page is one of the mapping in the slot, which only `Mapped` reaches, and
        // through pointers.
        let put =
            unsafe { libc::mmap(page, PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if put != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: the access is repeated on return, and ends the program as it would have without
    // this handler. SAFETY: signal(2) may be called in a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_is_cut_is_an_error_and_not_the_end() {
        let path = std::env::temp_dir().join(format!("xen-disk-map-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(&[7; 4 * PAGE]).unwrap();
        for sharing in [Sharing::Shared, Sharing::Private, Sharing::ReadOnly] {
            file.set_len(4 * PAGE as u64).unwrap();
            let whole = Mapped::new(&file, 4 * PAGE, sharing).unwrap();
            let cut = Mapped::new(&file, 4 * PAGE, sharing).unwrap();
            let mut bytes = [0; 8];
            cut.read(0, &mut bytes).unwrap();
            assert_eq!(bytes, [7; 8]);
            file.set_len(PAGE as u64).unwrap();
            assert!(cut.read(2 * PAGE, &mut bytes).is_err());
            assert!(cut.read(0, &mut bytes).is_err(), "it stays broken");
            whole.read(0, &mut bytes).unwrap();
            if sharing != Sharing::ReadOnly {
                assert!(whole.write(3 * PAGE, &[1]).is_err());
            }
        }
    }
}
