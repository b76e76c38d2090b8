//! Checks of requests: every mistake that a frontend can make in one is found here.

use crate::back::storage::Info;
use crate::protocol::wire::{Malformed, Op, RawRequest, Segment};
use crate::protocol::{Unit, Units};
use alloc::vec::Vec;
use core::ops::Range;
use xen_abi::blkif::{OP_INDIRECT, RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY, SECTOR, SECTORS_PER_PAGE};

/// Kind of a request, once it is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::back) enum Kind {
    Read,
    Write,
    /// A flush, the write of its data if it has any, and another flush. No request passes it.
    Barrier,
    Flush,
    Discard {
        count: u64,
        secure: bool,
    },
}

/// A request that passed all checks.
pub(in crate::back) struct Request {
    /// Number of its response: see [`super::responses`].
    pub response: u64,
    pub kind: Kind,
    pub sector: u64,
    pub segments: Vec<Segment>,
    /// Range of its data in the buffer of its operation.
    pub bytes: Range<usize>,
    /// Its outcome so far: `BLKIF_RSP_*`.
    pub status: i16,
}

impl Request {
    fn new(response: u64, kind: Kind, sector: u64, segments: Vec<Segment>) -> Request {
        let bytes = 0..sectors(&segments) as usize * SECTOR;
        Request { response, kind, sector, segments, bytes, status: RSP_OKAY }
    }

    /// Returns the number of bytes that it moves.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the sector behind its last one.
    pub fn end(&self) -> u64 {
        self.sector + sectors(&self.segments)
    }
}

fn sectors(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.sectors()).sum()
}

/// Limits that the frontend was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::back) struct Limits {
    pub info: Info,
    pub indirect_segments: usize,
    pub units: Units,
}

impl Limits {
    /// Refuses indirect requests with more segments than were offered.
    pub fn admit(&self, request: RawRequest) -> Result<RawRequest, Malformed> {
        match request {
            RawRequest::Indirect { .. } if self.indirect_segments == 0 => {
                Err(Malformed::Operation(OP_INDIRECT))
            }
            RawRequest::Indirect { count, .. } if count > self.indirect_segments => {
                Err(Malformed::Count { count, most: self.indirect_segments })
            }
            _ => Ok(request),
        }
    }

    /// Checks a request, of which `list` has the segments if it is indirect; the error is the
    /// status to respond with. Empty discards and barriers are valid, too.
    pub fn check(
        &self,
        response: u64,
        request: RawRequest,
        list: Vec<Segment>,
    ) -> Result<Request, i16> {
        let Info { read_only, flush, barrier, discard, .. } = self.info;
        let (request, list) = self.in_sectors(request, list).ok_or(RSP_ERROR)?;
        let (kind, sector, segments) = match request {
            RawRequest::Discard { sector, count, secure } => {
                let discard = discard.ok_or(RSP_EOPNOTSUPP)?;
                if secure && !discard.secure {
                    return Err(RSP_EOPNOTSUPP);
                }
                (Kind::Discard { count, secure }, sector, Vec::new())
            }
            RawRequest::Indirect { op, sector, .. } => (kind_of(op, true), sector, list),
            RawRequest::Direct { op: Op::Barrier, .. } if !barrier => return Err(RSP_EOPNOTSUPP),
            RawRequest::Direct { op: Op::Flush, .. } if !flush => return Err(RSP_EOPNOTSUPP),
            RawRequest::Direct { op, sector, segments } => {
                (kind_of(op, !segments.is_empty()), sector, segments)
            }
        };
        let count = match kind {
            Kind::Discard { count, .. } => count,
            _ => sectors(&segments),
        };
        let writes = matches!(kind, Kind::Write | Kind::Discard { .. })
            || kind == Kind::Barrier && count > 0;
        // A flush names no sectors: the field means nothing.
        let names_none = kind == Kind::Flush || kind == Kind::Barrier && count == 0;
        if writes && read_only || !names_none && !self.is_inside(sector, count) {
            return Err(RSP_ERROR);
        }
        Ok(Request::new(response, kind, sector, segments))
    }

    /// Converts a request to units of 512 bytes; `None` if a number does not fit.
    fn in_sectors(
        &self,
        mut request: RawRequest,
        mut list: Vec<Segment>,
    ) -> Option<(RawRequest, Vec<Segment>)> {
        let per = |unit: Unit| unit.bytes(self.info.sector_size) / SECTOR as u32;
        let (number, within) = (per(self.units.sector_number), per(self.units.segment));
        match &mut request {
            RawRequest::Direct { sector, segments, .. } => {
                *sector = sector.checked_mul(number.into())?;
                scale(segments, within)?;
            }
            RawRequest::Indirect { sector, .. } => *sector = sector.checked_mul(number.into())?,
            RawRequest::Discard { sector, count, .. } => {
                *sector = sector.checked_mul(number.into())?;
                *count = count.checked_mul(number.into())?;
            }
        }
        scale(&mut list, within)?;
        Some((request, list))
    }

    /// Tells if these are whole sectors of the disk.
    fn is_inside(&self, sector: u64, count: u64) -> bool {
        let unit = u64::from(self.info.sector_size) / SECTOR as u64;
        let inside = sector.checked_add(count).is_some_and(|end| end <= self.info.sectors);
        inside && sector % unit == 0 && count % unit == 0
    }
}

/// Converts segments that count in units of `per` sectors to sectors; `None` if one leaves its
/// page.
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
        // A flush with data is undefined. As a barrier it keeps every meaning that it could have.
        Op::Flush if has_data => Kind::Barrier,
        Op::Flush => Kind::Flush,
        Op::Barrier => Kind::Barrier,
    }
}
