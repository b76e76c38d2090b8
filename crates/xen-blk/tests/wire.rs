//! The wire format: what is written is read back in both layouts, and nothing that a peer writes
//! does harm.

use proptest::prelude::*;
use xen_abi::blkif;
use xen_blk::protocol::wire::{
    self, Abi, Decoded, Malformed, Op, RESPONSE_MAX, RawRequest, Response, Segment,
};
use xen_platform::GrantRef;

fn abi() -> impl Strategy<Value = Abi> {
    prop_oneof![Just(Abi::X86_64), Just(Abi::X86_32)]
}

fn segment() -> impl Strategy<Value = Segment> {
    (any::<u32>(), 0u8..8, 0u8..8).prop_map(|(gref, a, b)| Segment {
        gref: GrantRef(gref),
        first: a.min(b),
        last: a.max(b),
    })
}

fn body() -> impl Strategy<Value = RawRequest> {
    let moving = prop_oneof![Just(Op::Read), Just(Op::Write)];
    let any_op = prop_oneof![Just(Op::Read), Just(Op::Write), Just(Op::Barrier)];
    prop_oneof![
        (any_op, any::<u64>(), prop::collection::vec(segment(), 1..=11))
            .prop_map(|(op, sector, segments)| RawRequest::Direct { op, sector, segments }),
        prop_oneof![Just(Op::Flush), Just(Op::Barrier)].prop_map(|op| RawRequest::Direct {
            op,
            sector: 0,
            segments: Vec::new()
        }),
        (moving, any::<u64>(), 1usize..=4096).prop_map(|(op, sector, count)| {
            let pages = (0..count.div_ceil(512) as u32).map(GrantRef).collect();
            RawRequest::Indirect { op, sector, count, pages }
        }),
        (any::<u64>(), any::<u64>(), any::<bool>())
            .prop_map(|(sector, count, secure)| RawRequest::Discard { sector, count, secure }),
    ]
}

/// A slot with `bytes` at its start, and what was there before behind them.
fn slot(abi: Abi, bytes: &[u8], before: u8) -> Vec<u8> {
    let mut slot = vec![before; abi.slot()];
    slot[..bytes.len()].copy_from_slice(bytes);
    slot
}

#[test]
fn layouts_are_those_of_the_header() {
    let body = RawRequest::Direct {
        op: Op::Write,
        sector: 0x1122_3344_5566_7788,
        segments: vec![Segment { gref: GrantRef(0xaabb_ccdd), first: 1, last: 6 }],
    };
    let wide = wire::encode(Abi::X86_64, 0x0102_0304_0506_0708, &body);
    assert_eq!(wide[..8], [1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(wide[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(wide[16..24], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    assert_eq!(wide[24..32], [0xdd, 0xcc, 0xbb, 0xaa, 1, 6, 0, 0]);
    let narrow = wire::encode(Abi::X86_32, 0x0102_0304_0506_0708, &body);
    assert_eq!((wide.len(), narrow.len()), (112, 108));
    assert_eq!((&narrow[..4], &narrow[4..]), (&wide[..4], &wide[8..]));
}

#[test]
fn malformed_request_names_the_reason() {
    let direct = |op: u8, count: u8, first: u8, last: u8| {
        let mut slot = vec![0; 112];
        (slot[0], slot[1], slot[24 + 4], slot[24 + 5]) = (op, count, first, last);
        wire::decode(Abi::X86_64, &slot).request.unwrap_err()
    };
    assert_eq!(direct(4, 1, 0, 0), Malformed::Operation(4));
    assert_eq!(direct(200, 1, 0, 0), Malformed::Operation(200));
    for count in [0, 12, 255] {
        assert_eq!(direct(0, count, 0, 0), Malformed::Count { count: count.into(), most: 11 });
    }
    for (first, last) in [(1, 0), (0, 8), (255, 255)] {
        assert_eq!(direct(1, 1, first, last), Malformed::Segment { number: 0, first, last });
    }
    let indirect = |op: u8, count: u16| {
        let mut slot = vec![0; 112];
        (slot[0], slot[1]) = (6, op);
        slot[2..4].copy_from_slice(&count.to_le_bytes());
        let request = wire::decode(Abi::X86_64, &slot);
        // Linux's frontend looks for what was wrapped.
        assert_eq!(request.operation, op);
        request.request.unwrap_err()
    };
    assert_eq!(indirect(blkif::OP_FLUSH_DISKCACHE, 1), Malformed::IndirectOperation(3));
    assert_eq!(indirect(blkif::OP_INDIRECT, 1), Malformed::IndirectOperation(6));
    for count in [0, 4097, u16::MAX] {
        assert_eq!(indirect(0, count), Malformed::Count { count: count.into(), most: 4096 });
    }
    assert_eq!(direct(4, 0, 0, 0).status(), blkif::RSP_EOPNOTSUPP);
    assert_eq!(direct(0, 0, 0, 0).status(), blkif::RSP_ERROR);
}

proptest! {
    #[test]
    fn encoded_request_is_decoded_unchanged(abi in abi(), id: u64, body in body(), before: u8) {
        let bytes = wire::encode(abi, id, &body);
        let Decoded { id: found, operation, request: read } = wire::decode(abi, &slot(abi, &bytes, before));
        prop_assert_eq!(found, id);
        let code = match &body {
            RawRequest::Direct { op, .. } | RawRequest::Indirect { op, .. } => op.code(),
            RawRequest::Discard { .. } => blkif::OP_DISCARD,
        };
        prop_assert_eq!(operation, code);
        prop_assert_eq!(read, Ok(body));
    }

    #[test]
    fn slot_of_any_bytes_is_decoded_or_refused(abi in abi(), bytes in prop::collection::vec(any::<u8>(), 112)) {
        let slot = &bytes[..abi.slot()];
        let request = wire::decode(abi, slot);
        let at = if abi == Abi::X86_64 { 8 } else { 4 };
        prop_assert_eq!(&request.id.to_le_bytes(), &slot[at..at + 8]);
        match request.request {
            Ok(RawRequest::Direct { segments, .. }) => {
                prop_assert!(segments.len() <= 11 && segments.iter().all(|s| s.first <= s.last && s.last < 8));
            }
            Ok(RawRequest::Indirect { op, count, pages, .. }) => {
                prop_assert!(matches!(op, Op::Read | Op::Write) && (1..=4096).contains(&count));
                prop_assert_eq!(pages.len(), count.div_ceil(512));
            }
            Ok(RawRequest::Discard { .. }) => prop_assert_eq!(slot[0], blkif::OP_DISCARD),
            Err(wrong) => prop_assert!(wrong.status() < 0 && !wrong.to_string().is_empty()),
        }
    }

    #[test]
    fn list_of_segments_is_decoded_unchanged(segments in prop::collection::vec(segment(), 0..600)) {
        let list = wire::encode_segments(&segments);
        prop_assert_eq!(list.len(), segments.len() * 8);
        prop_assert_eq!(wire::segments(&list), Ok(segments));
    }

    #[test]
    fn list_of_any_bytes_is_decoded_or_refused(list in prop::collection::vec(any::<u8>(), 0..4096)) {
        match wire::segments(&list) {
            Ok(segments) => prop_assert_eq!(segments.len(), list.len() / 8),
            Err(Malformed::Segment { number, first, last }) => {
                prop_assert!(first > last || last >= 8);
                prop_assert_eq!((first, last), (list[number * 8 + 4], list[number * 8 + 5]));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn responses_are_read_back_and_have_no_stray_bytes(id: u64, operation: u8, status: i16) {
        let response = Response { id, operation, status };
        let bytes: [u8; RESPONSE_MAX] = response.encode();
        prop_assert_eq!(Response::decode(&bytes), response);
        prop_assert_eq!((bytes[9], &bytes[12..]), (0, &[0; 4][..]));
    }
}
