//! `ram`: a disk in this program's memory, gone with it.
#![allow(unsafe_code, reason = "memory is given back, and moved when its length changes")]

use super::{Discard, Info, Pace, Pages, Storage};
use memmap2::{Advice, MmapMut, MmapOptions, RemapOptions, UncheckedAdvice};
use std::io;
use std::ops::Range;
use std::sync::RwLock;

/// The most bytes that are taken before the disk is used: at that, it takes no longer than half a
/// second to open.
const AT_ONCE: u64 = 1 << 30;

const PAGE: usize = 4096;

/// A disk in memory. Up to 1 GiB of it is taken at once, if that leaves as much again for others:
/// memory that is taken page by page, as pages are first written, costs several times as much as
/// the writing. What is behind that takes none until it is written.
pub struct Ram {
    sector_size: u32,
    state: RwLock<State>,
}

struct State {
    bytes: u64,
    memory: MmapMut,
}

impl Ram {
    /// Creates a zeroed disk of `bytes`, in sectors of `sector_size` bytes.
    ///
    /// # Panics
    /// If there are not as many addresses, or no bytes.
    pub fn new(bytes: u64, sector_size: u32) -> Self {
        Self::open(bytes, sector_size)
            .unwrap_or_else(|error| panic!("a disk of {bytes} bytes in memory: {error}"))
    }

    /// The same, with an error instead of a panic.
    pub fn open(bytes: u64, sector_size: u32) -> io::Result<Self> {
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let memory = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
        let first = bytes.min(AT_ONCE).min(available() / 2);
        // Where the kernel cannot do that, the pages come when they are written.
        let _ = memory.advise_range(Advice::PopulateWrite, 0, first as usize);
        Ok(Ram { sector_size, state: RwLock::new(State { bytes, memory }) })
    }

    fn describe(&self, bytes: u64) -> Info {
        let discard = Some(Discard { granularity: self.sector_size, secure: true });
        Info { discard, ..Info::new(bytes).with_sector_size(self.sector_size) }
    }

    /// Calls `copy` with the bytes of a range.
    fn read_range(&self, at: u64, len: usize, copy: impl FnOnce(&[u8])) -> io::Result<()> {
        let state = self.state.read().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len as u64)?;
        copy(&state.memory[range]);
        Ok(())
    }

    /// Calls `copy` with the memory of a range.
    fn write_range(&self, at: u64, len: usize, copy: impl FnOnce(&mut [u8])) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len as u64)?;
        copy(&mut state.memory[range]);
        Ok(())
    }
}

/// Bytes of memory that programs can still take without harm to others; 0 if that is not known.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

impl State {
    /// Makes a range zero, and gives its whole pages back.
    fn clear(&mut self, range: Range<usize>) -> io::Result<()> {
        let pages = range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE;
        if pages.is_empty() {
            self.memory[range].fill(0);
            return Ok(());
        }
        self.memory[range.start..pages.start].fill(0);
        self.memory[pages.end..range.end].fill(0);
        // SAFETY: it is private memory, which reads as zero afterwards, and nobody else looks at
        // it: it is borrowed to be changed.
        unsafe {
            self.memory.unchecked_advise_range(UncheckedAdvice::DontNeed, pages.start, pages.len())
        }
    }

    fn resize(&mut self, bytes: u64) -> io::Result<()> {
        let len = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if bytes < self.bytes {
            // What lies behind the new end must be zero if the disk grows again, in the last page,
            // too.
            self.clear(len..self.memory.len())?;
        }
        // SAFETY: there are no references into the memory: it is borrowed to be changed.
        unsafe { self.memory.remap(len, RemapOptions::new().may_move(true)) }?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Storage for Ram {
    fn info(&self) -> Info {
        self.describe(self.state.read().expect("no holder panics").bytes)
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        self.read_range(at, to.len(), |bytes| to.copy_from_slice(bytes))
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        self.write_range(at, from.len(), |bytes| bytes.copy_from_slice(from))
    }

    fn read_now(&self, at: u64, to: &mut dyn Pages) -> Option<io::Result<()>> {
        Some(self.read_range(at, to.left(), |bytes| to.put(bytes)))
    }

    fn write_now(&self, at: u64, from: &mut dyn Pages) -> Option<io::Result<()>> {
        Some(self.write_range(at, from.left(), |bytes| from.take(bytes)))
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        let mut state = self.state.write().expect("no holder panics");
        let range = self.describe(state.bytes).range(at, len)?;
        state.clear(range)
    }

    fn write_zeroes(&self, at: u64, len: u64, _: bool) -> io::Result<()> {
        self.discard(at, len, true)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.state.write().expect("no holder panics").resize(bytes)
    }

    fn pace(&self) -> Pace {
        Pace::Quick
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_zero_when_the_disk_grows_again() {
        let disk = Ram::new(5 * 4096, 512);
        disk.write(0, &[7; 5 * 4096]).unwrap();
        disk.resize(3 * 4096 + 512).unwrap();
        disk.resize(64 * 4096).unwrap();
        let mut bytes = vec![1; 64 * 4096];
        disk.read(0, &mut bytes).unwrap();
        let (kept, new) = bytes.split_at(3 * 4096 + 512);
        assert!(kept.iter().all(|&byte| byte == 7) && new.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn this_machine_says_how_much_memory_it_has() {
        assert!(available() > 1 << 20);
    }
}
