//! Requests and responses as they lie in a ring's slots, in both layouts.
//!
//! What is decoded here is a private copy of a slot. Decoding checks what can be told from the slot alone; whether the
//! sectors are on the disk and the disk is writable is for the backend to check.

use alloc::vec::Vec;
use core::fmt;
use xen_abi::blkif::{self as abi, Pad32, Pad64};
use xen_platform::GrantRef;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes enough for a slot in either layout.
pub const SLOT_MAX: usize = size_of::<abi::Request<Pad64>>();
/// Bytes enough for a response in either layout.
pub const RESPONSE_MAX: usize = size_of::<abi::Response<Pad64>>();

/// How a frontend lays out its requests: the key `protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Abi {
    /// `x86_64-abi`.
    X86_64,
    /// `x86_32-abi`.
    X86_32,
}

impl Abi {
    /// The value of the key `protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => abi::PROTOCOL_X86_64,
            Abi::X86_32 => abi::PROTOCOL_X86_32,
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Abi> {
        [Abi::X86_64, Abi::X86_32].into_iter().find(|abi| abi.name() == name)
    }

    /// Bytes in a slot.
    pub fn slot(self) -> usize {
        match self {
            Abi::X86_64 => size_of::<abi::Request<Pad64>>(),
            Abi::X86_32 => size_of::<abi::Request<Pad32>>(),
        }
    }

    /// Bytes in a response.
    pub fn response(self) -> usize {
        match self {
            Abi::X86_64 => size_of::<abi::Response<Pad64>>(),
            Abi::X86_32 => size_of::<abi::Response<Pad32>>(),
        }
    }
}

/// What a request moves, and which way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// From the disk into the frontend's pages.
    Read,
    /// From the frontend's pages to the disk.
    Write,
    /// A write that nothing passes, in either direction; without segments, only that.
    Barrier,
    /// Nothing: what was written before reaches the disk.
    Flush,
}

impl Op {
    /// `BLKIF_OP_*`.
    pub fn code(self) -> u8 {
        match self {
            Op::Read => abi::OP_READ,
            Op::Write => abi::OP_WRITE,
            Op::Barrier => abi::OP_WRITE_BARRIER,
            Op::Flush => abi::OP_FLUSH_DISKCACHE,
        }
    }

    fn from_code(code: u8) -> Option<Op> {
        [Op::Read, Op::Write, Op::Barrier, Op::Flush].into_iter().find(|op| op.code() == code)
    }
}

/// A run of sectors of 512 bytes in one granted page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The page.
    pub gref: GrantRef,
    /// The first sector in it, 0 to 7.
    pub first: u8,
    /// The last sector in it, which is part of the run.
    pub last: u8,
}

impl Segment {
    /// How many sectors it has.
    pub fn sectors(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// It as it is listed in a page.
    pub fn bytes(self) -> [u8; size_of::<abi::Segment>()] {
        self.encode().as_bytes().try_into().expect("the size is that of the structure")
    }

    fn encode(self) -> abi::Segment {
        abi::Segment { gref: self.gref.0.into(), first_sect: self.first, last_sect: self.last, pad: [0; 2] }
    }

    fn decode(number: usize, raw: &abi::Segment) -> Result<Segment, Malformed> {
        let (first, last) = (raw.first_sect, raw.last_sect);
        match first <= last && last < abi::SECTORS_PER_PAGE {
            true => Ok(Segment { gref: GrantRef(raw.gref.get()), first, last }),
            false => Err(Malformed::Segment { number, first, last }),
        }
    }
}

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Its segments are in the request.
    Direct {
        /// What to do.
        op: Op,
        /// Where on the disk, in sectors of 512 bytes.
        sector: u64,
        /// At most [`abi::MAX_SEGMENTS_PER_REQUEST`]; none only with [`Op::Flush`] and [`Op::Barrier`].
        segments: Vec<Segment>,
    },
    /// Its segments are listed in pages of their own: see [`segments`].
    Indirect {
        /// [`Op::Read`] or [`Op::Write`].
        op: Op,
        /// Where on the disk, in sectors of 512 bytes.
        sector: u64,
        /// How many segments are listed.
        count: usize,
        /// The pages with the list.
        pages: Vec<GrantRef>,
    },
    /// What is on these sectors is not needed any more.
    Discard {
        /// The first, in sectors of 512 bytes.
        sector: u64,
        /// How many.
        count: u64,
        /// It must not be possible to read it again, by any means.
        secure: bool,
    },
}

/// A request as taken from a slot: what is needed for a response is known even if the rest makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// To come back in the response, bit by bit.
    pub id: u64,
    /// `BLKIF_OP_*`, or anything else: to come back in the response. Of an indirect request it is what the request
    /// wraps, as Linux's frontend expects.
    pub operation: u8,
    /// What it asks for.
    pub body: Result<Body, Malformed>,
}

/// Why a request makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// No such operation; to be answered with `BLKIF_RSP_EOPNOTSUPP`.
    Operation(u8),
    /// An indirect request of something else than a read or a write.
    IndirectOperation(u8),
    /// More segments than a request can have, or than it was told it may have, or none where there must be one.
    Count {
        /// How many it has.
        count: usize,
        /// How many it can have.
        most: usize,
    },
    /// A segment that is not in a page, or ends before it begins.
    Segment {
        /// Which, from 0.
        number: usize,
        /// Its first sector.
        first: u8,
        /// Its last.
        last: u8,
    },
}

impl Malformed {
    /// The status to answer with.
    pub fn status(self) -> i16 {
        match self {
            Malformed::Operation(_) => abi::RSP_EOPNOTSUPP,
            _ => abi::RSP_ERROR,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Operation(code) => write!(f, "there is no operation {code}"),
            Malformed::IndirectOperation(code) => write!(f, "operation {code} cannot be indirect"),
            Malformed::Count { count, most } => write!(f, "{count} segments, where 1 to {most} can be"),
            Malformed::Segment { number, first, last } => {
                write!(f, "segment {number} is from sector {first} to {last} of its page, which has 0 to 7")
            }
        }
    }
}

impl core::error::Error for Malformed {}

/// A request as it lies in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawRequest {
    bytes: [u8; SLOT_MAX],
    len: usize,
}

impl RawRequest {
    /// A request whose segments are in it. Panics if there are more than fit.
    pub fn direct(layout: Abi, id: u64, op: u8, sector: u64, segments: impl Iterator<Item = Segment>) -> RawRequest {
        let mut raw =
            abi::Request::<Pad64> { operation: op, id: id.into(), sector_number: sector.into(), ..Default::default() };
        for segment in segments {
            raw.seg[usize::from(raw.nr_segments)] = segment.encode();
            raw.nr_segments += 1;
        }
        Self::lay_out(layout, raw.as_bytes())
    }

    /// A request whose `count` segments are listed in `pages`. Panics if there are more pages than fit.
    pub fn indirect(
        layout: Abi,
        id: u64,
        op: u8,
        sector: u64,
        count: u16,
        pages: impl Iterator<Item = GrantRef>,
    ) -> RawRequest {
        let mut raw = abi::Indirect::<Pad64> {
            operation: abi::OP_INDIRECT,
            indirect_op: op,
            nr_segments: count.into(),
            id: id.into(),
            sector_number: sector.into(),
            ..Default::default()
        };
        for (number, page) in pages.enumerate() {
            raw.indirect_grefs[number] = page.0.into();
        }
        Self::lay_out(layout, raw.as_bytes())
    }

    /// A request to discard.
    pub fn discard(layout: Abi, id: u64, sector: u64, count: u64, secure: bool) -> RawRequest {
        let raw = abi::Discard::<Pad64> {
            operation: abi::OP_DISCARD,
            flag: if secure { abi::DISCARD_SECURE } else { 0 },
            id: id.into(),
            sector_number: sector.into(),
            nr_sectors: count.into(),
            ..Default::default()
        };
        Self::lay_out(layout, raw.as_bytes())
    }

    /// The bytes of the slot that it uses.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// All kinds of requests differ between the layouts only by the padding before the id.
    fn lay_out(layout: Abi, wide: &[u8]) -> RawRequest {
        let mut bytes = [0; SLOT_MAX];
        let mut len = wide.len();
        match layout {
            Abi::X86_64 => bytes[..len].copy_from_slice(wide),
            Abi::X86_32 => {
                len -= PAD.len();
                bytes[..PAD.start].copy_from_slice(&wide[..PAD.start]);
                bytes[PAD.start..len].copy_from_slice(&wide[PAD.end..]);
            }
        }
        RawRequest { bytes, len }
    }
}

/// Where the 64-bit layout has four bytes more than the 32-bit one, in every kind of request.
const PAD: core::ops::Range<usize> = 4..8;

/// Writes a request as it lies in a slot. Panics if it has more segments or pages than fit.
pub fn encode(layout: Abi, id: u64, body: &Body) -> Vec<u8> {
    let raw = match body {
        Body::Direct { op, sector, segments } => {
            RawRequest::direct(layout, id, op.code(), *sector, segments.iter().copied())
        }
        Body::Indirect { op, sector, count, pages } => {
            RawRequest::indirect(layout, id, op.code(), *sector, *count as u16, pages.iter().copied())
        }
        Body::Discard { sector, count, secure } => RawRequest::discard(layout, id, *sector, *count, *secure),
    };
    raw.bytes().to_vec()
}

/// Reads a request from the copy of a slot, which has [`Abi::slot`] bytes.
pub fn decode(layout: Abi, slot: &[u8]) -> Request {
    let mut wide = [0; SLOT_MAX];
    match layout {
        Abi::X86_64 => wide.copy_from_slice(slot),
        Abi::X86_32 => {
            wide[..PAD.start].copy_from_slice(&slot[..PAD.start]);
            wide[PAD.end..].copy_from_slice(&slot[PAD.start..]);
        }
    }
    decode_wide(&wide)
}

fn prefix<T: FromBytes>(slot: &[u8]) -> T {
    T::read_from_prefix(slot).expect("a slot holds every kind of request").0
}

fn decode_wide(slot: &[u8; SLOT_MAX]) -> Request {
    let request: abi::Request<Pad64> = prefix(slot);
    let (id, code) = (request.id.get(), request.operation);
    let (operation, body) = match code {
        abi::OP_DISCARD => (code, Ok(decode_discard(&prefix(slot)))),
        abi::OP_INDIRECT => {
            let indirect = prefix(slot);
            let abi::Indirect { indirect_op, .. } = indirect;
            (indirect_op, decode_indirect(&indirect))
        }
        _ => (code, Op::from_code(code).ok_or(Malformed::Operation(code)).and_then(|op| decode_direct(op, &request))),
    };
    Request { id, operation, body }
}

fn decode_direct(op: Op, request: &abi::Request<Pad64>) -> Result<Body, Malformed> {
    let count = usize::from(request.nr_segments);
    let may_be_empty = matches!(op, Op::Flush | Op::Barrier);
    if count > abi::MAX_SEGMENTS_PER_REQUEST || count == 0 && !may_be_empty {
        return Err(Malformed::Count { count, most: abi::MAX_SEGMENTS_PER_REQUEST });
    }
    let segments = request.seg[..count].iter().enumerate().map(|(number, raw)| Segment::decode(number, raw));
    Ok(Body::Direct { op, sector: request.sector_number.get(), segments: segments.collect::<Result<_, _>>()? })
}

fn decode_indirect(request: &abi::Indirect<Pad64>) -> Result<Body, Malformed> {
    let op = match Op::from_code(request.indirect_op) {
        Some(op @ (Op::Read | Op::Write)) => op,
        _ => return Err(Malformed::IndirectOperation(request.indirect_op)),
    };
    let count = usize::from(request.nr_segments.get());
    let most = abi::MAX_INDIRECT_PAGES_PER_REQUEST * abi::SEGMENTS_PER_INDIRECT_PAGE;
    if count == 0 || count > most {
        return Err(Malformed::Count { count, most });
    }
    let pages = &request.indirect_grefs[..count.div_ceil(abi::SEGMENTS_PER_INDIRECT_PAGE)];
    let pages = pages.iter().map(|gref| GrantRef(gref.get())).collect();
    Ok(Body::Indirect { op, sector: request.sector_number.get(), count, pages })
}

fn decode_discard(request: &abi::Discard<Pad64>) -> Body {
    Body::Discard {
        sector: request.sector_number.get(),
        count: request.nr_sectors.get(),
        secure: request.flag & abi::DISCARD_SECURE != 0,
    }
}

/// Reads segments from the copy of a page that lists them, as many as `list` has bytes for.
pub fn segments(list: &[u8]) -> Result<Vec<Segment>, Malformed> {
    let raw = list.chunks_exact(size_of::<abi::Segment>()).map(prefix::<abi::Segment>);
    raw.enumerate().map(|(number, raw)| Segment::decode(number, &raw)).collect()
}

/// Writes segments as they are listed in a page.
pub fn encode_segments(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|segment| segment.bytes()).collect()
}

/// A response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// `BLKIF_RSP_*`; a backend can write anything.
    pub status: i16,
}

impl Response {
    /// Writes it as it lies in a slot, with its padding cleared; the layout has [`Abi::response`] of these bytes.
    pub fn encode(self) -> [u8; RESPONSE_MAX] {
        // The layouts differ only in the padding behind the last field.
        let raw = abi::Response::<Pad64> {
            id: self.id.into(),
            operation: self.operation,
            status: self.status.into(),
            ..Default::default()
        };
        raw.as_bytes().try_into().expect("the size is that of the structure")
    }

    /// Reads it from the copy of a slot.
    pub fn decode(slot: &[u8; RESPONSE_MAX]) -> Response {
        let raw: abi::Response<Pad64> = prefix(slot);
        Response { id: raw.id.get(), operation: raw.operation, status: raw.status.get() }
    }
}
