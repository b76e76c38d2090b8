//! Data: what is written comes back, in any order and size, and what is not written stays.

use super::{Context, DEPTH, Outcome, stream};
use crate::area::{Area, InFlight, Ledger, Span};
use crate::crc::Crc32c;
use crate::environment::{Device, Direction, Error, Io};
use crate::random::Random;
use crate::stamp::SECTOR;
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// Sectors in a large piece.
const LARGE: u64 = 2048;
/// Sectors in a middling piece: more than a request has without indirect segments.
const MIDDLE: u64 = 256;
/// Sectors in a piece whose size fits nothing else.
const ODD: u64 = 88;

/// In order, written in large pieces and read in others.
pub async fn seq(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let ledger = Ledger::new(&area);
    let (large, odd) = (area.pieces(LARGE), area.pieces(ODD));
    if !cx.destroy {
        return stable(cx, &*disk, &area, &large, &odd).await;
    }
    cx.write(&*disk, &large, 1, &ledger).await?;
    for pieces in [odd, large] {
        cx.read(&*disk, &pieces, &ledger).await?;
    }
    Ok(format!("{} sectors written and read twice", area.sectors()))
}

/// Reads twice, in different pieces, and compares; nothing is written.
async fn stable(
    cx: &Context<'_>,
    disk: &dyn Device,
    area: &Area,
    once: &[Span],
    again: &[Span],
) -> Outcome {
    let (crc, ledger) = (Crc32c::new(), Ledger::new(area));
    stream(disk, once, Direction::Read, &|span, bytes| {
        for (first, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            ledger.set(Span { first, count: 1 }, crc.of_sector(sector));
        }
    })
    .await?;
    stream(disk, again, Direction::Read, &|span, bytes| {
        for (number, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            let same = ledger.get(number) == crc.of_sector(sector);
            cx.check(same, format_args!("sector {number} was read twice and not the same"));
        }
    })
    .await?;
    Ok(format!("{} sectors read twice, nothing written", area.sectors()))
}

/// At random places: reads and writes of random sizes, many in flight, none of which overlap; then
/// everything is read.
pub async fn rand(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    if !cx.destroy {
        let (once, again) = (area.pieces(MIDDLE), area.shuffled(ODD, &mut cx.random));
        return stable(cx, &*disk, &area, &once, &again).await;
    }
    let operations = (area.pieces(MIDDLE).len() as u32 * 4).max(256);
    let random = RefCell::new(core::mem::replace(&mut cx.random, Random::new(0)));
    let (ledger, flights, next) = (Ledger::new(&area), InFlight::default(), Cell::new(1));
    let worker = || async {
        let mut buffer = vec![0; MIDDLE as usize * SECTOR];
        while next.get() <= operations {
            let number = next.replace(next.get() + 1);
            let (span, writes) = loop {
                let mut random = random.borrow_mut();
                let most = [8, ODD, MIDDLE][random.below(3) as usize];
                let span = area.any(most, &mut random);
                if flights.take(span) {
                    break (span, random.below(2) == 0);
                }
            };
            let bytes = &mut buffer[..span.count as usize * SECTOR];
            match writes {
                true => {
                    cx.fill(span, number, bytes);
                    disk.io(Io::Write(span.first, bytes)).await?;
                    ledger.set(span, number);
                }
                false => {
                    disk.io(Io::Read(span.first, bytes)).await?;
                    cx.check_stamps(span, bytes, &ledger);
                }
            }
            flights.give(span);
        }
        Ok::<_, Error>(())
    };
    // With few sectors there must be room left for everybody.
    let depth = ((area.sectors() / (4 * MIDDLE)) as usize).clamp(1, DEPTH);
    let workers: Vec<_> = (0..depth).map(|_| Box::pin(worker()) as Boxed<'_, _>).collect();
    try_join_all(workers).await?;
    neighbours(cx, &*disk, &area, &ledger, &mut Random::new(cx.plan.seed)).await?;
    cx.read(&*disk, &area.pieces(MIDDLE), &ledger).await?;
    Ok(format!("{operations} requests at random, then {} sectors read", area.sectors()))
}

/// Small requests that follow each other on the disk, with and without gaps, reads among writes,
/// all sent at once: backends put such requests together.
async fn neighbours(
    cx: &Context<'_>,
    disk: &dyn Device,
    area: &Area,
    ledger: &Ledger<'_>,
    random: &mut Random,
) -> Result<(), Error> {
    const RUNS: u32 = 48;
    let size = (disk.info().sector_size as usize).max(4096);
    for generation in 1 << 20..(1 << 20) + RUNS {
        let places = area.pieces((size / SECTOR) as u64);
        let mut at = random.below(places.len().saturating_sub(48) as u64) as usize;
        let mut spans = Vec::new();
        while spans.len() < 24 && at < places.len() {
            // Mostly one behind the other.
            spans.push((places[at], random.below(3) > 0));
            at += [1, 1, 1, 2][random.below(4) as usize];
        }
        let works = spans.iter().map(|&(span, writes)| {
            Box::pin(async move {
                let mut bytes = vec![0; span.count as usize * SECTOR];
                if writes {
                    cx.fill(span, generation, &mut bytes);
                    disk.io(Io::Write(span.first, &bytes)).await?;
                    ledger.set(span, generation);
                } else {
                    disk.io(Io::Read(span.first, &mut bytes)).await?;
                    cx.check_stamps(span, &bytes, ledger);
                }
                Ok(())
            }) as Boxed<'_, _>
        });
        try_join_all(works.collect()).await?;
    }
    Ok(())
}

/// Writes the stamps of `blk.seed` and `blk.generation`, for [`verify`] or for `blk-stamp verify`.
pub async fn write(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let (pieces, generation) = (area.shuffled(MIDDLE, &mut cx.random), cx.plan.generation);
    stream(&*disk, &pieces, Direction::Write, &|span, bytes| {
        cx.stamps.fill(span.first, generation, bytes)
    })
    .await?;
    if disk.info().flush {
        disk.io(Io::Flush).await?;
    }
    Ok(format!(
        "{} sectors written, seed {}, generation {generation}",
        area.sectors(),
        cx.plan.seed
    ))
}

/// Checks that every sector has its stamp: of `blk.seed` and `blk.generation`, as somebody wrote
/// them; or, where the disk may be overwritten, of this test, which first writes everything and
/// then half of it again.
pub async fn verify(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let pieces = area.shuffled(ODD, &mut cx.random);
    if cx.destroy {
        let ledger = Ledger::new(&area);
        for (generation, pieces) in [(1, &pieces[..]), (2, &pieces[..pieces.len() / 2])] {
            cx.write(&*disk, pieces, generation, &ledger).await?;
        }
        let pieces = area.shuffled(MIDDLE, &mut cx.random);
        cx.read(&*disk, &pieces, &ledger).await?;
        return Ok(format!("{} sectors written, half of them again, all read", area.sectors()));
    }
    let generation = cx.plan.generation;
    stream(&*disk, &pieces, Direction::Read, &|span, bytes| {
        for (number, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            cx.judge(number, generation, cx.stamps.check(number, generation, sector));
        }
    })
    .await?;
    Ok(format!(
        "{} sectors have the stamps of seed {}, generation {generation}",
        area.sectors(),
        cx.plan.seed
    ))
}
