//! `vhd`: images of Virtual PC, Hyper-V and XenServer, fixed and dynamic (Microsoft's "Virtual Hard
//! Disk Image Format Specification"). Differencing images are refused.
//!
//! ```text
//! fixed    the disk, then a footer
//! dynamic  a copy of the footer, a header, a table of blocks,
//!          then blocks (a bitmap and 2 MiB each), then the footer
//! ```
//!
//! The footer at the end says which kind it is: in a fixed image the guest can write anything at
//! the beginning. New blocks go where the footer is. The file is first made longer for several of
//! them, with a footer at its new end, and synced; so a block's entry in the table can be written
//! at once, and outlasts this program, while after a power failure no entry points past the end,
//! and a block that was not flushed holds zeros or what was written.

mod blocks;
mod layout;
mod open;

use super::sync_guard::Guarded;
use super::{Backing, Info, Storage, fingerprint, read_only};
use blocks::Blocks;
use layout::{FOOTER_LEN, Footer, Header};
use std::io;
use std::ops::Range;

/// A disk in a VHD image.
pub struct Vhd<B: Backing> {
    file: Guarded<B>,
    footer: Footer,
    writable: bool,
    blocks: Option<Blocks>,
}

impl<B: Backing> Vhd<B> {
    /// Makes an empty dynamic image of `bytes` in an empty file.
    pub fn create(file: &B, bytes: u64) -> io::Result<()> {
        let footer = Footer::dynamic(bytes)?;
        let header = Header::new(bytes);
        let table = vec![0xff; header.table_len()];
        file.write_at(0, &footer.encode())?;
        file.write_at(FOOTER_LEN as u64, &header.encode())?;
        file.write_at(header.table, &table)?;
        file.write_at(header.table + table.len() as u64, &footer.encode())?;
        file.sync()
    }

    /// The pieces of a range that lie in one block each: its number, and the range within it.
    fn pieces(block: u64, range: Range<usize>) -> impl Iterator<Item = (usize, Range<u64>)> {
        let range = range.start as u64..range.end as u64;
        (range.start / block..range.end.div_ceil(block)).map(move |number| {
            let start = range.start.max(number * block) - number * block;
            (number as usize, start..range.end.min((number + 1) * block) - number * block)
        })
    }
}

impl<B: Backing> Storage for Vhd<B> {
    fn info(&self) -> Info {
        Info {
            physical_sector_size: 4096,
            read_only: !self.writable,
            ..Info::new(self.footer.bytes)
        }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        let Some(blocks) = &self.blocks else { return self.file.read_at(at, to) };
        let mut rest = to;
        for (number, within) in Self::pieces(blocks.header.block.into(), range) {
            let (piece, more) = rest.split_at_mut((within.end - within.start) as usize);
            blocks.read(&self.file, number, within.start, piece)?;
            rest = more;
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> io::Result<()> {
        if !self.writable {
            return Err(read_only());
        }
        let range = self.info().range(at, from.len() as u64)?;
        let Some(blocks) = &self.blocks else { return self.file.write_at(at, from) };
        let mut rest = from;
        for (number, within) in Self::pieces(blocks.header.block.into(), range) {
            let (piece, more) = rest.split_at((within.end - within.start) as usize);
            blocks.write(&self.file, &self.footer, number, within.start, piece)?;
            rest = more;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.writable { self.file.sync() } else { Ok(()) }
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        match &self.blocks {
            Some(blocks) => Ok(blocks.next_data(at, self.footer.bytes)),
            None => {
                let found = self.file.next_data(at)?;
                let found = found.map(|range| range.start..range.end.min(self.footer.bytes));
                Ok(found.filter(|range| range.start < range.end))
            }
        }
    }

    fn identity(&self) -> Option<String> {
        Some(format!("vhd in {}", self.file.identity()?))
    }

    fn fingerprint(&self) -> io::Result<Vec<u8>> {
        let contents = |at, to: &mut [u8]| self.read(at, to);
        let mut value = fingerprint::of_contents(self.footer.bytes, contents)?;
        value.extend(self.file.stamp());
        Ok(value)
    }

    /// Each write is with the kernel when it returns, and so is the block's place in the table.
    fn outlives(&self) -> bool {
        true
    }
}

impl<B: Backing> Drop for Vhd<B> {
    /// Gives the room back that no block has.
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.as_mut().filter(|_| self.writable) {
            // A file that stays longer is as good.
            let _ = blocks.trim(&self.file, &self.footer);
        }
    }
}
