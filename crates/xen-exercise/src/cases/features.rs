//! Features: every combination of what can be negotiated, each with a connection of its own and
//! some data.

use super::{Context, Outcome, stream};
use crate::area::{Ledger, Span};
use crate::crc::Crc32c;
use crate::environment::{Device, Direction, Error, Io};
use crate::stamp::SECTOR;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::cell::Cell;
use xen_blk::front::{Config, Info};
use xen_blk::protocol::wire::Abi;

const PAGES: [u32; 5] = [1, 2, 4, 8, 16];
const INDIRECT: [u32; 4] = [0, 32, 256, 4096];
const PERSISTENT: [bool; 2] = [false, true];
const ABI: [Abi; 2] = [Abi::X86_64, Abi::X86_32];
const QUEUES: [u32; 3] = [1, 2, 4];
const COMBINATIONS: usize =
    PAGES.len() * INDIRECT.len() * PERSISTENT.len() * ABI.len() * QUEUES.len();
/// `features` tries every so-manieth: prime to the number of values of each feature, so that each
/// value comes, with all or most of the others'.
const STEP: usize = 11;
/// Bytes of the disk that are worked on with each.
const BYTES: u64 = 512 << 10;

/// A part of all combinations.
pub async fn features(cx: &mut Context<'_>) -> Outcome {
    combinations(cx, STEP).await
}

/// All combinations.
pub async fn all(cx: &mut Context<'_>) -> Outcome {
    combinations(cx, 1).await
}

fn config(number: usize) -> Config {
    let mut rest = number;
    let mut digit = |base: usize| {
        let digit = rest % base;
        rest /= base;
        digit
    };
    Config::default().with(|config| {
        config.ring_pages = PAGES[digit(PAGES.len())];
        config.indirect_segments = INDIRECT[digit(INDIRECT.len())];
        config.persistent = PERSISTENT[digit(PERSISTENT.len())];
        config.abi = ABI[digit(ABI.len())];
        config.queues = QUEUES[digit(QUEUES.len())];
    })
}

async fn combinations(cx: &mut Context<'_>, step: usize) -> Outcome {
    cx.close().await?;
    cx.note(format_args!(
        "pages segments persistent layout     queues  result (asked for -> in use)"
    ));
    let sums = Cell::new(None);
    let mut tried = 0;
    for (generation, number) in (1..).zip((0..COMBINATIONS).step_by(step)) {
        let config = config(number);
        let failed = cx.log.borrow().failed();
        let found = combination(cx, &config, generation, &sums).await;
        let clean = cx.log.borrow().failed() == failed;
        let wanted = Row(&config, None);
        tried += 1;
        let info = cx.works(found, format_args!("{wanted}"));
        let not = if clean && info.is_some() { "" } else { "not " };
        cx.env.print(format_args!("    {not}ok {tried} - {}\n", Row(&config, info.as_deref())));
    }
    cx.env.print(format_args!("    1..{tried}\n"));
    Ok(format!("{tried} combinations of {COMBINATIONS}"))
}

/// Connects, moves some data, closes. Where nothing may be written, what is read must be the same
/// with all.
async fn combination(
    cx: &Context<'_>,
    config: &Config,
    generation: u32,
    sums: &Cell<Option<u32>>,
) -> Result<Box<Info>, Error> {
    let disk = cx.env.attach(cx.vdev, config).await?;
    let info = disk.info();
    let area = cx.area_of(&info, BYTES.min(cx.plan.size))?;
    let ledger = Ledger::new(&area);
    let large = area.pieces(512);
    // Not to be in the way of a report: an error is an error of this combination only.
    let moved = async {
        if cx.destroy {
            cx.write(&*disk, &large, generation, &ledger).await?;
            others(cx, &*disk, &large, &ledger).await?;
            return cx.read(&*disk, &area.pieces(24), &ledger).await;
        }
        let (crc, sum) = (Crc32c::new(), Cell::new(0));
        let add = |span: Span, bytes: &mut [u8]| {
            let of = bytes
                .as_chunks::<8>()
                .0
                .iter()
                .fold(span.first as u32, |sum, word| crc.add(sum, u64::from_le_bytes(*word)));
            sum.set(sum.get() ^ of);
        };
        stream(&*disk, &large, Direction::Read, &add).await?;
        let first = sums.get().unwrap_or(sum.get());
        sums.set(Some(first));
        cx.check(
            first == sum.get(),
            format_args!("{}: the disk reads otherwise than before", Row(config, None)),
        );
        Ok(())
    };
    let moved = moved.await;
    agreed(cx, config, &info, &cx.env.keys(cx.vdev).await?);
    cx.check_events(&*disk);
    disk.close().await?;
    moved.map(|()| info)
}

/// The requests without data, in the layout of this combination: they may change nothing but what a
/// discard names.
async fn others(
    cx: &Context<'_>,
    disk: &dyn Device,
    pieces: &[Span],
    ledger: &Ledger<'_>,
) -> Result<(), Error> {
    let (info, Some(piece)) = (disk.info(), pieces.last()) else { return Ok(()) };
    if info.flush {
        disk.io(Io::Flush).await?;
    }
    if let Some(discard) = info.discard {
        let count = u64::from(discard.granularity.max(info.sector_size)) / SECTOR as u64;
        let run = Span { first: piece.first, count: count.min(piece.count) };
        let done =
            disk.io(Io::Discard { sector: run.first, count: run.count, secure: false }).await;
        cx.works(done, format_args!("discarding {} sectors from {}", run.count, run.first));
        ledger.set(run, 0);
        let beyond = Io::Discard { sector: info.sectors, count: run.count, secure: false };
        cx.check(disk.io(beyond).await.is_err(), format_args!("a discard beyond the end was done"));
    }
    Ok(())
}

/// Checks that what is in use is what both ends have: no more than was asked for and is offered.
fn agreed(cx: &Context<'_>, config: &Config, info: &Info, keys: &[(String, String)]) {
    let offered = |name: &str| {
        let found = keys.iter().find(|(key, _)| key == name);
        found.and_then(|(_, value)| value.parse::<u32>().ok())
    };
    let pages = offered("max-ring-page-order").map(|order| 1 << order.min(4));
    let pages = pages.or(offered("max-ring-pages")).unwrap_or(1);
    let queues = offered("multi-queue-max-queues").unwrap_or(1).max(1);
    let persistent = offered("feature-persistent") == Some(1);
    for (what, used, most) in [
        ("pages", info.ring_pages, pages.min(config.ring_pages)),
        ("queues", info.queues, queues.min(config.queues)),
        ("persistent grants", info.persistent.into(), (persistent && config.persistent).into()),
    ] {
        cx.check(used == most, format_args!("{used} {what} are in use, where {most} can be"));
    }
}

/// A line of the table.
struct Row<'a>(&'a Config, Option<&'a Info>);

impl core::fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Row(config, info) = self;
        let (pages, segments) = (config.ring_pages, config.indirect_segments);
        write!(
            f,
            "{pages:5} {segments:8} {:10} {:10} {:6}",
            config.persistent,
            config.abi.name(),
            config.queues
        )?;
        match info {
            None => Ok(()),
            Some(info) => write!(
                f,
                "  -> {:5} {:8} {:10} {:6}",
                info.ring_pages, info.indirect_segments, info.persistent, info.queues
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn part_of_combinations_has_all_values_and_most_pairs() {
        let part: Vec<Config> = (0..COMBINATIONS).step_by(STEP).map(config).collect();
        assert_eq!((COMBINATIONS, part.len()), (240, 22));
        let has = |test: &dyn Fn(&Config) -> bool| part.iter().any(test);
        for pages in PAGES {
            for persistent in PERSISTENT {
                assert!(
                    has(&|w| w.ring_pages == pages && w.persistent == persistent),
                    "{pages} {persistent}"
                );
            }
            for abi in ABI {
                assert!(has(&|w| w.ring_pages == pages && w.abi == abi), "{pages} {abi:?}");
            }
            for segments in INDIRECT {
                assert!(
                    has(&|w| w.ring_pages == pages && w.indirect_segments == segments),
                    "{pages} {segments}"
                );
            }
        }
        assert!(QUEUES.iter().all(|queues| has(&|w| w.queues == *queues)));
    }
}
