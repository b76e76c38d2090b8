//! Segments of every shape as they lie on the ring, and the events for them.

mod segments;

use super::requests::{Part, Responded, TIMEOUT, direct, indirect, second_list, status_of};
use super::{Context, Outcome, number};
use crate::random::Random;
use crate::raw::{Page, Raw, Rings};
use crate::stamp::SECTOR;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::blkif as abi;
use xen_blk::front::Info;

/// Time in which a backend that is awake answers a request, and for each one more.
const SLOW: Duration = Duration::from_secs(1);
const EACH: Duration = Duration::from_millis(20);

/// Reads with segments of every shape and compares with what is read as usual; and what the backend
/// must refuse though a driver would not ask for it.
pub async fn shapes(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let info = disk.info();
    let mut image = segments::image(cx, &*disk).await?;
    drop(disk);
    cx.close().await?;
    let keys = cx.env.keys(cx.vdev).await.unwrap_or_default();
    let mut shapes = 0;
    for persistent in ["1", "0"] {
        let keys = [("feature-persistent", persistent)];
        let mut raw = cx.env.raw(cx.vdev, Rings::ONE, &keys).await?;
        shapes += segments::all(cx, &mut *raw, &info, &mut image).await;
        let closed = raw.close().await;
        cx.works(closed, format_args!("closing"));
    }
    let mut raw = cx.env.raw(cx.vdev, Rings::ONE, &[]).await?;
    shapes += many_segments(cx, &mut *raw, &info, &keys).await;
    unaligned(cx, &mut *raw, &info).await;
    bursts(cx, &mut *raw, &info, 32).await;
    taken_back(cx, &mut *raw).await;
    let closed = raw.close().await;
    cx.works(closed, format_args!("closing"));
    // The largest ring. Its requests share a few pages, so these must not stay mapped: Linux's
    // backend has no more than one user of a persistent grant at a time.
    let order = number(&keys, "max-ring-page-order").min(4);
    let slots = 32 << order;
    if order > 0 {
        let mut raw = cx.env.raw(cx.vdev, Rings { count: 1, pages: 1 << order }, &[]).await?;
        bursts(cx, &mut *raw, &info, slots).await;
        let closed = raw.close().await;
        cx.works(closed, format_args!("closing"));
    }
    Ok(format!("{shapes} shapes of segments, up to {slots} requests at once"))
}

/// Page of a segment that shares it with no other.
const ALONE: usize = 16;

/// As many segments as a request and a list can have, and one more. They have one sector of the
/// disk each.
async fn many_segments(
    cx: &Context<'_>,
    raw: &mut dyn Raw,
    info: &Info,
    keys: &[(String, String)],
) -> u32 {
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let parts: Vec<Part> =
        (0..512).map(|number| (Page::Data(number % 16), 0, unit as u8 - 1)).collect();
    let fits =
        |count: u64| if count * unit <= info.sectors { abi::RSP_OKAY } else { abi::RSP_ERROR };
    let request = direct(raw, abi::OP_READ, 11, 0, &parts[..11]);
    let status = status_of(raw, &request, TIMEOUT).await;
    cx.check(status == Some(fits(11)), format_args!("11 segments {}", Responded(status)));
    let most = number(keys, "feature-max-indirect-segments");
    if most == 0 {
        return 1;
    }
    for count in [12, most.min(512), most] {
        // The others share pages, and whichever is read last stays there.
        let mut parts = parts.clone();
        if let Some(last) = parts.get_mut(usize::from(count) - 1) {
            last.0 = Page::Data(ALONE);
        }
        raw.write(ALONE, 0, &vec![0xee; 4096]);
        let request = indirect(raw, abi::OP_READ, count, 0, &parts, true);
        let status = status_of(raw, &request, TIMEOUT).await;
        cx.check(
            status == Some(fits(count.into())),
            format_args!("{count} listed segments {}", Responded(status)),
        );
        // In a longer list each segment is there twice.
        if status == Some(abi::RSP_OKAY) && usize::from(count) <= parts.len() {
            let last = u64::from(count - 1) * unit;
            let same = segments::holds(raw, ALONE, last, unit).await;
            cx.check(same, format_args!("the last of {count} listed segments holds other data"));
        }
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
    // The one behind a whole page of them stands in a second page.
    if most > 512 && fits(513) == abi::RSP_OKAY {
        raw.write(17, 0, &vec![0; 4096]);
        let mut request = indirect(raw, abi::OP_READ, 513, 0, &parts, true);
        second_list(raw, &mut request, (Page::Data(17), 0, unit as u8 - 1));
        let status = status_of(raw, &request, TIMEOUT).await;
        let ok = status == Some(abi::RSP_OKAY) && segments::holds(raw, 17, 512 * unit, unit).await;
        cx.check(ok, format_args!("the segment in a second page of a list {}", Responded(status)));
    }
    4
}

/// Requests that begin or end within a sector of the disk, where that is larger than 512 bytes.
async fn unaligned(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info) {
    if info.sector_size as usize == SECTOR {
        return;
    }
    for sector in [1, 4, info.sectors - 9] {
        let request = direct(raw, abi::OP_READ, 1, sector, &[(Page::Data(0), 0, 7)]);
        let status = status_of(raw, &request, TIMEOUT).await;
        cx.check(
            status == Some(abi::RSP_ERROR),
            format_args!(
                "a read at sector {sector}, within one of the disk, {}",
                Responded(status)
            ),
        );
    }
}

/// Many requests shown at once, up to a full ring, with an event only where the backend asks for
/// one; and their responses, for which one is wanted at the first, the last, or between. No event
/// may be lost: nobody looks before it comes.
async fn bursts(cx: &Context<'_>, raw: &mut dyn Raw, info: &Info, slots: u32) {
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let mut random = Random::new(cx.plan.seed ^ 2);
    for round in 0..24 {
        let count = [1, 2, slots, 3, slots, slots - 1, 7, 1][round % 8];
        let batch: Vec<Vec<u8>> = (0..count)
            .map(|number| {
                let part = (Page::Data(number as usize % 16), 0, unit as u8 - 1);
                direct(raw, abi::OP_READ, 1, random.below(info.sectors / unit) * unit, &[part])
            })
            .collect();
        // The backend may sleep by then.
        cx.env.sleep(Duration::from_millis(5)).await;
        let begun = cx.env.now();
        raw.send_all(&batch);
        let mut left: Vec<&[u8]> = batch.iter().map(|request| &request[8..16]).collect();
        while !left.is_empty() {
            let event_at = [1, left.len() as u32, left.len().div_ceil(2) as u32][round % 3];
            raw.wait_for(event_at, TIMEOUT).await;
            for _ in 0..event_at {
                let response = raw.response(TIMEOUT).await;
                let id = response.map_or([0; 8], |response| response.id.to_le_bytes());
                let found = left.iter().position(|wanted| *wanted == id);
                let good = found.is_some() && response.is_some_and(|response| response.status == 0);
                let what = format_args!("of {count} requests sent at once, one has no good answer");
                if !cx.check(good, what) {
                    return;
                }
                found.map(|at| left.swap_remove(at));
            }
        }
        let took = cx.env.now().since(begun);
        cx.check(
            took < SLOW + EACH * count,
            format_args!(
                "{count} requests took {} ms: the backend wanted no event for them, and slept",
                took.as_millis() as u64
            ),
        );
    }
    let lost = raw.lost_events();
    cx.check(lost == 0, format_args!("{lost} times no event came for responses that were there"));
}

/// Takes the pages back that were used: the backend must have let go of them with its responses,
/// since persistent grants were not agreed on.
async fn taken_back(cx: &Context<'_>, raw: &mut dyn Raw) {
    let Some(before) = cx.env.usage() else { return };
    let renewed = raw.renew();
    cx.works(renewed, format_args!("sharing other pages"));
    let kept = cx.env.usage().map_or(0, |after| after.still_mapped - before.still_mapped);
    cx.check(
        kept == 0,
        format_args!("{kept} pages are mapped after the last response, without persistent grants"),
    );
}
