//! Lifecycle: connecting and closing, idle and busy, leaves nothing behind.

use super::{Context, Outcome, failed_as};
use crate::environment::{ErrorKind, Io, Usage};
use crate::log::Ended;
use crate::stamp::SECTOR;
use crate::tasks::{Boxed, join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use core::time::Duration;
use xen_blk::front::Config;

/// Reads in flight when a busy connection is closed.
const BUSY: u64 = 16;
/// Time that a connection has to be made, and a request to be completed: timers live as long.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes by which the table of timers may grow when connections follow each other quicker than
/// before.
const TABLES: usize = 2048;

/// Connects, reads, closes, `blk.loops` times; every other time the connection is closed while it
/// reads.
pub async fn lifecycle(cx: &mut Context<'_>) -> Outcome {
    cx.close().await?;
    let (mut before, mut cut) = (None, 0);
    for number in 0..cx.plan.loops {
        // The first half grows what stays, such as the table of grants.
        if number == cx.plan.loops / 2 {
            before = usage(cx).await;
        }
        cut += connection(cx, number % 2 == 1).await?;
    }
    if let (Some(before), Some(after)) = (before, usage(cx).await) {
        for (what, most, after) in [
            ("grants are in use", before.grants as usize, after.grants as usize),
            (
                "grants are still mapped by the peer",
                before.still_mapped as usize,
                after.still_mapped as usize,
            ),
            ("ports are open", before.ports as usize, after.ports as usize),
            ("bytes of the heap are in use", before.heap + TABLES, after.heap),
        ] {
            cx.check(after <= most, format_args!("{after} {what}, and {most} at most should be"));
        }
    }
    Ok(format!("{} connections, {cut} requests cut off", cx.plan.loops))
}

/// Returns the resources in use once the timers of all connections have run out.
async fn usage(cx: &Context<'_>) -> Option<Usage> {
    cx.env.sleep(TIMEOUT + Duration::from_secs(1)).await;
    cx.env.usage()
}

/// One connection; says how many requests did not end well because it was closed.
async fn connection(cx: &Context<'_>, busy: bool) -> Result<usize, crate::environment::Error> {
    let config = Config::default().with(|config| {
        config.request_timeout = TIMEOUT;
        config.connect_timeout = TIMEOUT;
    });
    let disk = cx.env.attach(cx.vdev, &config).await?;
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
    let mut ends = join_all(reads.chain([closing]).collect()).await;
    ends.pop().unwrap_or(Ok(()))?;
    let mut cut = 0;
    for end in ends {
        let gone = failed_as(&end, ErrorKind::Gone);
        cut += usize::from(gone);
        cx.check(
            gone || end.is_ok(),
            format_args!("a read during the close ended with {}", Ended(&end)),
        );
    }
    Ok(cut)
}
