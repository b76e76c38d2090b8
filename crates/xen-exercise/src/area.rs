//! The part of a disk that is worked on, in pieces, and a ledger of its contents.

use crate::random::Random;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

/// A run of sectors of 512 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// Number of sectors.
    pub count: u64,
}

impl Span {
    fn overlaps(self, other: Span) -> bool {
        self.first < other.first + other.count && other.first < self.first + self.count
    }
}

/// The worked-on part: the whole disk; or its first and its last sectors, where mistakes with units
/// and sizes show, and between them a few at each power of two and in the middle, which would lie
/// at the start if a number were cut off.
pub struct Area {
    spans: Vec<Span>,
    /// Sectors of 512 bytes that one sector of the disk has.
    unit: u64,
}

impl Area {
    /// Chooses at most `bytes` bytes of a disk of `sectors` sectors of 512 bytes, `unit` of which
    /// are one of the disk's own.
    pub fn new(sectors: u64, unit: u64, bytes: u64) -> Area {
        let half = (bytes / 2 / 512).max(1).next_multiple_of(unit);
        if half.saturating_mul(2) >= sectors {
            return Area { spans: vec![Span { first: 0, count: sectors }], unit };
        }
        let mut spans = vec![Span { first: 0, count: half }];
        let mut marks: Vec<u64> = (0..64).map(|bit| 1 << bit).collect();
        let middle = sectors / 2 / unit * unit;
        marks.insert(marks.partition_point(|mark| *mark < middle), middle);
        let count = unit.max(8);
        for first in marks {
            let mark = Span { first, count };
            let free = first.is_multiple_of(unit)
                && first >= half
                && first < sectors - half
                && sectors - half - first >= count;
            if free && !spans.iter().any(|span| span.overlaps(mark)) {
                spans.push(mark);
            }
        }
        spans.push(Span { first: sectors - half, count: half });
        Area { spans, unit }
    }

    /// Chooses the `bytes` bytes from sector `first` on, as far as the disk goes; `None` if no
    /// sector of the disk begins there.
    pub fn from(first: u64, sectors: u64, unit: u64, bytes: u64) -> Option<Area> {
        let count = (bytes / 512).max(1).next_multiple_of(unit).min(sectors.checked_sub(first)?);
        (count > 0 && first.is_multiple_of(unit))
            .then(|| Area { spans: vec![Span { first, count }], unit })
    }

    /// Returns the number of sectors.
    pub fn sectors(&self) -> u64 {
        self.spans.iter().map(|span| span.count).sum()
    }

    /// Cuts the area into pieces of at most `most` sectors, in their order on the disk.
    pub fn pieces(&self, most: u64) -> Vec<Span> {
        let most = (most / self.unit).max(1) * self.unit;
        let cut = |span: &Span| {
            let end = span.first + span.count;
            (span.first..end)
                .step_by(most as usize)
                .map(move |first| Span { first, count: most.min(end - first) })
        };
        self.spans.iter().flat_map(cut).collect()
    }

    /// Cuts the area into pieces in a random order.
    pub fn shuffled(&self, most: u64, random: &mut Random) -> Vec<Span> {
        let pieces = self.pieces(most);
        let mut order: Vec<u32> = (0..pieces.len() as u32).collect();
        random.shuffle(&mut order);
        order.into_iter().map(|index| pieces[index as usize]).collect()
    }

    /// Returns a random run of at most `most` sectors that are whole sectors of the disk.
    pub fn any(&self, most: u64, random: &mut Random) -> Span {
        let mut place = random.below(self.sectors() / self.unit) * self.unit;
        let Some(span) = self.spans.iter().find(|span| match place < span.count {
            true => true,
            false => {
                place -= span.count;
                false
            }
        }) else {
            return Span { first: 0, count: 0 };
        };
        let count = (1 + random.below((most / self.unit).max(1))) * self.unit;
        Span { first: span.first + place, count: count.min(span.count - place) }
    }

    /// Tells if all of a run is in the area.
    #[cfg(feature = "mix")]
    pub fn contains(&self, run: Span) -> bool {
        let holds = |span: &Span| {
            span.first <= run.first && run.first + run.count <= span.first + span.count
        };
        self.spans.iter().any(holds)
    }

    /// Returns the number of a sector within the area.
    fn index(&self, sector: u64) -> usize {
        let mut before = 0;
        for span in &self.spans {
            if (span.first..span.first + span.count).contains(&sector) {
                return (before + sector - span.first) as usize;
            }
            before += span.count;
        }
        panic!("sector {sector} is outside the area")
    }
}

/// A number for each sector of an area: its generation, or its checksum.
pub struct Ledger<'a> {
    area: &'a Area,
    values: RefCell<Vec<u32>>,
}

impl<'a> Ledger<'a> {
    /// Creates a ledger of zeros.
    pub fn new(area: &'a Area) -> Self {
        Ledger { area, values: RefCell::new(vec![0; area.sectors() as usize]) }
    }

    /// Returns the sector's number.
    pub fn get(&self, sector: u64) -> u32 {
        self.values.borrow()[self.area.index(sector)]
    }

    /// Sets the number of all sectors of `span`.
    pub fn set(&self, span: Span, value: u32) {
        let first = self.area.index(span.first);
        self.values.borrow_mut()[first..first + span.count as usize].fill(value);
    }
}

/// The runs that are being worked on: requests in flight must not overlap, or their outcome is
/// undefined.
#[derive(Default)]
pub struct InFlight(RefCell<Vec<Span>>);

impl InFlight {
    /// Takes `span`, unless it overlaps another one that is taken.
    pub fn take(&self, span: Span) -> bool {
        let mut taken = self.0.borrow_mut();
        let free = !taken.iter().any(|other| other.overlaps(span));
        if free {
            taken.push(span);
        }
        free
    }

    /// Gives `span` back.
    pub fn give(&self, span: Span) {
        self.0.borrow_mut().retain(|other| *other != span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn area_of_small_disk_is_whole_of_large_disk_both_ends() {
        assert_eq!(Area::new(100, 1, 1 << 20).spans, [Span { first: 0, count: 100 }]);
        let area = Area::new(1 << 40, 8, 1 << 20);
        let span = |first, count| Span { first, count };
        assert_eq!(area.spans[..3], [span(0, 1024), span(1024, 8), span(2048, 8)]);
        assert_eq!(
            area.spans[area.spans.len() - 2..],
            [span(1 << 39, 8), span((1 << 40) - 1024, 1024)]
        );
        assert_eq!(area.sectors(), 2048 + 30 * 8);
        assert!(Area::new(6000, 1, 1 << 20).spans.contains(&span(3000, 8)), "the middle");
    }

    #[test]
    fn named_part_ends_with_the_disk() {
        let part = |first, bytes| Area::from(first, 100, 4, bytes).map(|area| area.spans[0]);
        assert_eq!(part(8, 4096), Some(Span { first: 8, count: 8 }));
        assert_eq!(part(96, 1), Some(Span { first: 96, count: 4 }));
        assert_eq!(part(8, u64::MAX), Some(Span { first: 8, count: 92 }));
        assert_eq!([part(100, 512), part(101, 512), part(u64::MAX, 512), part(2, 512)], [None; 4]);
    }

    #[test]
    fn ledger_tells_sectors_of_both_ends_apart() {
        let area = Area::new(10_000, 1, 20 * 512);
        let ledger = Ledger::new(&area);
        ledger.set(Span { first: 9995, count: 5 }, 7);
        ledger.set(Span { first: 0, count: 2 }, 3);
        assert_eq!([0, 1, 2, 9, 9990, 9995, 9999].map(|at| ledger.get(at)), [3, 3, 0, 0, 0, 7, 7]);
    }

    #[test]
    fn overlapping_runs_are_not_in_flight_together() {
        let flights = InFlight::default();
        let span = |first, count| Span { first, count };
        assert!(flights.take(span(8, 8)));
        assert!(
            !flights.take(span(15, 1)) && !flights.take(span(0, 9)) && !flights.take(span(0, 100))
        );
        assert!(flights.take(span(0, 8)) && flights.take(span(16, 8)));
        flights.give(span(8, 8));
        assert!(flights.take(span(9, 2)));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_area_once(units in 1u64..5000, unit in prop_oneof![Just(1u64), Just(8)], bytes in 1u64..1 << 22, most in 1u64..600, seed: u64) {
            let area = Area::new(units * unit, unit, bytes);
            let mut pieces = area.shuffled(most, &mut Random::new(seed));
            pieces.sort_by_key(|piece| piece.first);
            let mut sum = 0;
            for pair in pieces.windows(2) {
                prop_assert!(pair[0].first + pair[0].count <= pair[1].first);
            }
            for piece in &pieces {
                prop_assert!(piece.count > 0 && piece.count <= most.max(unit) && piece.first.is_multiple_of(unit));
                area.index(piece.first);
                area.index(piece.first + piece.count - 1);
                sum += piece.count;
            }
            prop_assert_eq!(sum, area.sectors());
            prop_assert!(area.sectors() <= units * unit);
        }

        #[test]
        fn random_run_lies_in_the_area(units in 1u64..5000, unit in prop_oneof![Just(1u64), Just(8)], bytes in 1u64..1 << 22, most in 1u64..600, seed: u64) {
            let area = Area::new(units * unit, unit, bytes);
            let mut random = Random::new(seed);
            for _ in 0..20 {
                let span = area.any(most, &mut random);
                prop_assert!(span.count > 0 && span.first.is_multiple_of(unit) && span.count.is_multiple_of(unit));
                let (first, last) = (area.index(span.first), area.index(span.first + span.count - 1));
                prop_assert_eq!((last - first) as u64, span.count - 1);
            }
        }
    }
}
