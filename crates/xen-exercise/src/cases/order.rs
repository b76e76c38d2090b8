//! Order: what was flushed stays, and nothing passes a barrier.

use super::{Context, Outcome, failed_as, stream};
use crate::area::{Ledger, Span};
use crate::environment::{Direction, Error, ErrorKind, Io};
use crate::log::Ended;
use crate::stamp::{Flaw, SECTOR};
use crate::tasks::{Boxed, try_join_all};
use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;
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
        "{sectors} flushed sectors are there after the connection was closed and made again"
    ))
}

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
    let places: Vec<Span> = area.shuffled(64, &mut cx.random).into_iter().take(64).collect();
    for place in &places {
        let mut buffers: [Vec<u8>; 3] = Default::default();
        for (generation, buffer) in (1..).zip(&mut buffers) {
            buffer.resize(place.count as usize * SECTOR, 0);
            cx.fill(*place, generation, buffer);
        }
        let [before, within, after] = &buffers;
        let works: [Boxed<'_, Result<(), Error>>; 3] = [
            disk.io(Io::Write(place.first, before)),
            disk.io(Io::Barrier(place.first, within)),
            disk.io(Io::Write(place.first, after)),
        ];
        try_join_all(works.into()).await?;
    }
    let (crossed, passed) = (Cell::new(0), Cell::new(0));
    let ledger = Ledger::new(&area);
    places.iter().for_each(|place| ledger.set(*place, 3));
    stream(&*disk, &places, Direction::Read, &|span, bytes| {
        for (number, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            match cx.stamps.check(number, cx.generation + 3, sector) {
                Err(Flaw::Generation(other)) if other == cx.generation + 1 => {
                    crossed.set(crossed.get() + 1)
                }
                Err(Flaw::Generation(other)) if other == cx.generation + 2 => {
                    passed.set(passed.get() + 1)
                }
                checked => cx.judge(number, cx.generation + 3, checked),
            }
        }
    })
    .await?;
    let (crossed, passed) = (crossed.get(), passed.get());
    cx.check(
        crossed == 0,
        format_args!("writes before a barrier were done after it: {crossed} sectors"),
    );
    cx.check(
        passed == 0,
        format_args!("writes after a barrier were done before it: {passed} sectors"),
    );
    Ok(format!("at {} places, nothing passed the barrier", places.len()))
}
