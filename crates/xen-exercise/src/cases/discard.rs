//! Discard: the sectors named may change once, their neighbours must not, and nothing beyond the
//! end is taken.

use super::{Context, Outcome, failed_as};
use crate::area::{Area, Ledger, Span};
use crate::environment::{Device, Error, ErrorKind, Io};
use crate::log::Ended;
use crate::stamp::SECTOR;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Stamps, discards and looks, at several places and with every alignment to the granularity.
pub async fn discard(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let info = disk.info();
    let Some(offered) = info.discard else {
        let refused = disk.io(Io::Discard { sector: 0, count: 8, secure: false }).await;
        let unsupported = failed_as(&refused, ErrorKind::Unsupported);
        cx.check(
            unsupported,
            format_args!("a discard on a disk that offers none ended with {}", Ended(&refused)),
        );
        return Ok("the backend offers no discard".into());
    };
    let area = cx.area(&*disk)?;
    let (pieces, ledger) = (area.pieces(128), Ledger::new(&area));
    cx.write(&*disk, &pieces, 1, &ledger).await?;
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let grain = (u64::from(offered.granularity) / SECTOR as u64).clamp(unit, 2048);
    let runs = runs(&area, grain, unit);
    for (number, run) in runs.iter().enumerate() {
        let secure = offered.secure && number % 2 == 1;
        let done = disk.io(Io::Discard { sector: run.first, count: run.count, secure }).await;
        cx.works(done, format_args!("discarding {} sectors from {}", run.count, run.first));
        ledger.set(*run, 0);
        if secure {
            gone(cx, &*disk, *run).await?;
        }
    }
    // Twice: what was discarded may be anything, but not now this and now that.
    let mut found: [Vec<u8>; 2] = Default::default();
    for found in &mut found {
        cx.read(&*disk, &pieces, &ledger).await?;
        for run in &runs {
            let mut bytes = vec![0; run.count as usize * SECTOR];
            disk.io(Io::Read(run.first, &mut bytes)).await?;
            found.append(&mut bytes);
        }
    }
    cx.check(
        found[0] == found[1],
        format_args!("discarded sectors are read differently each time"),
    );
    for (sector, count) in
        [(info.sectors, unit), (info.sectors - unit, 2 * unit), (u64::MAX - unit + 1, unit)]
    {
        let refused = disk.io(Io::Discard { sector, count, secure: false }).await;
        cx.check(
            refused.is_err(),
            format_args!("{count} sectors from {sector} on, beyond the end, were discarded"),
        );
    }
    // What was discarded can be written again.
    cx.write(&*disk, &runs, 2, &ledger).await?;
    cx.read(&*disk, &pieces, &ledger).await?;
    let secure = if offered.secure { ", half of them securely" } else { "" };
    Ok(format!("{} runs of {grain} sectors and more discarded{secure}", runs.len()))
}

/// Checks that what was discarded securely cannot be read any more.
async fn gone(cx: &Context<'_>, disk: &dyn Device, run: Span) -> Result<(), Error> {
    let mut bytes = vec![0; run.count as usize * SECTOR];
    disk.io(Io::Read(run.first, &mut bytes)).await?;
    for (number, sector) in (run.first..).zip(bytes.as_chunks::<SECTOR>().0) {
        let there = cx.stamps.check(number, cx.generation + 1, sector).is_ok();
        cx.check(!there, format_args!("sector {number} is there after a secure discard"));
    }
    Ok(())
}

/// Runs to discard, with sectors between them: aligned to the granularity, and not.
fn runs(area: &Area, grain: u64, unit: u64) -> Vec<Span> {
    let shapes = [(0, grain), (0, 2 * grain), (unit, grain), (0, grain + unit), (unit, unit)];
    let places = area.pieces(4 * grain).into_iter().filter(|piece| piece.count == 4 * grain);
    let run = |(place, (skip, count)): (Span, (u64, u64))| Span {
        first: place.first + grain + skip,
        count: count.min(2 * grain),
    };
    places.zip(shapes.into_iter().cycle()).take(20).map(run).collect()
}
