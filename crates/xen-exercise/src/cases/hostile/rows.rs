//! Requests that no honest frontend sends, one by one, and what they must leave alone.

use crate::cases::Context;
use crate::cases::requests::{
    self, ERROR, Given, INDIRECT, OKAY, Row, SECURE_DISCARD, TIMEOUT, TOO_LONG, UNSUPPORTED, row,
};
use crate::environment::{Device, Error, Io};
use crate::raw::{Page, Raw};
use crate::stamp::SECTOR;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use xen_blk::front::Info;

const ANY: u8 = OKAY | ERROR | UNSUPPORTED;
const REFUSED: u8 = ERROR | UNSUPPORTED;

use Page::{Data, ReadOnly, Ring, Unshared};

/// Requests that no honest frontend sends; each must be answered as said.
const ROWS: &[Row] = &[
    row("an unknown operation", 7, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("operation 255", 255, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("the reserved operation", 4, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("a read of 0 segments", 0, 0, Given::First, &[], ERROR),
    row("a write of 0 segments", 1, 0, Given::First, &[], ERROR),
    row("12 segments", 0, 12, Given::First, &[(Data(0), 0, 7)], ERROR),
    row("a write of 12 segments", 1, 12, Given::First, &[(Data(0), 0, 7)], ERROR),
    row("255 segments", 0, 255, Given::First, &[(Data(0), 0, 7)], ERROR),
    row("a segment that ends before it begins", 0, 1, Given::First, &[(Data(0), 5, 4)], ERROR),
    row("a segment that ends at sector 8", 0, 1, Given::First, &[(Data(0), 0, 8)], ERROR),
    row("a segment at sectors 255", 0, 1, Given::First, &[(Data(0), 255, 255)], ERROR),
    row(
        "a bad segment behind a good one",
        0,
        2,
        Given::First,
        &[(Data(0), 0, 7), (Data(1), 7, 0)],
        ERROR,
    ),
    row("one in a write", 1, 2, Given::First, &[(Data(0), 0, 7), (Data(1), 7, 0)], ERROR),
    row("a page that is not shared", 0, 1, Given::First, &[(Unshared, 0, 7)], ERROR),
    row("one behind a good one", 1, 2, Given::First, &[(Data(0), 0, 7), (Unshared, 0, 7)], ERROR),
    row("a read into a read-only page", 0, 1, Given::First, &[(ReadOnly, 0, 7)], ERROR),
    row("a write from the ring's page", 1, 1, Given::Middle, &[(Ring, 0, 7)], ANY),
    row("a read behind the end", 0, 1, Given::End, &[(Data(0), 0, 7)], ERROR),
    row("a write behind the end", 1, 1, Given::End, &[(Data(0), 0, 7)], ERROR),
    row("a read across the end", 0, 2, Given::Last, &[(Data(0), 0, 7), (Data(1), 0, 7)], ERROR),
    row("a write across it", 1, 2, Given::Last, &[(Data(0), 0, 7), (Data(1), 0, 7)], ERROR),
    row("a read of one sector behind the end", 0, 1, Given::End, &[(Data(0), 0, 0)], ERROR),
    row("a write of one", 1, 1, Given::End, &[(Data(0), 0, 0)], ERROR),
    row("a read at 2^32", 0, 1, Given::At(1 << 32), &[(Data(0), 0, 7)], ERROR),
    row("a write at 2^32", 1, 1, Given::At(1 << 32), &[(Data(0), 0, 7)], ERROR),
    row("a read at 2^64 - 8", 0, 1, Given::At(u64::MAX - 7), &[(Data(0), 0, 7)], ERROR),
    row("a write at 2^63", 1, 1, Given::At(1 << 63), &[(Data(0), 0, 7)], ERROR),
    row("a read at 2^55", 0, 1, Given::At(1 << 55), &[(Data(0), 0, 7)], ERROR),
    row("a flush with a segment", 3, 1, Given::Middle, &[(Data(0), 0, 7)], ANY),
    row("a barrier behind the end", 2, 1, Given::End, &[(Data(0), 0, 7)], REFUSED),
    row("one across it", 2, 2, Given::Last, &[(Data(0), 0, 7), (Data(1), 0, 7)], REFUSED),
    row("a discard behind the end", 5, 8, Given::End, &[], REFUSED),
    row("a discard across it", 5, 16, Given::Last, &[], REFUSED),
    row("a discard of 2^64 - 1 sectors", 5, u16::MAX, Given::Last, &[], REFUSED),
    row("a discard of 2^32 + 8 sectors", 5, TOO_LONG, Given::First, &[], REFUSED),
    row("an indirect flush", INDIRECT | 3, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("an indirect indirect request", INDIRECT | 6, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("an indirect discard", INDIRECT | 5, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("an indirect request of 0 segments", INDIRECT, 0, Given::First, &[], REFUSED),
    row(
        "one of 4097 segments, nine pages of them",
        INDIRECT,
        4097,
        Given::First,
        &[(Data(0), 0, 7)],
        REFUSED,
    ),
    row("one of 65535 segments", INDIRECT, u16::MAX, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row(
        "one with a bad segment",
        INDIRECT,
        2,
        Given::First,
        &[(Data(0), 0, 7), (Data(1), 3, 9)],
        REFUSED,
    ),
    row(
        "one that writes with one",
        INDIRECT | 1,
        2,
        Given::First,
        &[(Data(0), 0, 7), (Data(1), 3, 9)],
        REFUSED,
    ),
    row(
        "one that writes across the end",
        INDIRECT | 1,
        2,
        Given::Last,
        &[(Data(0), 0, 7), (Data(1), 0, 7)],
        REFUSED,
    ),
    row(
        "one with a page that is not shared",
        INDIRECT,
        1,
        Given::First,
        &[(Unshared, 0, 7)],
        REFUSED,
    ),
    row("one whose list is not shared", INDIRECT, 1, Given::NoList, &[(Data(0), 0, 7)], REFUSED),
];

/// Requests that a read-only disk must refuse.
const READ_ONLY: &[Row] = &[
    row("a write to a read-only disk", 1, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("a barrier on one", 2, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("a flush with data on one", 3, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
    row("a discard on one (CVE-2013-2140)", 5, 8, Given::First, &[], REFUSED),
    row("an indirect write to one", INDIRECT | 1, 1, Given::First, &[(Data(0), 0, 7)], REFUSED),
];

/// Requests that a disk without discard must refuse.
const NO_DISCARD: &[Row] =
    &[row("a discard that is not offered", 5, 8, Given::First, &[], REFUSED)];

/// Requests that a disk with discards, but not with secure ones, must refuse: a frontend that asks
/// for one relies on it that the data is gone.
const NO_SECURE: &[Row] =
    &[row("a secure discard that is not offered", SECURE_DISCARD, 8, Given::Middle, &[], REFUSED)];

/// A read that lets the disk's contents overwrite the ring.
pub const SCRIBBLE: Row = row("a read into the ring", 0, 1, Given::First, &[(Ring, 0, 7)], ANY);

/// Pages of data that malformed requests name or could come upon.
const PAGES: core::ops::Range<usize> = 0..16;
/// Those among them that some name.
const NAMED: usize = 2;
/// Their contents.
const FILLING: u8 = 0xc5;

fn fill_pages(raw: &dyn Raw) {
    // Not a constant, which would be a page of the image.
    let filling = vec![FILLING; 4096];
    PAGES.for_each(|page| raw.write(page, 0, &filling));
}

/// Returns the number of pages that the backend has changed, from page `first` on.
fn changed_pages(raw: &dyn Raw, first: usize) -> usize {
    let mut bytes = [0; 4096];
    let is_changed = |page: &usize| {
        raw.read(*page, 0, &mut bytes);
        bytes.iter().any(|byte| *byte != FILLING)
    };
    PAGES.skip(first).filter(is_changed).count()
}

/// Sends all of them; returns how many they are.
pub async fn send(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info) -> u32 {
    let read_only: &[Row] = if info.read_only { READ_ONLY } else { &[] };
    let not_offered = match info.discard {
        None => NO_DISCARD,
        Some(discard) if !discard.secure => NO_SECURE,
        Some(_) => &[],
    };
    let mut tried = 0;
    for row in ROWS.iter().chain(read_only).chain(not_offered) {
        if row.is_on(info) {
            continue;
        }
        fill_pages(raw);
        let status = requests::send(raw, row, info, TIMEOUT).await;
        cx.check(row.fits(status), format_args!("{}: {}", row.name, requests::Responded(status)));
        // What was refused as a whole has moved nothing; of other requests a part may be done.
        let stray = changed_pages(raw, if row.is_refused_whole() { 0 } else { NAMED });
        cx.check(stray == 0, format_args!("{}: {stray} pages changed beside it", row.name));
        tried += 1;
    }
    let late = raw.response(Duration::from_millis(100)).await.is_some();
    cx.check(!late, format_args!("a response came that belongs to no request"));
    let lost = raw.lost_events();
    cx.check(lost == 0, format_args!("{lost} times no event came for a response that was there"));
    let stray = raw.stray_bytes();
    cx.check(
        stray == 0,
        format_args!("{stray} bytes of slots hold the backend's memory (XSA-216)"),
    );
    tried
}

/// The first and the last sectors of the disk, which only requests that are to be refused name.
pub struct Edges {
    places: Vec<(u64, Vec<u8>)>,
    /// The disk shows what was written to it.
    pub keeps: bool,
}

impl Edges {
    /// Fills them with stamps, or on a read-only disk reads them. A small disk has none.
    pub async fn new(cx: &Context<'_>, disk: &dyn Device) -> Result<Edges, Error> {
        let info = disk.info();
        let places: &[u64] = if info.sectors < 64 { &[] } else { &[0, info.sectors - 16] };
        let mut edges = Edges { places: Vec::new(), keeps: !info.read_only && !places.is_empty() };
        for sector in places {
            let mut bytes = vec![0; 16 * SECTOR];
            if info.read_only {
                disk.io(Io::Read(*sector, &mut bytes)).await?;
            } else {
                cx.stamps.fill(*sector, cx.generation + 1, &mut bytes);
                disk.io(Io::Write(*sector, &bytes)).await?;
                let written = bytes.clone();
                disk.io(Io::Read(*sector, &mut bytes)).await?;
                edges.keeps &= bytes == written;
            }
            edges.places.push((*sector, bytes));
        }
        if !edges.keeps {
            cx.note(format_args!("the disk does not keep what is written: less is compared"));
        }
        Ok(edges)
    }

    /// Checks that nothing of what was refused was written there.
    pub async fn check(&self, cx: &Context<'_>, disk: &dyn Device) -> Result<(), Error> {
        for (first, wanted) in &self.places {
            let mut bytes = vec![0; wanted.len()];
            disk.io(Io::Read(*first, &mut bytes)).await?;
            for (number, (got, wanted)) in
                (*first..).zip(bytes.chunks(SECTOR).zip(wanted.chunks(SECTOR)))
            {
                let what =
                    format_args!("sector {number} was changed by a request that was refused");
                cx.check(got == wanted, what);
            }
        }
        Ok(())
    }
}
