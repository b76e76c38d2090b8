//! Durability: what was flushed is there after the power was cut, and so is all that lies before a
//! barrier which something behind it survived.
//!
//! One test writes until the disk fails, or `blk.loops` rounds are done; another one looks at the
//! disk after whatever became of it. A round writes one group of pieces, and the groups take turns.
//! Of each group the first half is sent together with the flush of the round before, or right
//! behind its barrier:
//!
//! ```text
//! flush    round 1, second half | flush, round 2, first half | round 2, second half | ...
//! barrier  round 1, second half, of which the last piece is a barrier; round 2, first half | ...
//! ```
//!
//! At a bar, all answers are waited for. The generation of what a round writes is its number,
//! behind `blk.generation`.

use super::{Context, Outcome, stream};
use crate::area::{Area, Ledger, Span};
use crate::environment::{Device, Direction, Error, Io};
use crate::random::Random;
use crate::stamp::{Flaw, SECTOR};
use crate::tasks::join_all;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use xen_blk::front::Config;

/// Sectors in a piece.
const PIECE: u64 = 32;
/// Pieces that a round writes.
const PIECES: usize = 8;
/// Those of them that are sent with what ends the round before.
const EARLY: usize = PIECES / 2;
/// The fewest groups with which no two rounds in flight meet.
const GROUPS: usize = 3;

/// End of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A flush.
    Flush,
    /// Its last write, as a barrier.
    Barrier,
}

impl Mark {
    /// If the piece `place` of a round is there: how far all is there. The step `2 * round` is all
    /// of that round but its last piece, and `2 * round + 1` that, too.
    fn steps_before(self, round: u32, place: usize) -> u32 {
        let behind = match self {
            Mark::Barrier if place == PIECES - 1 => 0,
            // What goes with a flush does not wait for it.
            Mark::Flush if place < EARLY => 3,
            _ => 1,
        };
        (2 * round).saturating_sub(behind)
    }
}

/// The pieces of the disk in the order in which they are written: made anew from seed and size by
/// the test that writes and the test that checks.
fn pieces(cx: &Context<'_>, area: &Area) -> Result<Vec<Span>, Error> {
    let mut pieces = area.shuffled(PIECE, &mut Random::new(cx.plan.seed));
    pieces.truncate(pieces.len() / PIECES * PIECES);
    match pieces.len() / PIECES >= GROUPS {
        true => Ok(pieces),
        false => Err(Error::other("the disk, or blk.size, is too small for this test")),
    }
}

/// Writes round after round. What is durable for sure is told in `data/report/<disk>/durable`, as
/// the value that `blk.durable` is to have for [`check`]: the number of the last such round.
pub async fn write(cx: &mut Context<'_>, mark: Mark) -> Outcome {
    // The driver is not to help.
    cx.close().await?;
    let config = Config::default().with(|config| {
        config.bare_barriers = true;
        // A flush on one ring is for what was written on another, too.
        config.queues = if mark == Mark::Flush { 4 } else { 1 };
    });
    let disk = cx.connect(&config).await?;
    let info = disk.info();
    if !(if mark == Mark::Flush { info.flush } else { info.barrier }) {
        return Ok("the backend does not offer that".into());
    }
    let pieces = pieces(cx, &cx.area(&*disk)?)?;
    let mut durable = 0;
    // The test is there for disks that fail.
    let end = match rounds(cx, &*disk, &pieces, mark, &mut durable).await {
        Err(why) if durable == 0 => return Err(why),
        Err(why) => why.to_string(),
        Ok(()) => String::new(),
    };
    Ok(format!("blk.durable={durable}; {end}"))
}

async fn rounds(
    cx: &Context<'_>,
    disk: &dyn Device,
    pieces: &[Span],
    mark: Mark,
    durable: &mut u64,
) -> Result<(), Error> {
    let key = format!("{}/durable", cx.name);
    let groups = pieces.len() / PIECES;
    // Round 0 is not one: its generation is never looked for.
    for round in 0..=cx.plan.loops as usize {
        let generation = cx.plan.generation + round as u64;
        let now = |span: Span, bytes: &mut [u8]| cx.stamps.fill(span.first, generation, bytes);
        let next = |span: Span, bytes: &mut [u8]| cx.stamps.fill(span.first, generation + 1, bytes);
        let [late, early] =
            [round, round + 1].map(|round| &pieces[round % groups * PIECES..][..PIECES]);
        let (late, early) = (&late[EARLY..], &early[..EARLY]);
        let (last, mut barrier) = (late[late.len() - 1], Vec::new());
        // These begin in their order.
        let mut works = match mark {
            Mark::Flush => {
                stream(disk, late, Direction::Write, &now).await?;
                vec![disk.io(Io::Flush)]
            }
            Mark::Barrier => {
                barrier.resize(last.count as usize * SECTOR, 0);
                now(last, &mut barrier);
                let before = stream(disk, &late[..late.len() - 1], Direction::Write, &now);
                vec![before, disk.io(Io::Barrier(last.first, &barrier))]
            }
        };
        works.push(stream(disk, early, Direction::Write, &next));
        let mut ends = join_all(works).await;
        let behind = ends.pop().unwrap_or(Ok(()));
        ends.into_iter().collect::<Result<(), _>>()?;
        *durable = round as u64;
        cx.env.publish(&key, &round.to_string()).await;
        behind?;
    }
    Ok(())
}

/// Looks at what `write` left: what `blk.durable` says is there, or something newer, in whole
/// sectors; and nothing is there without what had to be durable before it. All other options are to
/// be the same.
pub async fn check(cx: &mut Context<'_>, mark: Mark) -> Outcome {
    let disk = cx.device().await?;
    let area = cx.area(&*disk)?;
    let (pieces, ledger) = (pieces(cx, &area)?, Ledger::new(&area));
    let steps = Cell::new(2 * cx.plan.durable + 1);
    stream(&*disk, &pieces, Direction::Read, &|span, bytes| {
        let at = pieces.iter().position(|piece| *piece == span).unwrap_or(0);
        for (first, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            let round = round_of(cx, first, sector);
            ledger.set(Span { first, count: 1 }, round);
            steps.set(steps.get().max(mark.steps_before(round, at % PIECES)));
        }
    })
    .await?;
    let unit = u64::from(disk.info().sector_size) / SECTOR as u64;
    let groups = pieces.len() / PIECES;
    for (at, span) in pieces.iter().enumerate() {
        // The last round whose such piece is there for sure, and of those the last that wrote this
        // one.
        let last = steps.get().saturating_sub((at % PIECES == PIECES - 1).into()) / 2;
        let wanted = last.saturating_sub(((last as usize + groups - at / PIECES) % groups) as u32);
        for number in span.first..span.first + span.count {
            let round = ledger.get(number);
            cx.check(
                round >= wanted,
                format_args!("sector {number}, of round {round}, was durable in round {wanted}"),
            );
            let whole = round == ledger.get(number - number % unit);
            cx.check(
                whole,
                format_args!("sector {number} is of another round than the rest of its {unit}"),
            );
        }
    }
    Ok(format!("all of {} rounds is there, in whole sectors", steps.get() / 2))
}

/// Which round wrote what was read from the sector `number`; 0 if none did.
fn round_of(cx: &Context<'_>, number: u64, sector: &[u8; SECTOR]) -> u32 {
    match cx.stamps.check(number, cx.plan.generation, sector) {
        Err(Flaw::Generation(generation)) => match generation.wrapping_sub(cx.plan.generation) {
            round if round <= u64::from(cx.plan.loops) + 1 => round as u32,
            _ => 0,
        },
        Err(flaw @ (Flaw::Torn { .. } | Flaw::Misplaced(_))) => {
            cx.check(false, format_args!("sector {number} {flaw}"));
            0
        }
        _ => 0,
    }
}
