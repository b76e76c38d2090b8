//! Breaches of the protocol: requests, indices, keys and states that no honest frontend would send.
//!
//! The backend must answer each request with an error, or refuse the ring as a whole; and after
//! each, the disk must work again for an honest frontend, as must all other disks meanwhile.

use super::requests::{self, ERROR, Given, INDIRECT, OKAY, Row, TIMEOUT, UNSUPPORTED, row};
use super::{Context, Outcome};
use crate::environment::{Device, Error, Io};
use crate::raw::{Page, Raw};
use crate::stamp::SECTOR;
use crate::tasks::Boxed;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use xen_blk::front::Config;

/// Time after which an event that did not come counts as not coming.
const SHORT: Duration = Duration::from_millis(100);
const ANY: u8 = OKAY | ERROR | UNSUPPORTED;

use Page::{Data, ReadOnly, Ring, Unshared};

/// Requests that no honest frontend sends; each must be answered as said.
const ROWS: &[Row] = &[
    row("an unknown operation", 7, 1, Given::First, &[(Data(0), 0, 7)], UNSUPPORTED | ERROR),
    row("operation 255", 255, 1, Given::First, &[(Data(0), 0, 7)], UNSUPPORTED | ERROR),
    row("the reserved operation", 4, 1, Given::First, &[(Data(0), 0, 7)], UNSUPPORTED | ERROR),
    row("a read of 0 segments", 0, 0, Given::First, &[], ERROR),
    row("a write of 0 segments", 1, 0, Given::First, &[], ERROR),
    row("12 segments", 0, 12, Given::First, &[(Data(0), 0, 7)], ERROR),
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
    row("a page that is not shared", 0, 1, Given::First, &[(Unshared, 0, 7)], ERROR),
    row("one behind a good one", 1, 2, Given::First, &[(Data(0), 0, 7), (Unshared, 0, 7)], ERROR),
    row("a read into a read-only page", 0, 1, Given::First, &[(ReadOnly, 0, 7)], ERROR),
    row("a write from the ring's page", 1, 1, Given::Last, &[(Ring, 0, 7)], ANY),
    row("a read behind the end", 0, 1, Given::End, &[(Data(0), 0, 7)], ERROR),
    row("a write behind the end", 1, 1, Given::End, &[(Data(0), 0, 7)], ERROR),
    row("a read across the end", 0, 2, Given::Last, &[(Data(0), 0, 7), (Data(1), 0, 7)], ERROR),
    row("a read at 2^64 - 8", 0, 1, Given::At(u64::MAX - 7), &[(Data(0), 0, 7)], ERROR),
    row("a write at 2^63", 1, 1, Given::At(1 << 63), &[(Data(0), 0, 7)], ERROR),
    row("a read at 2^55", 0, 1, Given::At(1 << 55), &[(Data(0), 0, 7)], ERROR),
    row("a flush with a segment", 3, 1, Given::Last, &[(Data(0), 0, 7)], ANY),
    row("a discard behind the end", 5, 8, Given::End, &[], ERROR | UNSUPPORTED),
    row("a discard of 2^64 - 1 sectors", 5, u16::MAX, Given::Last, &[], ERROR | UNSUPPORTED),
    row(
        "an indirect flush",
        INDIRECT | 3,
        1,
        Given::First,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "an indirect indirect request",
        INDIRECT | 6,
        1,
        Given::First,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "an indirect discard",
        INDIRECT | 5,
        1,
        Given::First,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row("an indirect request of 0 segments", INDIRECT, 0, Given::First, &[], ERROR | UNSUPPORTED),
    row(
        "one of 4097 segments, nine pages of them",
        INDIRECT,
        4097,
        Given::First,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "one of 65535 segments",
        INDIRECT,
        u16::MAX,
        Given::First,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "one with a bad segment",
        INDIRECT,
        2,
        Given::First,
        &[(Data(0), 0, 7), (Data(1), 3, 9)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "one with a page that is not shared",
        INDIRECT,
        1,
        Given::First,
        &[(Unshared, 0, 7)],
        ERROR | UNSUPPORTED,
    ),
    row(
        "one whose list is not shared",
        INDIRECT,
        1,
        Given::NoList,
        &[(Data(0), 0, 7)],
        ERROR | UNSUPPORTED,
    ),
];

/// Everything, on the disk of this test; the others of the plan are read all the while.
pub async fn hostile(cx: &mut Context<'_>) -> Outcome {
    let witness = witness(cx).await?;
    let honest = cx.device().await?;
    let info = honest.info();
    stamp_first(cx, &*honest).await?;
    cx.close().await?;
    let mut tried = 0;
    let mut raw = cx.env.raw(cx.vdev, &[]).await?;
    for row in ROWS {
        fill_pages(&*raw);
        let status = requests::send(&mut *raw, row, &info, TIMEOUT).await;
        cx.check(row.fits(status), format_args!("{}: {}", row.name, requests::Responded(status)));
        let stray = changed_pages(&*raw);
        cx.check(stray == 0, format_args!("{}: {stray} pages changed beside it", row.name));
        tried += 1;
    }
    let late = raw.response(SHORT).await.is_some();
    cx.check(!late, format_args!("a response came that belongs to no request"));
    let stray = raw.stray_bytes();
    cx.check(
        stray == 0,
        format_args!("{stray} bytes of slots hold the backend's memory (XSA-216)"),
    );
    twice(cx, &mut *raw, info.sectors).await;
    changing_list(cx, &mut *raw).await;
    storm(&*raw);
    settle(cx, raw, &witness, "malformed requests").await;
    check_first(cx).await?;

    for (name, beyond) in [("33 beyond", 33), ("one back", u32::MAX), ("2^31 beyond", 1 << 31)] {
        let raw = cx.env.raw(cx.vdev, &[]).await?;
        raw.move_index(beyond);
        cx.env.sleep(SHORT).await;
        settle(cx, raw, &witness, name).await;
        tried += 1;
    }
    // The last one lets the disk's contents overwrite the ring.
    let mut raw = cx.env.raw(cx.vdev, &[]).await?;
    let scribble = row("a read into the ring", 0, 1, Given::First, &[(Ring, 0, 7)], ANY);
    requests::send(&mut *raw, &scribble, &info, SHORT).await;
    settle(cx, raw, &witness, scribble.name).await;

    tried += states(cx, &witness).await?;
    tried += keys(cx, &witness).await;
    tried += no_states(cx, &witness).await?;
    for disk in witness {
        disk.close().await?;
    }
    Ok(format!("{tried} things that are forbidden, all of them refused or withstood"))
}

/// Pages of data that no malformed request names.
const UNNAMED: core::ops::Range<usize> = 2..16;
/// Their contents.
const FILLING: u8 = 0xc5;

fn fill_pages(raw: &dyn Raw) {
    // Not a constant, which would be a page of the image.
    let filling = vec![FILLING; 4096];
    UNNAMED.for_each(|page| raw.write(page, 0, &filling));
}

/// Returns the number of pages that the backend has changed, though no request named them.
fn changed_pages(raw: &dyn Raw) -> usize {
    let mut bytes = [0; 4096];
    let is_changed = |page: &usize| {
        raw.read(*page, 0, &mut bytes);
        bytes.iter().any(|byte| *byte != FILLING)
    };
    UNNAMED.filter(is_changed).count()
}

/// Fills the first sectors of the disk, which refused writes name, with stamps.
async fn stamp_first(cx: &Context<'_>, disk: &dyn Device) -> Result<(), Error> {
    let mut bytes = vec![0; first_sectors(disk) * SECTOR];
    cx.stamps.fill(0, cx.generation + 1, &mut bytes);
    disk.io(Io::Write(0, &bytes)).await
}

/// Checks that nothing of what was refused was written there.
async fn check_first(cx: &Context<'_>) -> Result<(), Error> {
    let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
    let mut bytes = vec![0; first_sectors(&*disk) * SECTOR];
    let read = disk.io(Io::Read(0, &mut bytes)).await;
    for (number, sector) in (0..).zip(bytes.as_chunks::<SECTOR>().0) {
        let checked = cx.stamps.check(number, cx.generation + 1, sector);
        let what = format_args!("sector {number} was changed by a request that was refused");
        cx.check(checked.is_ok(), what);
    }
    disk.close().await.and(read)
}

/// The disk's last sectors belong to the requests that may be carried out.
fn first_sectors(disk: &dyn Device) -> usize {
    16.min(disk.info().sectors.saturating_sub(8)) as usize / 8 * 8
}

/// The other disks of the plan, connected honestly.
async fn witness(cx: &Context<'_>) -> Result<Vec<Rc<dyn Device>>, Error> {
    let mut others = Vec::new();
    for vdev in cx.env.disks().await.into_iter().filter(|vdev| *vdev != cx.vdev) {
        others.push(cx.env.attach(vdev, &Config::default()).await?);
    }
    Ok(others)
}

/// Closes, connects honestly, and reads; the other disks must be readable, too.
fn settle<'a>(
    cx: &'a Context<'_>,
    raw: Box<dyn Raw>,
    witness: &'a [Rc<dyn Device>],
    after: &'a str,
) -> Boxed<'a, ()> {
    Box::pin(async move {
        let closed = raw.close().await;
        cx.works(closed, format_args!("closing after {after}"));
        alive(cx, witness, after).await;
    })
}

fn others<'a>(cx: &'a Context<'_>, witness: &'a [Rc<dyn Device>], after: &'a str) -> Boxed<'a, ()> {
    Box::pin(async move {
        let mut buffer = vec![0; 4096];
        for disk in witness {
            let read = disk.io(Io::Read(0, &mut buffer)).await;
            cx.works(read, format_args!("reading another disk after {after}"));
        }
    })
}

fn alive<'a>(cx: &'a Context<'_>, witness: &'a [Rc<dyn Device>], after: &'a str) -> Boxed<'a, ()> {
    Box::pin(async move {
        others(cx, witness, after).await;
        let mut buffer = vec![0; 4096];
        let again = async {
            let disk = cx.env.attach(cx.vdev, &Config::default()).await?;
            let read = disk.io(Io::Read(0, &mut buffer)).await;
            disk.close().await.and(read)
        };
        let again = again.await;
        cx.works(again, format_args!("an honest connection after {after}"));
    })
}

/// The same number for two requests: both must be answered.
async fn twice(cx: &Context<'_>, raw: &mut dyn Raw, sectors: u64) {
    let request = requests::direct(raw, 0, 1, 0, &[(Data(0), 0, 7)]);
    let mut other = requests::direct(raw, 0, 1, sectors / 2 / 8 * 8, &[(Data(1), 0, 7)]);
    other[8..16].copy_from_slice(&request[8..16]);
    raw.send(&request);
    raw.send(&other);
    for _ in 0..2 {
        let answered = raw.response(TIMEOUT).await.is_some_and(|response| response.status == 0);
        cx.check(answered, format_args!("two requests of one number: one has no answer"));
    }
}

/// The list of segments changes for as long as the request is under way, and the request itself
/// with it (XSA-155).
async fn changing_list(cx: &Context<'_>, raw: &mut dyn Raw) {
    let segments = [(Data(0), 0, 7); 8];
    for round in 0..200u32 {
        raw.send(&requests::indirect(raw, 0, 8, 0, &segments, true));
        // Any of these may be what the backend sees: it must judge and use the same.
        for step in 0..(round % 16) * 8 {
            let value = [0u8, 7, 200, 255][step as usize % 4];
            requests::change_list(raw, step as usize % 8, value);
        }
        let answered = raw.response(TIMEOUT).await.is_some();
        if !cx.check(
            answered,
            format_args!("a list that changes under direction: no answer in round {round}"),
        ) {
            return;
        }
    }
}

/// Events without requests (XSA-332).
fn storm(raw: &dyn Raw) {
    (0..10_000).for_each(|_| raw.notify());
}

/// States in no order (XSA-350).
async fn states(cx: &Context<'_>, witness: &[Rc<dyn Device>]) -> Result<u32, Error> {
    const STATES: [&str; 9] = ["1", "4", "6", "3", "5", "2", "9", "7", "1"];
    let raw = cx.env.raw(cx.vdev, &[]).await?;
    for round in 0..10 {
        for state in STATES.iter().cycle().skip(round).take(STATES.len()) {
            raw.state(state).await;
        }
    }
    settle(cx, raw, witness, "states in no order").await;
    Ok(STATES.len() as u32)
}

/// Things that are no states. A backend may take them for the end of the frontend, and the disk
/// away with it: only the other disks must go on.
async fn no_states(cx: &Context<'_>, witness: &[Rc<dyn Device>]) -> Result<u32, Error> {
    const NONE: [&str; 5] = ["4294967296", "-1", "four", "", "0"];
    let raw = cx.env.raw(cx.vdev, &[]).await?;
    for state in NONE {
        raw.state(state).await;
        cx.env.sleep(SHORT).await;
    }
    // It may be gone.
    let _ = raw.close().await;
    others(cx, witness, "states that are none").await;
    Ok(NONE.len() as u32)
}

/// Keys that make no sense: the backend must not connect, or must work.
async fn keys(cx: &Context<'_>, witness: &[Rc<dyn Device>]) -> u32 {
    const KEYS: [(&str, &str); 12] = [
        ("ring-ref", "4294967295"),
        ("ring-ref", "-8"),
        ("ring-ref", "eight"),
        ("ring-ref", ""),
        ("event-channel", "4294967295"),
        ("event-channel", "0"),
        ("event-channel", ""),
        ("protocol", "pdp11-abi"),
        ("ring-page-order", "31"),
        ("ring-page-order", "-1"),
        ("multi-queue-num-queues", "1000000000"),
        ("multi-queue-num-queues", "0"),
    ];
    for (key, value) in KEYS {
        if let Ok(raw) = cx.env.raw(cx.vdev, &[(key, value)]).await {
            // It took that for something it knows. Then it has to close.
            let closed = raw.close().await;
            cx.works(closed, format_args!("closing after {key}={value}"));
        }
        alive(cx, witness, &format!("{key}={value}")).await;
    }
    KEYS.len() as u32
}
