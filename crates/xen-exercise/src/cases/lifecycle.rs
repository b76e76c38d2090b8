//! Lifecycle: connecting and closing, idle and busy, leaves nothing behind.

use super::{Cx, Outcome};
use crate::crowd::{self, Boxed};
use crate::site::{Io, Kind};
use crate::stamp::SECTOR;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use xen_blk::front::Wishes;

/// Reads in flight when a busy connection is closed.
const BUSY: u64 = 16;

/// Connects, reads, closes, `blk.loops` times; every other time the connection is closed while it reads.
pub async fn lifecycle(cx: &mut Cx<'_>) -> Outcome {
    cx.close().await?;
    let (mut before, mut cut) = (None, 0);
    // A list that grows once more is no leak; a leak grows the heap with each connection.
    let (mut most, mut rises) = (0, 0);
    for number in 0..cx.plan.loops {
        cut += connection(cx, number % 2 == 1).await?;
        let Some(usage) = cx.site.usage() else { continue };
        // The first connections grow what stays, such as the table of grants.
        if number >= cx.plan.loops / 2 {
            before.get_or_insert(usage);
            rises += u32::from(usage.heap > most);
        }
        most = most.max(usage.heap);
    }
    if let (Some(before), Some(after)) = (before, cx.site.usage()) {
        for (what, before, after) in [
            ("grants are in use", before.grants, after.grants),
            ("grants are still mapped by the peer", before.still_mapped, after.still_mapped),
            ("ports are open", before.ports, after.ports),
        ] {
            cx.check(after <= before, format_args!("{after} {what}, {before} were before"));
        }
        let late = cx.plan.loops.div_ceil(2);
        cx.check(rises <= late / 2, format_args!("the heap grew with {rises} of the last {late} connections"));
    }
    Ok(format!("{} connections, {cut} requests cut off", cx.plan.loops))
}

/// One connection; says how many requests did not end well because it was closed.
async fn connection(cx: &Cx<'_>, busy: bool) -> Result<usize, crate::site::Failure> {
    let disk = cx.site.attach(cx.vdev, &Wishes::default()).await?;
    let info = disk.info();
    let size = u64::from(info.sector_size.max(4096)).min(info.sectors * SECTOR as u64) as usize;
    let mut buffer = vec![0; size];
    disk.io(Io::Read(0, &mut buffer)).await?;
    if !busy {
        disk.close().await?;
        return Ok(0);
    }
    let places = info.sectors - (size / SECTOR) as u64;
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let reads = (0..BUSY).map(|number| {
        let disk = disk.clone();
        Box::pin(async move {
            let mut buffer = vec![0; size];
            disk.io(Io::Read(places / BUSY * number / unit * unit, &mut buffer)).await
        }) as Boxed<'_, _>
    });
    let closing = disk.close();
    let mut ends = crowd::all(reads.chain([closing]).collect()).await;
    ends.pop().unwrap_or(Ok(()))?;
    let mut cut = 0;
    for end in ends {
        let gone = matches!(&end, Err(why) if why.kind() == Kind::Gone);
        cut += usize::from(gone);
        cx.check(gone || end.is_ok(), format_args!("a read during the close ended with {end:?}"));
    }
    Ok(cut)
}
