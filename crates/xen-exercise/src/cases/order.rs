//! Order: what was flushed stays, and nothing passes a barrier.

use super::{Context, Outcome, failed_as};
use crate::area::{Ledger, Span};
use crate::environment::{Error, ErrorKind, Io};
use crate::log::Ended;
use crate::stamp::{Flaw, SECTOR};
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use xen_blk::front::Config;

/// Writes A, flushes, writes B, and ends the connection: A is there when it is made again.
pub async fn flush(cx: &mut Context<'_>) -> Outcome {
    let mut disk = cx.device().await?;
    if !disk.info().flush {
        let refused = disk.io(Io::Flush).await;
        let unsupported = failed_as(&refused, ErrorKind::Unsupported);
        cx.check(
            unsupported,
            format_args!("a flush of a disk that offers none ended with {}", Ended(&refused)),
        );
        return Ok("the backend offers no flush".into());
    }
    let area = cx.area(&*disk)?;
    let (pieces, ledger) = (area.pieces(128), Ledger::new(&area));
    let (kept, more) = pieces.split_at(pieces.len().div_ceil(2));
    for (generation, pieces) in [(1, kept), (2, more)] {
        cx.write(&*disk, pieces, generation, &ledger).await?;
        // The second time, nothing is flushed: those sectors may be old or new, but not something
        // between.
        if generation == 1 {
            try_join_all((0..3).map(|_| disk.io(Io::Flush)).collect()).await?;
        }
    }
    cx.close().await?;
    disk = cx.device().await?;
    cx.read(&*disk, kept, &ledger).await?;
    let sectors: u64 = kept.iter().map(|piece| piece.count).sum();
    Ok(format!(
        "{sectors} flushed sectors are there after the connection was closed and made again; that \
         they survive a power cut cannot be proved on this host (durable can)"
    ))
}

/// Barriers that are tried.
const ROUNDS: u32 = 64;

/// At many places, a write, a barrier and a write of the same sectors are in flight at once: the
/// last one stays, and while the barrier is under way the first is not seen after it.
pub async fn barrier(cx: &mut Context<'_>) -> Outcome {
    // The driver is not to help.
    cx.close().await?;
    let disk = cx.connect(&Config::default().with(|config| config.bare_barriers = true)).await?;
    if !disk.info().barrier {
        return Ok("the backend offers no barrier".into());
    }
    let area = cx.area(&*disk)?;
    let places: Vec<Span> = area.shuffled(64, &mut cx.random);
    let (mut crossed, mut passed) = (0, 0);
    for (round, place) in (0..ROUNDS).zip(places.iter().cycle()) {
        let first = 3 * round;
        let mut buffers: [Vec<u8>; 3] = Default::default();
        for (generation, buffer) in (first + 1..).zip(&mut buffers) {
            buffer.resize(place.count as usize * SECTOR, 0);
            cx.fill(*place, generation, buffer);
        }
        let [before, within, after] = &buffers;
        // The last write comes at once, or while the barrier is under way, or not at all.
        let late = Duration::from_micros(if round % 3 == 1 { cx.random.below(200) } else { 0 });
        let mut works: Vec<Boxed<'_, Result<(), Error>>> = vec![
            disk.io(Io::Write(place.first, before)),
            disk.io(Io::Barrier(place.first, within)),
        ];
        if round % 3 != 2 {
            works.push(Box::pin(async {
                if !late.is_zero() {
                    cx.env.sleep(late).await;
                }
                disk.io(Io::Write(place.first, after)).await
            }));
        }
        let wanted = cx.generation + u64::from(first) + works.len() as u64;
        try_join_all(works).await?;
        let mut bytes = vec![0; before.len()];
        disk.io(Io::Read(place.first, &mut bytes)).await?;
        for (number, sector) in (place.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            match cx.stamps.check(number, wanted, sector) {
                Err(Flaw::Generation(found)) if found == cx.generation + u64::from(first) + 1 => {
                    crossed += 1
                }
                Err(Flaw::Generation(found)) if found + 1 == wanted => passed += 1,
                checked => cx.judge(number, wanted, checked),
            }
        }
    }
    cx.check(
        crossed == 0,
        format_args!("writes before a barrier were done after it: {crossed} sectors"),
    );
    cx.check(
        passed == 0,
        format_args!("writes after a barrier were done before it: {passed} sectors"),
    );
    Ok(format!("at {ROUNDS} places, nothing passed the barrier"))
}
