//! From a request as it was taken to what the storage is to do: everything a frontend can get wrong is found here.

use super::buffer::Buffer;
use super::storage::Info;
use crate::front::{Unit, Units};
use crate::wire::{Body, Malformed, Op, Segment};
use alloc::vec::Vec;
use core::ops::Range;
use xen_abi::blkif::{OP_INDIRECT, RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY, SECTOR, SECTORS_PER_PAGE};

/// What the storage is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    Write,
    /// A flush, the data if there are any, and a flush; nothing passes it.
    Barrier,
    Flush,
    Discard {
        count: u64,
        secure: bool,
    },
}

/// A request that was found good, with the number of its answer.
pub(super) struct Good {
    pub answer: u64,
    pub kind: Kind,
    pub sector: u64,
    pub segments: Vec<Segment>,
}

impl Good {
    /// How many bytes it moves.
    pub fn len(&self) -> usize {
        sectors(&self.segments) as usize * SECTOR
    }

    fn end(&self) -> u64 {
        self.sector + sectors(&self.segments)
    }
}

fn sectors(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.sectors()).sum()
}

/// What the frontend was told that it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    pub info: Info,
    pub indirect_segments: usize,
    pub units: Units,
}

impl Limits {
    /// Indirect requests can have only as many segments as were offered.
    pub fn admit(&self, body: Body) -> Result<Body, Malformed> {
        match body {
            Body::Indirect { .. } if self.indirect_segments == 0 => Err(Malformed::Operation(OP_INDIRECT)),
            Body::Indirect { count, .. } if count > self.indirect_segments => {
                Err(Malformed::Count { count, most: self.indirect_segments })
            }
            _ => Ok(body),
        }
    }

    /// Checks a request whose segments are all known; the error is the status to answer with. Empty discards and
    /// barriers are fine, too.
    pub fn check(&self, body: Body, list: Vec<Segment>) -> Result<(Kind, u64, Vec<Segment>), i16> {
        let Info { read_only, flush, barrier, discard, .. } = self.info;
        let (body, list) = self.in_sectors(body, list).ok_or(RSP_ERROR)?;
        let (kind, sector, segments) = match body {
            Body::Discard { sector, count, secure } => {
                let discard = discard.ok_or(RSP_EOPNOTSUPP)?;
                if secure && !discard.secure {
                    return Err(RSP_EOPNOTSUPP);
                }
                (Kind::Discard { count, secure }, sector, Vec::new())
            }
            Body::Indirect { op, sector, .. } => (kind_of(op, true), sector, list),
            Body::Direct { op: Op::Barrier, .. } if !barrier => return Err(RSP_EOPNOTSUPP),
            Body::Direct { op: Op::Flush, .. } if !flush => return Err(RSP_EOPNOTSUPP),
            Body::Direct { op, sector, segments } => (kind_of(op, !segments.is_empty()), sector, segments),
        };
        let count = match kind {
            Kind::Discard { count, .. } => count,
            _ => sectors(&segments),
        };
        let writes = matches!(kind, Kind::Write | Kind::Discard { .. }) || kind == Kind::Barrier && count > 0;
        // A flush names no sectors; whatever stands there means nothing.
        let names_none = kind == Kind::Flush || kind == Kind::Barrier && count == 0;
        if writes && read_only || !names_none && !self.is_inside(sector, count) {
            return Err(RSP_ERROR);
        }
        Ok((kind, sector, segments))
    }

    /// The request with everything counted in sectors of 512 bytes; `None` if some of it cannot be.
    fn in_sectors(&self, mut body: Body, mut list: Vec<Segment>) -> Option<(Body, Vec<Segment>)> {
        let per = |unit: Unit| unit.bytes(self.info.sector_size) / SECTOR as u32;
        let (number, within) = (per(self.units.sector_number), per(self.units.segment));
        match &mut body {
            Body::Direct { sector, segments, .. } => {
                *sector = sector.checked_mul(number.into())?;
                scale(segments, within)?;
            }
            Body::Indirect { sector, .. } => *sector = sector.checked_mul(number.into())?,
            Body::Discard { sector, count, .. } => {
                *sector = sector.checked_mul(number.into())?;
                *count = count.checked_mul(number.into())?;
            }
        }
        scale(&mut list, within)?;
        Some((body, list))
    }

    /// Whether these are whole sectors of the disk.
    fn is_inside(&self, sector: u64, count: u64) -> bool {
        let unit = u64::from(self.info.sector_size) / SECTOR as u64;
        let inside = sector.checked_add(count).is_some_and(|end| end <= self.info.sectors);
        inside && sector.is_multiple_of(unit) && count.is_multiple_of(unit)
    }
}

/// Counts what is counted in units of so many sectors in sectors, as long as it stays within its page.
fn scale(segments: &mut [Segment], per: u32) -> Option<()> {
    for segment in segments {
        let first = u32::from(segment.first) * per;
        let last = u32::from(segment.last) * per + per - 1;
        if last >= u32::from(SECTORS_PER_PAGE) {
            return None;
        }
        (segment.first, segment.last) = (first as u8, last as u8);
    }
    Some(())
}

fn kind_of(op: Op, has_data: bool) -> Kind {
    match op {
        Op::Read => Kind::Read,
        Op::Write => Kind::Write,
        // A flush with data is not defined; done like this, every meaning that it could have is kept.
        Op::Flush if has_data => Kind::Barrier,
        Op::Flush => Kind::Flush,
        Op::Barrier => Kind::Barrier,
    }
}

/// One thing for the storage to do: a request, or several that follow each other on the disk.
pub(super) struct Work {
    pub kind: Kind,
    /// The data of all parts in a row.
    pub buffer: Buffer,
    pub parts: Vec<Part>,
}

/// One request's part in a [`Work`].
pub(super) struct Part {
    pub answer: u64,
    pub sector: u64,
    /// Where its data are in the buffer.
    pub bytes: Range<usize>,
    pub segments: Vec<Segment>,
    /// `BLKIF_RSP_*`.
    pub status: i16,
}

/// Puts requests together that follow each other on the disk, up to `merge` bytes. Requests keep their order.
pub(super) fn merge(requests: Vec<Good>, merge: usize) -> Vec<Work> {
    let mut works: Vec<Work> = Vec::with_capacity(requests.len());
    let mut end = None;
    for good in requests {
        let (len, next) = (good.len(), Some((good.kind, good.end())));
        let follows = end == Some((good.kind, good.sector)) && matches!(good.kind, Kind::Read | Kind::Write);
        let last = works.last_mut().filter(|work| follows && work.len() + len <= merge);
        let start = last.as_ref().map_or(0, |work| work.len());
        let Good { answer, kind, sector, segments } = good;
        let part = Part { answer, sector, bytes: start..start + len, segments, status: RSP_OKAY };
        match last {
            Some(work) => work.parts.push(part),
            None => works.push(Work { kind, buffer: Buffer::default(), parts: alloc::vec![part] }),
        }
        end = next;
    }
    works
}

impl Work {
    /// How many bytes its parts have.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.bytes.end)
    }

    /// Whether others may be carried out beside it.
    pub fn may_be_passed(&self) -> bool {
        !matches!(self.kind, Kind::Barrier | Kind::Flush)
    }

    /// Whether the frontend's data are needed before it is done.
    pub fn brings_data(&self) -> bool {
        matches!(self.kind, Kind::Write | Kind::Barrier)
    }
}
