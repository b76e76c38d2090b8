//! `vhd`: images of Virtual PC, Hyper-V and XenServer, fixed and dynamic (Microsoft's "Virtual Hard Disk Image Format
//! Specification"). Differencing images are refused.
//!
//! ```text
//! fixed    the disk, then a footer
//! dynamic  a copy of the footer, a header, a table of blocks, then blocks (a bitmap and 2 MiB each), then the footer
//! ```
//!
//! A new block goes where the footer is, with the footer behind it; its entry in the table is written by
//! [`Vhd::flush`], after the block itself is kept. So after a power failure a block is either not there, and was not
//! flushed, or has all that was. Until the footer is written again its copy at the beginning counts.

mod layout;

use super::{Backing, Info, Storage, read_only};
use layout::{FOOTER_LEN, Footer, HEADER_LEN, Header, Kind, NO_BLOCK, SECTOR};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::RwLock;

/// A disk in a VHD image.
pub struct Vhd<B> {
    file: B,
    footer: Footer,
    writable: bool,
    blocks: Option<RwLock<Blocks>>,
}

/// The blocks of a dynamic image.
struct Blocks {
    header: Header,
    /// Where each is, in sectors of the file.
    table: Vec<u32>,
    /// Entries that the file does not have.
    dirty: BTreeSet<usize>,
    /// Blocks whose bitmap says that every sector is there.
    whole: BTreeSet<usize>,
    /// Where the next one goes, in bytes.
    end: u64,
}

impl<B: Backing> Vhd<B> {
    /// Opens the image.
    pub fn open(file: B, writable: bool) -> io::Result<Self> {
        let size = file.size()?;
        let mut bytes = [0; FOOTER_LEN];
        let at_end = match size.checked_sub(FOOTER_LEN as u64) {
            Some(at) => file.read_at(at, &mut bytes).and_then(|()| Footer::decode(&bytes)),
            None => return Err(layout::invalid("it is too short for a VHD image")),
        };
        file.read_at(0, &mut bytes)?;
        let (footer, data_end) = match (Footer::decode(&bytes), at_end) {
            (Ok(footer), end) if footer.kind == Kind::Dynamic => (footer, size - if end.is_ok() { 512 } else { 0 }),
            (_, end) => (end?, size - FOOTER_LEN as u64),
        };
        let blocks = match footer.kind {
            Kind::Fixed if footer.bytes > data_end => {
                return Err(layout::invalid("the image is shorter than its disk"));
            }
            Kind::Fixed => None,
            Kind::Dynamic => Some(RwLock::new(Blocks::read(&file, &footer, data_end)?)),
        };
        Ok(Vhd { file, footer, writable, blocks })
    }

    /// Makes an empty dynamic image of so many bytes in an empty file.
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

impl Blocks {
    fn read(file: &impl Backing, footer: &Footer, data_end: u64) -> io::Result<Self> {
        let mut bytes = [0; HEADER_LEN];
        file.read_at(footer.data, &mut bytes)?;
        let header = Header::decode(&bytes, footer.bytes)?;
        let table_end = header.table.checked_add(header.table_len() as u64);
        if table_end.is_none_or(|end| end > data_end) {
            return Err(layout::invalid("the image is shorter than its table of blocks"));
        }
        let mut bytes = vec![0; header.table_len()];
        file.read_at(header.table, &mut bytes)?;
        let entries = bytes.as_chunks::<4>().0.iter().map(|entry| u32::from_be_bytes(*entry));
        let table: Vec<u32> = entries.take(header.blocks as usize).collect();
        let whole = u64::from(header.block) + header.bitmap_len();
        let ends = table.iter().filter(|entry| **entry != NO_BLOCK).map(|entry| u64::from(*entry) * SECTOR + whole);
        let last = ends.max().unwrap_or(0);
        if last > data_end {
            return Err(layout::invalid(format!("a block ends at {last}, behind the end of the image at {data_end}")));
        }
        let end = data_end.max(last).next_multiple_of(SECTOR);
        Ok(Blocks { header, table, dirty: BTreeSet::new(), whole: BTreeSet::new(), end })
    }

    /// Where the data of a block are, if it is there.
    fn data(&self, number: usize) -> Option<u64> {
        let entry = self.table[number];
        (entry != NO_BLOCK).then(|| u64::from(entry) * SECTOR + self.header.bitmap_len())
    }

    /// Makes a block, all zero, and says where its data are.
    fn make(&mut self, file: &impl Backing, footer: &Footer, number: usize) -> io::Result<u64> {
        let at = self.end;
        let entry = u32::try_from(at / SECTOR).map_err(|_| layout::invalid("the image is full: 2 TiB are the most"))?;
        let end = at + self.header.bitmap_len() + u64::from(self.header.block);
        file.set_len(end)?;
        // What was the footer is in the bitmap's place, and could reach into the data only if bitmaps were shorter.
        file.write_at(end, &footer.encode())?;
        self.mark_whole(file, at, number)?;
        self.end = end;
        self.table[number] = entry;
        self.dirty.insert(number);
        Ok(at + self.header.bitmap_len())
    }

    /// Says of all sectors of a block that they are there; those that were not are zero in the file.
    fn mark_whole(&mut self, file: &impl Backing, at: u64, number: usize) -> io::Result<()> {
        file.write_at(at, &vec![0xff; self.header.bitmap_len() as usize])?;
        self.whole.insert(number);
        Ok(())
    }

    fn write(&mut self, file: &impl Backing, footer: &Footer, number: usize, at: u64, from: &[u8]) -> io::Result<()> {
        let data = match self.data(number) {
            Some(data) => data,
            None => self.make(file, footer, number)?,
        };
        if !self.whole.contains(&number) {
            self.mark_whole(file, data - self.header.bitmap_len(), number)?;
        }
        file.write_at(data + at, from)
    }

    /// Writes the entries that the file does not have, after what they stand for.
    fn flush(&mut self, file: &impl Backing) -> io::Result<()> {
        file.sync()?;
        if self.dirty.is_empty() {
            return Ok(());
        }
        for &number in &self.dirty {
            file.write_at(self.header.table + 4 * number as u64, &self.table[number].to_be_bytes())?;
        }
        file.sync()?;
        self.dirty.clear();
        Ok(())
    }
}

impl<B: Backing> Storage for Vhd<B> {
    fn info(&self) -> Info {
        Info { physical_sector_size: 4096, read_only: !self.writable, ..Info::new(self.footer.bytes) }
    }

    fn read(&self, at: u64, to: &mut [u8]) -> io::Result<()> {
        let range = self.info().range(at, to.len() as u64)?;
        let Some(blocks) = &self.blocks else { return self.file.read_at(at, to) };
        let blocks = blocks.read().expect("no holder panics");
        let mut rest = to;
        for (number, within) in Self::pieces(blocks.header.block.into(), range) {
            let (piece, more) = rest.split_at_mut((within.end - within.start) as usize);
            match blocks.data(number) {
                Some(data) => self.file.read_at(data + within.start, piece)?,
                None => piece.fill(0),
            }
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
        let mut blocks = blocks.write().expect("no holder panics");
        let mut rest = from;
        for (number, within) in Self::pieces(blocks.header.block.into(), range) {
            let (piece, more) = rest.split_at((within.end - within.start) as usize);
            blocks.write(&self.file, &self.footer, number, within.start, piece)?;
            rest = more;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        match &self.blocks {
            _ if !self.writable => Ok(()),
            Some(blocks) => blocks.write().expect("no holder panics").flush(&self.file),
            None => self.file.sync(),
        }
    }
}
