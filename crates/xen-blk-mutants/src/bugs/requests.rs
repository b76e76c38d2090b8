//! Requests as they lie on the ring.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
    bug(
        "SegmentClamped",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "let (first, last) = (raw.first_sect, raw.last_sect);",
            "let (first, last) = (raw.first_sect, if $is { raw.last_sect.min(7) } else { raw.last_sect });",
        )],
    ),
    bug(
        "SegmentSwapped",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "match first <= last && last < abi::SECTORS_PER_PAGE {",
            "let (first, last) = if $is && first > last { (last, first) } else { (first, last) };\n$was",
        )],
    ),
    bug(
        "NoSegmentsOkay",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "|| count == 0 && !may_be_empty {",
            "|| count == 0 && !may_be_empty && !$is {",
        )],
    ),
    bug(
        "SegmentsCutOff",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "let count = usize::from(request.nr_segments);",
            "let count = usize::from(request.nr_segments).min(if $is { 11 } else { 255 });",
        )],
    ),
    bug(
        "UnknownIsFlush",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "Op::from_code(code)\n",
            "Op::from_code(if $is && code > 5 { abi::OP_FLUSH_DISKCACHE } else { code })\n",
        )],
    ),
    bug(
        "IndirectAnything",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "Some(op @ (Op::Read | Op::Write)) => op,",
            "$was\n        _ if $is => Op::Write,",
        )],
    ),
    bug(
        "IdIn32Bits",
        "usual",
        "segments",
        &[(
            "protocol/wire.rs",
            "let (id, code) = (request.id.get(), request.operation);",
            "$was\n    let id = if $is { id & 0xffff_ffff } else { id };",
        )],
    ),
    bug(
        "DiscardOf32Bits",
        "usual",
        "features",
        &[(
            "protocol/wire.rs",
            "wide[PAD.end..].copy_from_slice(&slot[PAD.start..]);",
            "$was\n            if $is && slot[0] == abi::OP_DISCARD {\n                wide[PAD.end + 8..PAD.end + 16].fill(0);\n            }",
        )],
    ),
    bug(
        "IndirectOf32Bits",
        "usual",
        "features",
        &[
            (
                "protocol/wire.rs",
                "let indirect = prefix(slot);",
                "let mut indirect: abi::Indirect<Pad64> = prefix(slot);\n            if $is && layout == Abi::X86_32 {\n                indirect.indirect_grefs.rotate_left(1);\n            }",
            ),
            ("protocol/wire.rs", "    decode_wide(&wide)\n", "    decode_wide(layout, &wide)\n"),
            ("protocol/wire.rs", "fn decode_wide(slot", "fn decode_wide(layout: Abi, slot"),
        ],
    ),
    bug(
        "IndirectEmpty",
        "usual",
        "hostile",
        &[(
            "protocol/wire.rs",
            "    if count == 0 || count > most {",
            "    if count == 0 && !$is || count > most {",
        )],
    ),
];
