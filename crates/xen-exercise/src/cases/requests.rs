//! Single requests as they lie in a slot, valid and invalid, with the response that each must get.

use crate::raw::{Page, Raw};
use crate::tasks::Boxed;
use alloc::boxed::Box;
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
/// The operation of a [`Row`] that is a secure discard.
pub const SECURE_DISCARD: u8 = 0x80 | abi::OP_DISCARD;
/// The page with the list of segments, and the one with more of them.
const LIST: usize = 31;
const SECOND_LIST: usize = 30;

/// Place of a request on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// At the disk's first sector.
    First,
    /// Eight sectors before its end.
    Last,
    /// In its middle.
    Middle,
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
    /// Tells if the place is on the disk, though the request is only forbidden beyond its end.
    pub fn is_on(&self, info: &Info) -> bool {
        matches!(self.place, Given::At(sector) if sector < info.sectors)
    }

    /// Tells if a backend knows from the request alone, and not only from the pages, that it cannot
    /// be carried out.
    pub fn is_refused_whole(&self) -> bool {
        let any_page = |(page, ..): &Part| matches!(page, Page::Data(_));
        self.fits & OKAY == 0 && self.segments.iter().all(any_page)
    }

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
    let request = of_row(raw, row, info);
    status_of(raw, &request, timeout).await
}

/// Returns the slot of the request.
pub fn of_row(raw: &dyn Raw, row: &Row, info: &Info) -> Vec<u8> {
    let sector = match row.place {
        Given::First | Given::NoList => 0,
        Given::Last => info.sectors - 8,
        Given::Middle => info.sectors / 2 / 8 * 8,
        Given::End => info.sectors,
        Given::At(sector) => sector,
    };
    match row.operation {
        abi::OP_DISCARD => discard(raw, sector, row.count),
        SECURE_DISCARD => {
            let mut request = discard(raw, sector, row.count);
            request[1] = abi::DISCARD_SECURE;
            request
        }
        operation if (INDIRECT..INDIRECT + 8).contains(&operation) => indirect(
            raw,
            operation - INDIRECT,
            row.count,
            sector,
            row.segments,
            row.place != Given::NoList,
        ),
        operation => direct(raw, operation, row.count, sector, row.segments),
    }
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

/// A request with its segments in it. If it claims to have more than there are, they come again and
/// again.
pub fn direct(raw: &dyn Raw, operation: u8, count: u16, sector: u64, parts: &[Part]) -> Vec<u8> {
    let mut request = abi::Request::<Pad64> {
        operation,
        nr_segments: count as u8,
        id: raw.next_id().into(),
        sector_number: sector.into(),
        ..Default::default()
    };
    for (to, part) in request.seg.iter_mut().zip(parts.iter().cycle()) {
        *to = segment(raw, *part);
    }
    zerocopy::IntoBytes::as_bytes(&request).to_vec()
}

/// As the count of a discard: 2^32 + 8 sectors.
pub const TOO_LONG: u16 = u16::MAX - 1;

/// A discard of `count` sectors, of [`TOO_LONG`], or of as many as can be said for the largest
/// count.
pub fn discard(raw: &dyn Raw, sector: u64, count: u16) -> Vec<u8> {
    let count = match count {
        u16::MAX => u64::MAX,
        TOO_LONG => (1 << 32) + 8,
        count => count.into(),
    };
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

/// Writes the second page of a list, of one segment, and names it in a request of more than 512.
pub fn second_list(raw: &dyn Raw, request: &mut [u8], part: Part) {
    raw.write(SECOND_LIST, 0, zerocopy::IntoBytes::as_bytes(&segment(raw, part)));
    let at = core::mem::offset_of!(abi::Indirect::<Pad64>, indirect_grefs) + 4;
    request[at..at + 4].copy_from_slice(&raw.gref(Page::Data(SECOND_LIST)).to_le_bytes());
}

/// Changes the last sector of a segment in the list.
pub fn change_list(raw: &dyn Raw, number: usize, last: u8) {
    raw.write(LIST, number * 8 + 5, &[last]);
}
