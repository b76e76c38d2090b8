//! Single requests as they lie in a slot, valid and invalid, with the response that each must get.

use super::{Context, Outcome};
use crate::environment::Io;
use crate::raw::{Page, Raw};
use crate::stamp::SECTOR;
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use xen_abi::blkif::{self as abi, Pad64};
use xen_blk::front::Info;
use xen_blk::protocol::wire::Response;

/// The response may be success.
pub const OKAY: u8 = 1;
/// The response may be an error.
pub const ERROR: u8 = 2;
/// The response may be that there is no such operation.
pub const UNSUPPORTED: u8 = 4;
/// Stands for the status of a response with an id or operation that is not the request's.
const OF_ANOTHER: i16 = i16::MIN;
/// Time that a response has to come.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// In the operation of a [`Row`]: indirect.
pub const INDIRECT: u8 = 0x40;
/// The page with the list of segments.
const LIST: usize = 31;

/// Place of a request on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// At the disk's first sector.
    First,
    /// Eight sectors before its end.
    Last,
    /// At its end.
    End,
    /// At that sector.
    At(u64),
    /// At the first; the list of segments is in a page that is not shared.
    NoList,
}

/// A segment: its page, its first and its last sector.
pub type Part = (Page, u8, u8);

/// A request with the responses that it may get.
pub struct Row {
    pub name: &'static str,
    operation: u8,
    count: u16,
    place: Given,
    segments: &'static [Part],
    fits: u8,
}

/// Makes a row of a table. `count` is what the request says, whatever there is.
pub const fn row(
    name: &'static str,
    operation: u8,
    count: u16,
    place: Given,
    segments: &'static [Part],
    fits: u8,
) -> Row {
    Row { name, operation, count, place, segments, fits }
}

impl Row {
    /// Tells if that response is allowed.
    pub fn fits(&self, status: Option<i16>) -> bool {
        let bit = match status {
            Some(abi::RSP_OKAY) => OKAY,
            Some(abi::RSP_ERROR) => ERROR,
            Some(abi::RSP_EOPNOTSUPP) => UNSUPPORTED,
            _ => 0,
        };
        self.fits & bit != 0
    }
}

/// Shows a response.
pub struct Responded(pub Option<i16>);

impl fmt::Display for Responded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(OF_ANOTHER) => f.write_str("was answered with another request's id or operation"),
            Some(status) => write!(f, "was answered with {status}"),
            None => f.write_str("has no answer"),
        }
    }
}

/// Sends the request and returns the status of its response.
pub async fn send(raw: &mut dyn Raw, row: &Row, info: &Info, timeout: Duration) -> Option<i16> {
    let sector = match row.place {
        Given::First | Given::NoList => 0,
        Given::Last => info.sectors - 8,
        Given::End => info.sectors,
        Given::At(sector) => sector,
    };
    let request = match row.operation {
        abi::OP_DISCARD => discard(raw, sector, row.count),
        operation if (INDIRECT..INDIRECT + 8).contains(&operation) => indirect(
            raw,
            operation - INDIRECT,
            row.count,
            sector,
            row.segments,
            row.place != Given::NoList,
        ),
        operation => direct(raw, operation, row.count, sector, row.segments),
    };
    status_of(raw, &request, timeout).await
}

/// Sends those bytes and returns the status of the response.
pub fn status_of<'a>(
    raw: &'a mut dyn Raw,
    request: &'a [u8],
    timeout: Duration,
) -> Boxed<'a, Option<i16>> {
    Box::pin(async move {
        raw.send(request);
        let Response { id, operation, status } = raw.response(timeout).await?;
        // For an indirect request, backends repeat the operation that it wraps.
        let fits = operation == request[0] || is_indirect(request) && operation == request[1];
        let is_its = fits && request[8..16] == id.to_le_bytes();
        Some(if is_its { status } else { OF_ANOTHER })
    })
}

fn is_indirect(request: &[u8]) -> bool {
    request[0] == abi::OP_INDIRECT
}

fn segment(raw: &dyn Raw, (page, first_sect, last_sect): Part) -> abi::Segment {
    abi::Segment { gref: raw.gref(page).into(), first_sect, last_sect, pad: [0; 2] }
}

/// A request with its segments in it.
pub fn direct(raw: &dyn Raw, operation: u8, count: u16, sector: u64, parts: &[Part]) -> Vec<u8> {
    let mut request = abi::Request::<Pad64> {
        operation,
        nr_segments: count as u8,
        id: raw.next_id().into(),
        sector_number: sector.into(),
        ..Default::default()
    };
    for (to, part) in request.seg.iter_mut().zip(parts) {
        *to = segment(raw, *part);
    }
    zerocopy::IntoBytes::as_bytes(&request).to_vec()
}

/// A discard of `count` sectors, or of as many as can be said for the largest count.
pub fn discard(raw: &dyn Raw, sector: u64, count: u16) -> Vec<u8> {
    let count = if count == u16::MAX { u64::MAX } else { count.into() };
    let request = abi::Discard::<Pad64> {
        operation: abi::OP_DISCARD,
        id: raw.next_id().into(),
        sector_number: sector.into(),
        nr_sectors: count.into(),
        ..Default::default()
    };
    zerocopy::IntoBytes::as_bytes(&request).to_vec()
}

/// A request whose segments are listed in a page.
pub fn indirect(
    raw: &dyn Raw,
    operation: u8,
    count: u16,
    sector: u64,
    parts: &[Part],
    shared: bool,
) -> Vec<u8> {
    for (number, part) in parts.iter().enumerate() {
        let bytes = segment(raw, *part);
        raw.write(LIST, number * 8, zerocopy::IntoBytes::as_bytes(&bytes));
    }
    let list = raw.gref(if shared { Page::Data(LIST) } else { Page::Unshared });
    let request = abi::Indirect::<Pad64> {
        operation: abi::OP_INDIRECT,
        indirect_op: operation,
        nr_segments: count.into(),
        id: raw.next_id().into(),
        sector_number: sector.into(),
        // The same page for each: a backend that takes more of them than there can be finds them.
        indirect_grefs: [list.into(); abi::MAX_INDIRECT_PAGES_PER_REQUEST],
        ..Default::default()
    };
    zerocopy::IntoBytes::as_bytes(&request).to_vec()
}

/// Changes the last sector of a segment in the list.
pub fn change_list(raw: &dyn Raw, number: usize, last: u8) {
    raw.write(LIST, number * 8 + 5, &[last]);
}

/// Reads with segments of every shape and compares with what is read as usual; and what the backend
/// must refuse though a driver would not ask for it.
pub async fn shapes(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let info = disk.info();
    let sectors = 16.min(info.sectors);
    let mut wanted = vec![0; sectors as usize * SECTOR];
    disk.io(Io::Read(0, &mut wanted)).await?;
    drop(disk);
    cx.close().await?;
    let mut raw = cx.env.raw(cx.vdev, &[]).await?;
    let shapes = one_segment(cx, &mut *raw, &info, &wanted).await
        + many_segments(cx, &mut *raw, &info).await;
    let closed = raw.close().await;
    cx.works(closed, format_args!("closing"));
    Ok(format!("{shapes} shapes of segments"))
}

/// One segment with each first and last sector that there can be, in the request and in a list.
async fn one_segment(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info, wanted: &[u8]) -> u32 {
    const OTHER: u8 = 0xee;
    let unit = (info.sector_size / SECTOR as u32) as usize;
    // Not a constant, which would be a page of the image.
    let others = vec![OTHER; 4096];
    let mut tried = 0;
    for (first, last) in (0..8).flat_map(|first| (first..8).map(move |last| (first, last))) {
        for listed in
            [false, true].into_iter().filter(|listed| !listed || info.indirect_segments > 0)
        {
            raw.write(0, 0, &others);
            let parts = [(Page::Data(0), first as u8, last as u8)];
            let request = match listed {
                false => direct(raw, abi::OP_READ, 1, first as u64, &parts),
                true => indirect(raw, abi::OP_READ, 1, first as u64, &parts, true),
            };
            let status = status_of(raw, &request, TIMEOUT).await;
            let (from, to) = (first * SECTOR, (last + 1) * SECTOR);
            let whole = first.is_multiple_of(unit) && (last + 1).is_multiple_of(unit);
            let wants = if whole { abi::RSP_OKAY } else { abi::RSP_ERROR };
            let what = if listed { " in a list" } else { "" };
            cx.check(
                status == Some(wants),
                format_args!("segment {first} to {last}{what} {}", Responded(status)),
            );
            let mut page = [0; 4096];
            raw.read(0, 0, &mut page);
            let read = status != Some(abi::RSP_OKAY) || page[from..to] == wanted[from..to];
            cx.check(
                read,
                format_args!("segment {first} to {last}{what} holds other data than the disk"),
            );
            let rest = page[..from].iter().chain(&page[to..]).all(|byte| *byte == OTHER);
            cx.check(
                rest,
                format_args!("segment {first} to {last}{what}: the backend wrote beside it"),
            );
            tried += 1;
        }
    }
    tried
}

/// As many segments as a request and a list can have, and one more.
async fn many_segments(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info) -> u32 {
    let parts: Vec<Part> = (0..512).map(|number| (Page::Data(number % 16), 0, 7)).collect();
    let fits = |count: u64| if count * 8 <= info.sectors { abi::RSP_OKAY } else { abi::RSP_ERROR };
    let request = direct(raw, abi::OP_READ, 11, 0, &parts[..11]);
    let status = status_of(raw, &request, TIMEOUT).await;
    cx.check(status == Some(fits(11)), format_args!("11 segments {}", Responded(status)));
    let keys = cx.env.keys(cx.vdev).await.unwrap_or_default();
    let most = keys.iter().find(|(key, _)| key == "feature-max-indirect-segments");
    let most: u16 = most.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    if most == 0 {
        return 1;
    }
    for count in [12, most] {
        let request = indirect(raw, abi::OP_READ, count, 0, &parts, true);
        let status = status_of(raw, &request, TIMEOUT).await;
        cx.check(
            status == Some(fits(count.into())),
            format_args!("{count} listed segments {}", Responded(status)),
        );
    }
    let request = indirect(raw, abi::OP_READ, most + 1, 0, &parts, true);
    let status = status_of(raw, &request, TIMEOUT).await;
    let refused = status == Some(abi::RSP_ERROR);
    cx.check(
        refused,
        format_args!(
            "{} listed segments, of {most} that are offered, {}",
            most + 1,
            Responded(status)
        ),
    );
    4
}
