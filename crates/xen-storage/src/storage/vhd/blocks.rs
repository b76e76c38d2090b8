//! The blocks of a dynamic image.

use super::layout::{self, Footer, HEADER_LEN, Header, NO_BLOCK, SECTOR};
use super::{Backing, FOOTER_LEN};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock};

/// Bytes that the file is made longer by, for blocks to come.
const GROWTH: u64 = 64 << 20;

/// The blocks of a dynamic image.
pub struct Blocks {
    pub header: Header,
    /// Offset of each in the file, in sectors.
    table: Vec<AtomicU32>,
    /// Bitmaps of the blocks that lack sectors, or are not looked at yet; `None` for a block whose
    /// sectors are all there.
    bitmaps: RwLock<BTreeMap<usize, Option<Vec<u8>>>>,
    /// Held while a block is made, or a bitmap changed.
    growth: Mutex<Growth>,
}

/// End of the file.
struct Growth {
    /// Offset of the next block.
    next: u64,
    /// Offset of the footer: blocks can be made up to here.
    footer: u64,
    /// The image is on a device: its footer stays at the end, and what no block has may hold
    /// anything.
    device: Option<Device>,
}

/// A device with an image.
struct Device {
    /// There is a footer at its end.
    has_footer: bool,
}

impl Growth {
    /// The next block goes where a whole footer is.
    fn of_file(size: u64, data_end: u64, table_end: u64) -> Self {
        let behind = size.next_multiple_of(SECTOR).max(table_end.next_multiple_of(SECTOR));
        let whole = size - data_end == FOOTER_LEN as u64 && data_end.is_multiple_of(SECTOR);
        let next = if whole { data_end } else { behind };
        Growth { next, footer: next, device: None }
    }
}

impl Blocks {
    /// Reads the table, and refuses blocks that lie where they must not.
    pub fn load(
        file: &impl Backing,
        footer: &Footer,
        data_end: u64,
        size: u64,
    ) -> io::Result<Self> {
        let mut bytes = [0; HEADER_LEN];
        file.read_at(footer.data, &mut bytes).map_err(|_| {
            layout::invalid(format!("its header at {} lies behind its end", footer.data))
        })?;
        let header = Header::decode(&bytes, footer.bytes)?;
        let table_end = header.table.checked_add(header.table_len() as u64);
        let table_end = table_end
            .filter(|end| *end <= data_end)
            .ok_or_else(|| layout::invalid("the image is shorter than its table of blocks"))?;
        let mut bytes = vec![0; header.table_len()];
        file.read_at(header.table, &mut bytes)?;
        let entries = bytes.as_chunks::<4>().0.iter().map(|entry| u32::from_be_bytes(*entry));
        let table: Vec<u32> = entries.take(header.blocks as usize).collect();
        let reserved = [
            (0..FOOTER_LEN as u64, "the copy of the footer"),
            (footer.data..footer.data + HEADER_LEN as u64, "the header"),
            (header.table..table_end, "the table of blocks"),
        ];
        let blocks_end = check_places(&header, &table, &reserved, data_end)?;
        let growth = match file.is_device() {
            true => Growth {
                next: blocks_end.max(table_end).next_multiple_of(SECTOR),
                footer: (size - FOOTER_LEN as u64) / SECTOR * SECTOR,
                device: Some(Device { has_footer: data_end < size }),
            },
            false => Growth::of_file(size, data_end, table_end),
        };
        Ok(Blocks {
            header,
            table: table.into_iter().map(AtomicU32::new).collect(),
            bitmaps: RwLock::default(),
            growth: Mutex::new(growth),
        })
    }

    /// Returns the offset of a block's data, if it is there.
    fn data(&self, number: usize) -> Option<u64> {
        let entry = self.table[number].load(Ordering::Acquire);
        (entry != NO_BLOCK).then(|| u64::from(entry) * SECTOR + self.header.bitmap_len())
    }

    fn growth(&self) -> MutexGuard<'_, Growth> {
        self.growth.lock().expect("no holder panics")
    }

    /// Returns a block's bitmap; `None` if all its sectors are there. A bitmap without any bit is
    /// one of a program that keeps none.
    fn bitmap(&self, file: &impl Backing, number: usize, data: u64) -> io::Result<Option<Vec<u8>>> {
        if let Some(known) = self.bitmaps.read().expect("no holder panics").get(&number) {
            return Ok(known.clone());
        }
        let len = (u64::from(self.header.block) / SECTOR).div_ceil(8) as usize;
        let mut bits = vec![0; len];
        file.read_at(data - self.header.bitmap_len(), &mut bits)?;
        if bits.iter().all(|byte| *byte == 0) {
            bits.fill(0xff);
            // Written down with the first write.
            return Ok(Some(bits));
        }
        let bitmap = bits.iter().any(|byte| *byte != 0xff).then_some(bits);
        let mut known = self.bitmaps.write().expect("no holder panics");
        // A writer may have changed it meanwhile.
        Ok(known.entry(number).or_insert(bitmap).clone())
    }

    /// Reads from a block; sectors that are not there are zero.
    pub fn read(
        &self,
        file: &impl Backing,
        number: usize,
        at: u64,
        to: &mut [u8],
    ) -> io::Result<()> {
        let Some(data) = self.data(number) else {
            to.fill(0);
            return Ok(());
        };
        let bitmap = self.bitmap(file, number, data)?;
        file.read_at(data + at, to)?;
        if let Some(bits) = bitmap {
            for (sector, bytes) in (at / SECTOR..).zip(to.chunks_mut(SECTOR as usize)) {
                if !has(&bits, sector) {
                    bytes.fill(0);
                }
            }
        }
        Ok(())
    }

    /// Writes to a block, and makes it if it is missing.
    pub fn write(
        &self,
        file: &impl Backing,
        footer: &Footer,
        number: usize,
        at: u64,
        from: &[u8],
    ) -> io::Result<()> {
        let data = match self.data(number) {
            Some(data) => data,
            None => self.make(file, footer, number)?,
        };
        let lacking = self.bitmap(file, number, data)?.is_some();
        file.write_at(data + at, from)?;
        if lacking { self.mark(file, number, data, at, from.len() as u64) } else { Ok(()) }
    }

    /// Says of the sectors of a write that they are there.
    fn mark(
        &self,
        file: &impl Backing,
        number: usize,
        data: u64,
        at: u64,
        len: u64,
    ) -> io::Result<()> {
        let _alone = self.growth();
        let Some(mut bits) = self.bitmap(file, number, data)? else { return Ok(()) };
        for sector in at / SECTOR..(at + len) / SECTOR {
            bits[(sector / 8) as usize] |= 0x80 >> (sector % 8);
        }
        file.write_at(data - self.header.bitmap_len(), &bits)?;
        let bitmap = bits.iter().any(|byte| *byte != 0xff).then_some(bits);
        self.bitmaps.write().expect("no holder panics").insert(number, bitmap);
        Ok(())
    }

    /// Makes a block, all zero, and returns the offset of its data.
    fn make(&self, file: &impl Backing, footer: &Footer, number: usize) -> io::Result<u64> {
        let mut growth = self.growth();
        // Another writer may have been faster.
        if let Some(data) = self.data(number) {
            return Ok(data);
        }
        let at = growth.next;
        let entry = u32::try_from(at / SECTOR)
            .ok()
            .filter(|entry| *entry != NO_BLOCK)
            .ok_or_else(|| layout::invalid("the image is full: 2 TiB are the most"))?;
        let end = at + self.header.bitmap_len() + u64::from(self.header.block);
        if growth.device.is_some() {
            self.clear(file, footer, &mut growth, at..end)?;
        } else if end > growth.footer {
            self.grow(file, footer, &mut growth, end)?;
        }
        let bitmap = vec![0xff; self.header.bitmap_len() as usize];
        file.write_at(at, &bitmap)?;
        file.write_at(self.header.table + 4 * number as u64, &entry.to_be_bytes())?;
        growth.next = end;
        self.bitmaps.write().expect("no holder panics").insert(number, None);
        self.table[number].store(entry, Ordering::Release);
        Ok(at + self.header.bitmap_len())
    }

    /// Makes the part of a device zero that a block is to have, before anything points there.
    fn clear(
        &self,
        file: &impl Backing,
        footer: &Footer,
        growth: &mut Growth,
        block: Range<u64>,
    ) -> io::Result<()> {
        if block.end > growth.footer {
            let text = "the device has no room for another block: make it longer";
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        if let Some(device @ Device { has_footer: false }) = &mut growth.device {
            file.write_at(growth.footer, &footer.encode())?;
            device.has_footer = true;
        }
        file.write_at(block.start, &vec![0; (block.end - block.start) as usize])?;
        file.sync()
    }

    /// Makes the file longer, for a block that ends at `end` and for some more.
    fn grow(
        &self,
        file: &impl Backing,
        footer: &Footer,
        growth: &mut Growth,
        end: u64,
    ) -> io::Result<()> {
        let whole = u64::from(self.header.block) + self.header.bitmap_len();
        let missing = self.table.iter().filter(|e| e.load(Ordering::Relaxed) == NO_BLOCK).count();
        let more = (GROWTH / whole).min(missing as u64 - 1) * whole;
        let (old, new) = (growth.footer, end + more);
        file.set_len(new + FOOTER_LEN as u64)?;
        file.write_at(new, &footer.encode())?;
        // First the footer at the new end, then the old one goes: one of them is always there.
        file.sync()?;
        file.write_at(old, &[0; FOOTER_LEN])?;
        file.sync()?;
        growth.footer = new;
        Ok(())
    }

    /// Cuts off what no block has.
    pub fn trim(&mut self, file: &impl Backing, footer: &Footer) -> io::Result<()> {
        let growth = self.growth.get_mut().expect("no holder panics");
        if growth.device.is_some() || growth.footer == growth.next {
            return Ok(());
        }
        file.write_at(growth.next, &footer.encode())?;
        file.sync()?;
        file.set_len(growth.next + FOOTER_LEN as u64)?;
        growth.footer = growth.next;
        Ok(())
    }

    /// Returns the next blocks that are there, at or after `at`, of a disk of `bytes`.
    pub fn next_data(&self, at: u64, bytes: u64) -> Option<Range<u64>> {
        let block = u64::from(self.header.block);
        let first = at / block;
        let there = |n: &u64| self.data(*n as usize).is_some();
        let count = bytes.div_ceil(block);
        let first = (first..count).find(there)?;
        let end = (first..count).find(|n| !there(n)).unwrap_or(count);
        Some((first * block).max(at)..(end * block).min(bytes))
    }
}

fn has(bits: &[u8], sector: u64) -> bool {
    bits[(sector / 8) as usize] & (0x80 >> (sector % 8)) != 0
}

/// Refuses blocks that lie behind the end, over each other, or over what is no block. Returns the
/// end of the last one.
fn check_places(
    header: &Header,
    table: &[u32],
    reserved: &[(Range<u64>, &str)],
    data_end: u64,
) -> io::Result<u64> {
    let whole = u64::from(header.block) + header.bitmap_len();
    let mut places: Vec<(u64, usize)> = table
        .iter()
        .enumerate()
        .filter(|(_, entry)| **entry != NO_BLOCK)
        .map(|(number, entry)| (u64::from(*entry) * SECTOR, number))
        .collect();
    places.sort_unstable();
    for (n, (at, number)) in places.iter().enumerate() {
        let end = at + whole;
        if end > data_end {
            return Err(layout::invalid(format!(
                "block {number} ends at {end}, behind the end of the image at {data_end}"
            )));
        }
        if let Some((_, other)) = places.get(n + 1).filter(|(next, _)| *next < end) {
            return Err(layout::invalid(format!(
                "blocks {number} and {other} of the image overlap: it is damaged"
            )));
        }
        if let Some((_, name)) = reserved.iter().find(|(r, _)| r.start < end && *at < r.end) {
            return Err(layout::invalid(format!(
                "block {number} of the image lies over {name}: it is damaged"
            )));
        }
    }
    Ok(places.last().map_or(0, |(at, _)| at + whole))
}
