//! Real limits: how much the backend takes and which operations it knows, found by trying, whatever
//! its keys say.

use super::Context;
use super::requests::{self, INDIRECT, Part, TIMEOUT};
use crate::environment::{Device, Io};
use crate::raw::{Page, Raw};
use crate::stamp::SECTOR;
use crate::tasks::{Boxed, join_all};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{Arguments, Write};
use xen_abi::blkif as abi;
use xen_blk::front::Info;
use xen_blk::protocol::Units;
use xen_platform::PAGE_SIZE;

/// As many requests as a ring of 16 pages holds.
const REQUESTS: usize = 512;

/// Returns the largest number of requests in flight when many are sent at once.
pub async fn depth(disk: &dyn Device) -> u32 {
    let size = disk.info().sector_size as usize;
    let read = || async {
        // Other tests tell what cannot be read.
        let _ = disk.io(Io::Read(0, &mut vec![0; size])).await;
    };
    join_all((0..REQUESTS).map(|_| Box::pin(read()) as Boxed<'_, _>).collect()).await;
    disk.stats().max_in_flight
}

/// The others, as members of a JSON object behind its first. No more segments are tried in a list
/// than are `offered`, and what writes only where that is permitted.
pub async fn find(
    cx: &Context<'_>,
    raw: &mut dyn Raw,
    info: &Info,
    units: Units,
    offered: u64,
) -> String {
    let last = (PAGE_SIZE as u32 / units.segment.bytes(info.sector_size)) as u8 - 1;
    let part = |number: usize| (Page::Data(number % 16), 0, last);
    let parts: Vec<Part> = (0..abi::SEGMENTS_PER_INDIRECT_PAGE).map(part).collect();
    // Not beyond the end of a small disk.
    let room = |count: u64| count.min(info.sectors / 8) as u16;
    let grain =
        info.discard.map_or(0, |discard| discard.granularity).clamp(4096, 1 << 24) / SECTOR as u32;
    let (mut found, mut most) = (String::new(), 0);
    for (name, operation, mut count) in [
        ("indirect_segments", INDIRECT, room(offered)),
        // What a barrier writes is what this has read.
        ("direct_segments", abi::OP_READ, room(abi::MAX_SEGMENTS_PER_REQUEST as u64)),
        ("flush", abi::OP_FLUSH_DISKCACHE, 0),
        ("barrier", abi::OP_WRITE_BARRIER, 1),
        ("discard", abi::OP_DISCARD, grain as u16),
        ("discard_of_a_sector", abi::OP_DISCARD, (info.sector_size / SECTOR as u32) as u16),
    ] {
        let counts = operation == abi::OP_READ || operation == INDIRECT;
        let tried =
            counts || operation == abi::OP_FLUSH_DISKCACHE || cx.destroy && cx.plan.first.is_none();
        let answer = loop {
            let request = match operation {
                abi::OP_DISCARD => requests::discard(raw, 0, count),
                INDIRECT => requests::indirect(raw, abi::OP_READ, count, 0, &parts, true),
                _ => requests::direct(raw, operation, count, 0, &parts[..count.into()]),
            };
            if !tried || counts && count == 0 {
                break "not tried";
            }
            match requests::status_of(raw, &request, TIMEOUT).await {
                status if !counts || status == Some(abi::RSP_OKAY) => break named(status),
                // Half as many, then.
                Some(_) => count /= 2,
                None => count = 0,
            }
        };
        promised(cx, info, name, answer, tried);
        if counts {
            most = most.max(count);
            add(&mut found, format_args!(",\"{name}\":{count}"));
        } else {
            add(&mut found, format_args!(",\"{name}\":\"{answer}\""));
        }
    }
    add(&mut found, format_args!(",\"bytes\":{}", usize::from(most) * PAGE_SIZE));
    found
}

/// Checks that an operation which the backend offers is one that it knows.
fn promised(cx: &Context<'_>, info: &Info, name: &str, answer: &str, tried: bool) {
    let offered = match name {
        "flush" => info.flush,
        "barrier" => info.barrier,
        "discard" => info.discard.is_some(),
        _ => false,
    };
    let known = !offered || !tried || answer != "unsupported";
    cx.check(known, format_args!("{name} is offered, and the backend does not know it"));
}

fn add(to: &mut String, text: Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = to.write_fmt(text);
}

/// Names a status.
fn named(status: Option<i16>) -> &'static str {
    match status {
        Some(abi::RSP_OKAY) => "okay",
        Some(abi::RSP_ERROR) => "error",
        Some(abi::RSP_EOPNOTSUPP) => "unsupported",
        Some(_) => "unknown",
        None => "none",
    }
}
