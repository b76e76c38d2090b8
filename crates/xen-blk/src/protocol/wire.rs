//! Requests and responses as they lie in a ring's slots, in both layouts.
//!
//! Decoding works on a private copy of a slot, and checks it as far as the slot alone permits: the
//! backend has to check that the sectors are on the disk and that the disk is writable.

use alloc::vec::Vec;
use core::fmt;
use xen_abi::blkif::{self as abi, Pad32, Pad64};
use xen_platform::GrantRef;
use zerocopy::{FromBytes, IntoBytes};

/// Size of a slot in the larger layout, in bytes.
pub const SLOT_MAX: usize = size_of::<abi::Request<Pad64>>();
/// Size of a response in the larger layout, in bytes.
pub const RESPONSE_MAX: usize = size_of::<abi::Response<Pad64>>();

/// Layout of a frontend's requests: the key `protocol`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Abi {
    /// `x86_64-abi`.
    X86_64,
    /// `x86_32-abi`.
    X86_32,
}

impl Abi {
    /// Returns the value of the key `protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => abi::PROTOCOL_X86_64,
            Abi::X86_32 => abi::PROTOCOL_X86_32,
        }
    }

    /// Finds the layout of that name.
    pub fn from_name(name: &str) -> Option<Abi> {
        [Abi::X86_64, Abi::X86_32].into_iter().find(|abi| abi.name() == name)
    }

    /// Returns the size of a slot in bytes.
    pub fn slot(self) -> usize {
        match self {
            Abi::X86_64 => size_of::<abi::Request<Pad64>>(),
            Abi::X86_32 => size_of::<abi::Request<Pad32>>(),
        }
    }

    /// Returns the size of a response in bytes.
    pub fn response(self) -> usize {
        match self {
            Abi::X86_64 => size_of::<abi::Response<Pad64>>(),
            Abi::X86_32 => size_of::<abi::Response<Pad32>>(),
        }
    }
}

/// Operation of a request with segments.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Moves data from the disk into the frontend's pages.
    Read,
    /// Moves data from the frontend's pages to the disk.
    Write,
    /// Writes, and keeps earlier and later requests apart; without segments, only keeps them apart.
    Barrier,
    /// Makes earlier writes durable.
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
    /// Returns the number of its sectors.
    pub fn sectors(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Encodes it as in a list of segments.
    pub fn bytes(self) -> [u8; size_of::<abi::Segment>()] {
        self.encode().as_bytes().try_into().expect("the size is that of the structure")
    }

    fn encode(self) -> abi::Segment {
        abi::Segment {
            gref: self.gref.0.into(),
            first_sect: self.first,
            last_sect: self.last,
            pad: [0; 2],
        }
    }

    fn decode(number: usize, raw: &abi::Segment) -> Result<Segment, Malformed> {
        let (first, last) = (raw.first_sect, raw.last_sect);
        match first <= last && last < abi::SECTORS_PER_PAGE {
            true => Ok(Segment { gref: GrantRef(raw.gref.get()), first, last }),
            false => Err(Malformed::Segment { number, first, last }),
        }
    }
}

/// A request of a frontend, as the slot has it: not checked against the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RawRequest {
    /// Its segments are in the request.
    Direct {
        /// The operation.
        op: Op,
        /// First sector on the disk, in units of 512 bytes.
        sector: u64,
        /// At most [`abi::MAX_SEGMENTS_PER_REQUEST`]; none only with [`Op::Flush`] and
        /// [`Op::Barrier`].
        segments: Vec<Segment>,
    },
    /// Its segments are listed in pages of their own: see [`segments`].
    Indirect {
        /// [`Op::Read`] or [`Op::Write`].
        op: Op,
        /// First sector on the disk, in units of 512 bytes.
        sector: u64,
        /// Number of segments in the list.
        count: usize,
        /// The pages with the list.
        pages: Vec<GrantRef>,
    },
    /// The contents of these sectors are not needed any more.
    Discard {
        /// First sector, in units of 512 bytes.
        sector: u64,
        /// Number of sectors of 512 bytes.
        count: u64,
        /// No means may exist to read the old contents.
        secure: bool,
    },
}

/// A decoded slot: the fields of the response are known even if the request is malformed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Id to be repeated in the response, bit by bit.
    pub id: u64,
    /// `BLKIF_OP_*` or any other value, to be repeated in the response. For an indirect request it
    /// is the operation that the request wraps, as Linux's frontend expects.
    pub operation: u8,
    /// The request, unless it is malformed.
    pub request: Result<RawRequest, Malformed>,
}

/// Reason why a request is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// An unknown operation; the response is `BLKIF_RSP_EOPNOTSUPP`.
    Operation(u8),
    /// An indirect request that wraps neither a read nor a write.
    IndirectOperation(u8),
    /// More segments than a request can have or than were offered, or none.
    Count {
        /// Number of its segments.
        count: usize,
        /// Largest number.
        most: usize,
    },
    /// A segment that leaves its page, or ends before it begins.
    Segment {
        /// Its number, from 0.
        number: usize,
        /// First sector.
        first: u8,
        /// Last sector.
        last: u8,
    },
}

impl Malformed {
    /// Returns the status to respond with.
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
            Malformed::Count { count, most } => {
                write!(f, "{count} segments, where 1 to {most} can be")
            }
            Malformed::Segment { number, first, last } => {
                write!(
                    f,
                    "segment {number} is from sector {first} to {last} of its page, \
                     which has 0 to 7"
                )
            }
        }
    }
}

impl core::error::Error for Malformed {}

/// A request encoded for a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodedRequest {
    bytes: [u8; SLOT_MAX],
    len: usize,
}

impl EncodedRequest {
    /// Encodes a request with its segments in the slot. Panics if there are more than fit.
    pub fn direct(
        layout: Abi,
        id: u64,
        op: u8,
        sector: u64,
        segments: impl Iterator<Item = Segment>,
    ) -> EncodedRequest {
        let mut raw = abi::Request::<Pad64> {
            operation: op,
            id: id.into(),
            sector_number: sector.into(),
            ..Default::default()
        };
        for segment in segments {
            raw.seg[usize::from(raw.nr_segments)] = segment.encode();
            raw.nr_segments += 1;
        }
        Self::lay_out(layout, raw.as_bytes())
    }

    /// Encodes a request whose `count` segments are listed in `pages`. Panics if there are more
    /// pages than fit.
    pub fn indirect(
        layout: Abi,
        id: u64,
        op: u8,
        sector: u64,
        count: u16,
        pages: impl Iterator<Item = GrantRef>,
    ) -> EncodedRequest {
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

    /// Encodes a discard.
    pub fn discard(layout: Abi, id: u64, sector: u64, count: u64, secure: bool) -> EncodedRequest {
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

    /// Returns the bytes of the slot that it uses.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Lays a request out: all kinds differ between the layouts only by the padding before the id.
    fn lay_out(layout: Abi, wide: &[u8]) -> EncodedRequest {
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
        EncodedRequest { bytes, len }
    }
}

/// Range of the padding that only the 64-bit layout has, in every kind of request.
const PAD: core::ops::Range<usize> = 4..8;

/// Encodes a request for a slot. Panics if it has more segments or pages than fit.
pub fn encode(layout: Abi, id: u64, request: &RawRequest) -> Vec<u8> {
    let raw = match request {
        RawRequest::Direct { op, sector, segments } => {
            EncodedRequest::direct(layout, id, op.code(), *sector, segments.iter().copied())
        }
        RawRequest::Indirect { op, sector, count, pages } => EncodedRequest::indirect(
            layout,
            id,
            op.code(),
            *sector,
            *count as u16,
            pages.iter().copied(),
        ),
        RawRequest::Discard { sector, count, secure } => {
            EncodedRequest::discard(layout, id, *sector, *count, *secure)
        }
    };
    raw.bytes().to_vec()
}

/// Decodes the copy of a slot, which has [`Abi::slot`] bytes.
pub fn decode(layout: Abi, slot: &[u8]) -> Decoded {
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

fn decode_wide(slot: &[u8; SLOT_MAX]) -> Decoded {
    let request: abi::Request<Pad64> = prefix(slot);
    let (id, code) = (request.id.get(), request.operation);
    let (operation, request) = match code {
        abi::OP_DISCARD => (code, Ok(decode_discard(&prefix(slot)))),
        abi::OP_INDIRECT => {
            let indirect = prefix(slot);
            let abi::Indirect { indirect_op, .. } = indirect;
            (indirect_op, decode_indirect(&indirect))
        }
        _ => (
            code,
            Op::from_code(code)
                .ok_or(Malformed::Operation(code))
                .and_then(|op| decode_direct(op, &request)),
        ),
    };
    Decoded { id, operation, request }
}

fn decode_direct(op: Op, request: &abi::Request<Pad64>) -> Result<RawRequest, Malformed> {
    let count = usize::from(request.nr_segments);
    let may_be_empty = matches!(op, Op::Flush | Op::Barrier);
    if count > abi::MAX_SEGMENTS_PER_REQUEST || count == 0 && !may_be_empty {
        return Err(Malformed::Count { count, most: abi::MAX_SEGMENTS_PER_REQUEST });
    }
    let segments =
        request.seg[..count].iter().enumerate().map(|(number, raw)| Segment::decode(number, raw));
    Ok(RawRequest::Direct {
        op,
        sector: request.sector_number.get(),
        segments: segments.collect::<Result<_, _>>()?,
    })
}

fn decode_indirect(request: &abi::Indirect<Pad64>) -> Result<RawRequest, Malformed> {
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
    Ok(RawRequest::Indirect { op, sector: request.sector_number.get(), count, pages })
}

fn decode_discard(request: &abi::Discard<Pad64>) -> RawRequest {
    RawRequest::Discard {
        sector: request.sector_number.get(),
        count: request.nr_sectors.get(),
        secure: request.flag & abi::DISCARD_SECURE != 0,
    }
}

/// Decodes the segments in the copy of a list.
pub fn segments(list: &[u8]) -> Result<Vec<Segment>, Malformed> {
    let raw = list.chunks_exact(size_of::<abi::Segment>()).map(prefix::<abi::Segment>);
    raw.enumerate().map(|(number, raw)| Segment::decode(number, &raw)).collect()
}

/// Encodes a list of segments.
pub fn encode_segments(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|segment| segment.bytes()).collect()
}

/// A response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    /// Id of the request.
    pub id: u64,
    /// Operation of the request.
    pub operation: u8,
    /// `BLKIF_RSP_*`, or anything else that a backend wrote.
    pub status: i16,
}

impl Response {
    /// Encodes it for a slot, with its padding cleared; the layout uses the first [`Abi::response`]
    /// bytes.
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

    /// Decodes the copy of a slot.
    pub fn decode(slot: &[u8; RESPONSE_MAX]) -> Response {
        let raw: abi::Response<Pad64> = prefix(slot);
        Response { id: raw.id.get(), operation: raw.operation, status: raw.status.get() }
    }
}
