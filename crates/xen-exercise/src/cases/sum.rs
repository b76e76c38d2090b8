//! Checksums: of each part of the disk and of the whole; and of each sector, against a table on
//! another disk.

use super::{Context, DEPTH, Outcome};
use crate::area::Span;
use crate::crc::{Crc32c, Join};
use crate::environment::{Device, Error, ErrorKind, Io};
use crate::log::Json;
use crate::stamp::SECTOR;
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use xen_blk::front::Config;
use xen_blk::protocol::vdev;

/// Sectors of the parts, or a power of two as many: there are to be no more than [`PARTS`].
const PART: u64 = 2048;
/// Most parts.
const PARTS: u64 = 1024;
/// Sectors that are read at a time. Their checksums have a sector.
const PIECE: u64 = 128;
/// Lines after which the console is given time.
const LINES: usize = 64;

/// Reads everything, many parts at a time, and shows a CRC-32C of each and of the whole; with
/// `blk.sums=`, also compares that of each sector with the one that this disk says: a number of 32
/// bits, little-endian, for each sector of 512 bytes. What cannot be read is named, and the rest is
/// read.
pub async fn sum(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let parts = area.pieces(PART * area.sectors().div_ceil(PART * PARTS).next_power_of_two());
    let table = match &cx.plan.sums {
        Some(name) => {
            Some(cx.env.attach(vdev::parse(name).unwrap_or(0), &Config::default()).await?)
        }
        None => None,
    };
    let reader =
        Reader { cx, disk: &*disk, table, crc: Crc32c::new(), join: Join::of(SECTOR as u64) };
    let sums = sums(&reader, &parts).await;
    if let Some(table) = reader.table {
        table.close().await?;
    }
    let mut whole = Some(0);
    for (number, (part, sum)) in parts.iter().zip(sums?).enumerate() {
        whole = whole
            .zip(sum)
            .map(|(whole, sum)| Join::of(part.count * SECTOR as u64).sums(whole, sum));
        let Span { first, count } = *part;
        let (name, sum) = (Json(cx.name), Sum(sum));
        cx.env.print(format_args!(
            "# {{\"sum\":{name},\"first\":{first},\"sectors\":{count},\"crc32c\":{sum}}}\n"
        ));
        if number % LINES == LINES - 1 {
            cx.env.flushed().await;
        }
    }
    let (sectors, whole) = (area.sectors(), format!("{}", Sum(whole)));
    cx.env.print(format_args!(
        "# {{\"sum\":{},\"sectors\":{sectors},\"crc32c\":{whole}}}\n",
        Json(cx.name)
    ));
    let whole = whole.trim_matches('"');
    cx.env.publish(&format!("{}/crc32c", cx.name), whole).await;
    let compared = cx
        .plan
        .sums
        .as_ref()
        .map_or_else(Default::default, |table| format!(", each as {table} says"));
    Ok(format!("{sectors} sectors, CRC-32C {whole}{compared}"))
}

/// A checksum in JSON.
struct Sum(Option<u32>);

impl core::fmt::Display for Sum {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(sum) => write!(f, "\"{sum:08x}\""),
            None => f.write_str("null"),
        }
    }
}

/// The checksum of each part that could be read whole.
async fn sums(reader: &Reader<'_, '_>, parts: &[Span]) -> Result<Vec<Option<u32>>, Error> {
    let (next, sums) = (Cell::new(0), RefCell::new(vec![None; parts.len()]));
    let worker = || async {
        let mut buffer = vec![0; PIECE as usize * SECTOR];
        while let Some(part) = parts.get(next.get()) {
            let number = next.replace(next.get() + 1);
            let sum = reader.part(*part, &mut buffer).await?;
            sums.borrow_mut()[number] = sum;
        }
        Ok(())
    };
    try_join_all((0..DEPTH).map(|_| Box::pin(worker()) as Boxed<'_, _>).collect()).await?;
    Ok(sums.into_inner())
}

struct Reader<'a, 'b> {
    cx: &'a Context<'b>,
    disk: &'a dyn Device,
    table: Option<Rc<dyn Device>>,
    crc: Crc32c,
    join: Join,
}

impl Reader<'_, '_> {
    async fn part(&self, part: Span, buffer: &mut [u8]) -> Result<Option<u32>, Error> {
        let mut whole = Some(0);
        let end = part.first + part.count;
        for first in (part.first..end).step_by(PIECE as usize) {
            let count = PIECE.min(end - first);
            let bytes = &mut buffer[..count as usize * SECTOR];
            match self.disk.io(Io::Read(first, bytes)).await {
                Ok(()) => {}
                Err(why) if why.kind() == ErrorKind::Failed => {
                    self.cx.check(false, format_args!("{why}"));
                    whole = None;
                    continue;
                }
                Err(why) => return Err(why),
            }
            let wanted = self.wanted(first, count).await?;
            for (number, sector) in (first..).zip(bytes.as_chunks::<SECTOR>().0) {
                let sum = self.crc.of_sector(sector);
                whole = whole.map(|whole| self.join.sums(whole, sum));
                let wanted = wanted.get((number - first) as usize).copied().unwrap_or(sum);
                let what = format_args!(
                    "sector {number} has the checksum {sum:08x}, and it should be {wanted:08x}"
                );
                self.cx.check(sum == wanted, what);
            }
        }
        Ok(whole)
    }

    /// Reads the expected checksums of these sectors; returns none without a table.
    async fn wanted(&self, first: u64, count: u64) -> Result<Vec<u32>, Error> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        // Whole pages, which every disk takes.
        let begin = first / PIECE / 8 * 8;
        let end = (first + count).div_ceil(PIECE).next_multiple_of(8);
        let mut bytes = vec![0; (end - begin) as usize * SECTOR];
        table.io(Io::Read(begin, &mut bytes)).await?;
        let sums = bytes.as_chunks::<4>().0.iter().skip((first - begin * PIECE) as usize);
        Ok(sums.take(count as usize).map(|sum| u32::from_le_bytes(*sum)).collect())
    }
}
