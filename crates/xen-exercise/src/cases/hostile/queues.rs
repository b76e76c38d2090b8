//! Breaches of the protocol on one ring of a connection, which must leave the other ring alone.

use super::races::{fill, page};
use super::{SHORT, Witness, settle};
use crate::cases::requests::{
    self, ERROR, Given, INDIRECT, Responded, Row, TIMEOUT, UNSUPPORTED, row,
};
use crate::cases::{Context, number};
use crate::environment::{Error, Io};
use crate::raw::{Page, Raw, Rings};
use crate::stamp::SECTOR;
use alloc::vec;
use alloc::vec::Vec;
use xen_abi::blkif as abi;
use xen_blk::front::{Config, Info};

use Page::{Data, Unshared};

/// Page that the requests name which are to be refused, and one to read into.
const NAMED: usize = 28;
const BACK: usize = 29;
/// Pages of each ring's valid requests; each has its own eight sectors of the disk.
const PAGES: usize = 12;
/// Valid requests on the ring with one to be refused, and on the other: all of its slots.
const COUNTS: [usize; 2] = [PAGES, 32];
/// Bytes of a page.
const PAGE: usize = 8 * SECTOR;
/// Place of the request to be refused among the others.
const PLACE: usize = 5;

/// Requests that must be refused, each for another reason.
const ROWS: &[Row] = &[
    row("an unknown operation", 7, 1, Given::First, &[(Data(NAMED), 0, 7)], UNSUPPORTED | ERROR),
    row("12 segments", 1, 12, Given::First, &[(Data(NAMED), 0, 7)], ERROR),
    row("a segment that ends at sector 8", 0, 1, Given::First, &[(Data(NAMED), 0, 8)], ERROR),
    row("a page that is not shared", 1, 1, Given::First, &[(Unshared, 0, 7)], ERROR),
    row("a write behind the end", 1, 1, Given::End, &[(Data(NAMED), 0, 7)], ERROR),
    row(
        "a list that is not shared",
        INDIRECT,
        1,
        Given::NoList,
        &[(Data(NAMED), 0, 7)],
        UNSUPPORTED | ERROR,
    ),
];

/// Sends requests on two rings, with the same ids on both, and breaks the protocol on one of them.
/// Returns the number of breaches; none if the backend has only one ring.
pub async fn queues(
    cx: &Context<'_>,
    info: &Info,
    keeps: bool,
    witness: &[Witness],
) -> Result<u32, Error> {
    let keys = cx.env.keys(cx.vdev).await?;
    if number(&keys, "multi-queue-max-queues") < 2 || info.sectors < 512 {
        return Ok(0);
    }
    let mut raw = cx.env.raw(cx.vdev, Rings { count: 2, pages: 1 }, &[]).await?;
    let mut written = Vec::new();
    for (round, row) in ROWS.iter().map(Some).chain([None]).enumerate() {
        let breach = Breach { row, ring: round % 2, round, writes: keeps && round % 3 != 2 };
        if !breach.beside(cx, &mut *raw, info, &mut written).await {
            break;
        }
    }
    settle(cx, raw, witness, "an index that jumps on one of two rings").await;
    // What the other ring was told to be done is there.
    let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
    let mut bytes = vec![0; 2 * PAGES * PAGE];
    let read = disk.io(Io::Read(sector_of(info, 0), &mut bytes)).await;
    disk.close().await.and(read)?;
    let is_lost = |(page, value): &&(usize, u8)| {
        bytes[page * PAGE..][..PAGE].iter().any(|byte| byte != value)
    };
    let lost = written.iter().filter(is_lost).count();
    cx.check(
        lost == 0,
        format_args!("{lost} writes were done, then an index jumped: they are lost"),
    );
    Ok(ROWS.len() as u32 + 1)
}

/// Returns the sector of a page.
fn sector_of(info: &Info, page: usize) -> u64 {
    info.sectors / 2 / 8 * 8 + 8 * page as u64
}

/// A breach on one ring while both have requests in flight.
struct Breach<'a> {
    /// The request that breaks the protocol; without one, the index of requests jumps.
    row: Option<&'a Row>,
    /// The ring that it is on.
    ring: usize,
    round: usize,
    writes: bool,
}

impl Breach<'_> {
    /// Returns the requests for a ring.
    fn batch(&self, raw: &dyn Raw, info: &Info, ring: usize) -> Vec<Vec<u8>> {
        let request = |number: usize| {
            let page = ring * PAGES + number % PAGES;
            let operation = u8::from(self.writes);
            requests::direct(raw, operation, 1, sector_of(info, page), &[(Data(page), 0, 7)])
        };
        let count = COUNTS[usize::from(ring != self.ring)];
        let mut batch: Vec<_> = (0..count).map(request).collect();
        if let Some(row) = self.row.filter(|_| ring == self.ring) {
            batch.insert(PLACE, requests::of_row(raw, row, info));
        }
        batch
    }

    /// Returns the contents of a page before it is written.
    fn value(&self, page: usize) -> u8 {
        (self.round * 32 + page) as u8
    }

    /// Sends everything, and looks at each response and at the data; false if there is nothing more
    /// to be learned. After a jump the backend may end both rings, but what it says is done must be
    /// done: that is added to `written`.
    async fn beside(
        &self,
        cx: &Context<'_>,
        raw: &mut dyn Raw,
        info: &Info,
        written: &mut Vec<(usize, u8)>,
    ) -> bool {
        let (name, bad) = (self.row.map_or("an index that jumps", |row| row.name), self.ring);
        (0..2 * PAGES).for_each(|page| fill(raw, page, self.value(page)));
        let mut batches: [Vec<Vec<u8>>; 2] = Default::default();
        for (ring, batch) in batches.iter_mut().enumerate() {
            raw.select(ring);
            *batch = self.batch(raw, info, ring);
            match ring == bad && self.row.is_none() {
                true => raw.move_index(33),
                false => raw.send_all(batch),
            }
        }
        for (ring, batch) in batches.iter().enumerate() {
            raw.select(ring);
            let mut left: Vec<usize> = (0..batch.len()).collect();
            let timeout = if self.row.is_some() { TIMEOUT } else { SHORT };
            while !left.is_empty() {
                let response = raw.response(timeout).await;
                if response.is_none() && self.row.is_none() {
                    break;
                }
                let number = response.and_then(|response| {
                    let its = |number: &usize| batch[*number][8..16] == response.id.to_le_bytes();
                    left.iter().position(its).map(|at| left.swap_remove(at))
                });
                let status = response.map(|response| response.status);
                let is_right = response.is_some_and(|response| {
                    response.status == abi::RSP_OKAY && response.operation == u8::from(self.writes)
                });
                let fits = number.is_some_and(|number| match self.row {
                    Some(row) if ring == bad && number == PLACE => row.fits(status),
                    Some(_) => is_right,
                    None => is_right && ring != bad,
                });
                let what =
                    format_args!("{name} on ring {bad}: one on ring {ring} {}", Responded(status));
                if !cx.check(fits, what) {
                    return false;
                }
                if let (Some(number), None) = (number.filter(|_| self.writes), self.row) {
                    let page = ring * PAGES + number % PAGES;
                    written.push((page, self.value(page)));
                }
            }
            let clean = raw.lost_events() == 0 && raw.stray_bytes() == 0;
            cx.check(
                clean,
                format_args!("{name} on ring {bad}: ring {ring} lost events, or has stray bytes"),
            );
        }
        for number in (0..2 * PAGES).filter(|_| self.row.is_some()) {
            raw.select(number % 2);
            let read = page(raw, abi::OP_READ, sector_of(info, number), BACK).await;
            let (mut moved, mut there) = ([0; SECTOR], [0; SECTOR]);
            raw.read(number, 0, &mut moved);
            raw.read(BACK, 0, &mut there);
            cx.check(
                read && moved == there,
                format_args!("{name} on ring {bad}: page {number} and its sectors differ"),
            );
        }
        true
    }
}
