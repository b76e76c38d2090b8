//! Boundaries: the first and the last sectors, and requests as short and as long as they can be.

use super::{Context, Outcome, failed_as};
use crate::area::Span;
use crate::environment::{Device, ErrorKind, Io};
use crate::log::Ended;
use crate::stamp::SECTOR;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Reads, and where it may also writes, at all borders; what lies beyond the end must be refused,
/// and nothing else.
pub async fn boundary(cx: &mut Context<'_>) -> Outcome {
    let disk = cx.device().await?;
    let info = disk.info();
    let unit = u64::from(info.sector_size) / SECTOR as u64;
    let spans = inside(info.sectors, unit, (info.max_transfer / SECTOR) as u64);
    for (number, span) in (1..).zip(&spans) {
        moves(cx, &*disk, *span, number).await;
    }
    for span in outside(info.sectors, unit) {
        let mut bytes = vec![0; span.count as usize * SECTOR];
        let read = disk.io(Io::Read(span.first, &mut bytes)).await;
        let refused = read.is_err() && !failed_as(&read, ErrorKind::Gone);
        cx.check(
            refused,
            format_args!(
                "reading {} sectors at {} ended with {}",
                span.count,
                span.first,
                Ended(&read)
            ),
        );
        if cx.destroy {
            let written = disk.io(Io::Write(span.first, &bytes)).await;
            cx.check(
                written.is_err(),
                format_args!("{} sectors at {} were written", span.count, span.first),
            );
        }
    }
    Ok(format!("{} places within the disk, and beyond its end", spans.len()))
}

/// Writes, where it may, and reads.
async fn moves(cx: &Context<'_>, disk: &dyn Device, span: Span, generation: u32) {
    let mut bytes = vec![0; span.count as usize * SECTOR];
    if cx.destroy {
        cx.fill(span, generation, &mut bytes);
        let written = disk.io(Io::Write(span.first, &bytes)).await;
        cx.works(written, format_args!("writing {} sectors at {}", span.count, span.first));
        bytes.fill(0);
    }
    let read = disk.io(Io::Read(span.first, &mut bytes)).await;
    let read = cx.works(read, format_args!("reading {} sectors at {}", span.count, span.first));
    if read.is_some() && cx.destroy {
        let generation = cx.generation + u64::from(generation);
        for (number, sector) in (span.first..).zip(bytes.as_chunks::<SECTOR>().0) {
            cx.judge(number, generation, cx.stamps.check(number, generation, sector));
        }
    }
}

/// Runs at both ends, one sector of the disk long to a little more than a request holds, and begun
/// at each place that a sector can have in a page.
fn inside(sectors: u64, unit: u64, most: u64) -> Vec<Span> {
    // Around a page, around what a request holds without indirect segments, and around what it
    // holds with them.
    let lengths = [1, 7, 8, 9, 87, 88, 89, most - unit, most, most + unit, 2 * most + unit];
    let lengths = lengths.map(|length: u64| length.next_multiple_of(unit));
    let begins = (0..8).filter(|first: &u64| first.is_multiple_of(unit));
    let mut spans: Vec<Span> =
        begins.flat_map(|first| lengths.map(|count| Span { first, count })).collect();
    spans.extend(
        lengths
            .iter()
            .filter(|count| **count <= sectors)
            .map(|count| Span { first: sectors - count, count: *count }),
    );
    spans.retain(|span| span.count > 0 && span.first + span.count <= sectors);
    spans.dedup();
    spans
}

/// Runs that begin or end beyond the end, or whose end cannot be told in 64 bits.
fn outside(sectors: u64, unit: u64) -> [Span; 6] {
    let last = u64::MAX / unit * unit;
    [
        (sectors, unit),
        (sectors - unit, 2 * unit),
        (sectors + (1 << 32), unit),
        (1 << 63, unit),
        (last, unit),
        (last, 2 * unit),
    ]
    .map(|(first, count)| Span { first, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_lie_inside_or_outside_the_disk() {
        for (sectors, unit) in [(8, 1), (100, 1), (1 << 21, 1), (1 << 21, 8), (8, 8)] {
            for span in inside(sectors, unit, 2048) {
                assert!(span.count > 0 && span.first + span.count <= sectors, "{span:?}");
                assert!(
                    span.first.is_multiple_of(unit) && span.count.is_multiple_of(unit),
                    "{span:?}"
                );
            }
            for span in outside(sectors, unit) {
                assert!(
                    span.first.checked_add(span.count).is_none_or(|end| end > sectors),
                    "{span:?}"
                );
            }
        }
        assert!(inside(100, 1, 2048).contains(&Span { first: 99, count: 1 }));
    }
}
