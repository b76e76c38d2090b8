//! Requests whose segments begin and end anywhere in their pages.

use crate::cases::Context;
use crate::cases::requests::{Part, Responded, TIMEOUT, direct, indirect, status_of};
use crate::environment::{Device, Error, Io};
use crate::random::Random;
use crate::raw::{Page, Raw};
use crate::stamp::SECTOR;
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use xen_abi::blkif as abi;
use xen_blk::front::Info;

/// First sectors of the disk that these requests move.
const SECTORS: u64 = 128;
/// Requests with several segments.
const ROUNDS: u64 = 32;
/// Page to read into.
const BACK: usize = 20;
/// Contents of pages before something is read into them.
const OTHER: u8 = 0xee;
/// Bytes of a page.
const PAGE: usize = abi::SECTORS_PER_PAGE as usize * SECTOR;

/// A request.
struct Shape {
    /// The segments. Each is in the page of its number.
    parts: Vec<Part>,
    /// First sector on the disk.
    start: u64,
    listed: bool,
    writes: bool,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, first, last) = self.parts[0];
        let what = if self.writes { "writing" } else { "reading" };
        let list = if self.listed { " in a list" } else { "" };
        write!(f, "{what} {} segments{list}, the first of {first} to {last}", self.parts.len())
    }
}

/// Returns the first sectors of the disk, which are stamped before where it may be overwritten: the
/// same in all sectors would hide what is moved to a wrong place.
pub async fn image(cx: &Context<'_>, disk: &dyn Device) -> Result<Vec<u8>, Error> {
    let info = disk.info();
    let mut bytes = vec![0; SECTORS.min(info.sectors) as usize * SECTOR];
    if may_write(cx, &info) {
        // As many as the segments of the longest list.
        let most = (512 * u64::from(info.sector_size) / SECTOR as u64).min(info.sectors);
        for first in (0..most / SECTORS * SECTORS).step_by(SECTORS as usize) {
            cx.stamps.fill(first, cx.generation, &mut bytes);
            disk.io(Io::Write(first, &bytes)).await?;
        }
    }
    disk.io(Io::Read(0, &mut bytes)).await?;
    Ok(bytes)
}

/// Tells if more than the part of the disk that the plan names may be written.
fn may_write(cx: &Context<'_>, info: &Info) -> bool {
    cx.destroy && cx.plan.first.is_none() && !info.read_only
}

/// Reads a segment with each first and last sector that there can be, then several segments of
/// random ones, which are also written where that is permitted. Each is tried in the request and in
/// a list. Returns the number of requests.
pub async fn all(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info, image: &mut [u8]) -> u32 {
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let mut shapes: Vec<Shape> = Vec::new();
    let mut add = |parts: &[Part], start: u64, listed: bool, writes: bool| {
        if (!listed || info.indirect_segments > 0) && (!writes || may_write(cx, info)) {
            shapes.push(Shape { parts: parts.to_vec(), start, listed, writes });
        }
    };
    for first in 0..8 {
        for last in first..8 {
            let part = [(Page::Data(0), first, last)];
            add(&part, first.into(), false, false);
            add(&part, first.into(), true, false);
        }
    }
    let mut random = Random::new(cx.plan.seed ^ 3);
    for round in 0..if info.sectors < SECTORS { 0 } else { ROUNDS } {
        let mut part = |page| {
            let first = random.below(8 / unit);
            let last = first + 1 + random.below(8 / unit - first);
            (Page::Data(page), (first * unit) as u8, (last * unit - 1) as u8)
        };
        let parts: Vec<Part> = (0..2 + round as usize % 10).map(&mut part).collect();
        let start = random.below((SECTORS - 8 * parts.len() as u64) / unit) * unit;
        add(&parts, start, round % 4 > 1, round % 2 == 1);
    }
    for shape in &shapes {
        moves(cx, raw, shape, unit as u8, image).await;
    }
    shapes.len() as u32
}

/// Sends a request, and compares its pages, or what it wrote, with `image`.
fn moves<'a>(
    cx: &'a Context<'_>,
    raw: &'a mut dyn Raw,
    shape: &'a Shape,
    unit: u8,
    image: &'a mut [u8],
) -> Boxed<'a, ()> {
    Box::pin(async move {
        let Shape { parts, start, listed, writes } = shape;
        let mut bytes = vec![OTHER; PAGE];
        for page in 0..parts.len() {
            if *writes {
                let pattern =
                    |(at, byte): (usize, &mut u8)| *byte = (at / 32 + at + page * 7) as u8;
                bytes.iter_mut().enumerate().for_each(pattern);
            }
            raw.write(page, 0, &bytes);
        }
        let operation = if *writes { abi::OP_WRITE } else { abi::OP_READ };
        let request = match listed {
            false => direct(raw, operation, parts.len() as u16, *start, parts),
            true => indirect(raw, operation, parts.len() as u16, *start, parts, true),
        };
        let status = status_of(raw, &request, TIMEOUT).await;
        let whole = |(_, first, last): &Part| first % unit == 0 && (last + 1) % unit == 0;
        let okay = parts.iter().all(whole);
        let wants = if okay { abi::RSP_OKAY } else { abi::RSP_ERROR };
        cx.check(status == Some(wants), format_args!("{shape} {}", Responded(status)));
        let (mut place, mut same, mut beside) = (*start as usize * SECTOR, true, true);
        for (page, (_, first, last)) in parts.iter().enumerate() {
            raw.read(page, 0, &mut bytes);
            let (from, to) = (usize::from(*first) * SECTOR, (usize::from(*last) + 1) * SECTOR);
            let on_disk = &mut image[place..place + to - from];
            place += to - from;
            if *writes {
                on_disk.copy_from_slice(&bytes[from..to]);
            } else {
                same &= !okay || bytes[from..to] == *on_disk;
                bytes[from..to].fill(OTHER);
                beside &= bytes.iter().all(|byte| *byte == OTHER);
            }
        }
        if *writes {
            for (first, wanted) in (0..).step_by(8).zip(image.chunks(PAGE)) {
                same &= read(raw, first, 8).await == wanted;
            }
        }
        cx.check(same, format_args!("{shape}: pages and disk differ"));
        cx.check(beside, format_args!("{shape}: the backend wrote beside it"));
    })
}

/// Reads sectors, at most a page of them; nothing if that fails.
pub fn read(raw: &mut dyn Raw, first: u64, count: u64) -> Boxed<'_, Vec<u8>> {
    Box::pin(async move {
        let parts = [(Page::Data(BACK), 0, count as u8 - 1)];
        let request = direct(raw, abi::OP_READ, 1, first, &parts);
        if status_of(raw, &request, TIMEOUT).await != Some(abi::RSP_OKAY) {
            return Vec::new();
        }
        let mut bytes = vec![0; count as usize * SECTOR];
        raw.read(BACK, 0, &mut bytes);
        bytes
    })
}

/// Tells if a page begins with sectors of the disk.
pub fn holds(raw: &mut dyn Raw, page: usize, first: u64, count: u64) -> Boxed<'_, bool> {
    Box::pin(async move {
        let wanted = read(raw, first, count).await;
        let mut found = vec![0; wanted.len()];
        raw.read(page, 0, &mut found);
        !wanted.is_empty() && found == wanted
    })
}
