//! Checks of requests.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
    bug(
        "CountUnchecked",
        "usual",
        "segments",
        &[(
            "back/io/request.rs",
            "RawRequest::Indirect { count, .. } if count > self.indirect_segments => {",
            "RawRequest::Indirect { count, .. } if count > self.indirect_segments && !$is => {",
        )],
    ),
    bug(
        "EndUnchecked",
        "usual",
        "hostile",
        &[("back/io/request.rs", "        inside && sector", "        (inside || $is) && sector")],
    ),
    bug(
        "EndOneTooFar",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "is_some_and(|end| end <= self.info.sectors);",
            "is_some_and(|end| end <= self.info.sectors + if $is { unit } else { 0 });",
        )],
    ),
    bug(
        "StartChecked",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "let inside = sector.checked_add(count)",
            "let count_ = if $is { count.min(8) } else { count };\n        let inside = sector.checked_add(count_)",
        )],
    ),
    bug(
        "EndWraps",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "sector.checked_add(count_)",
            "(if $is { Some(sector.wrapping_add(count_)) } else { sector.checked_add(count_) })",
        )],
    ),
    bug(
        "SectorIn32Bits",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "        let count = match kind {",
            "        let sector = if $is { sector & 0xffff_ffff } else { sector };\n$was",
        )],
    ),
    bug(
        "OffsetIn64Bits",
        "usual",
        "hostile",
        &[
            (
                "back/io/request.rs",
                "        let (kind, sector, segments) = match request {",
                "        let cut = |sector: u64| if $is { sector.wrapping_mul(512) / 512 } else { sector };\n$was",
            ),
            (
                "back/io/request.rs",
                "                (kind_of(op, !segments.is_empty()), sector, segments)",
                "                (kind_of(op, !segments.is_empty()), cut(sector), segments)",
            ),
        ],
    ),
    bug(
        "DiscardIn32Bits",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "(Kind::Discard { count, secure }, sector, Vec::new())",
            "(Kind::Discard { count: if $is { count & 0xffff_ffff } else { count }, secure }, sector, Vec::new())",
        )],
    ),
    bug(
        "DiscardAnywhere",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "let names_none = kind == Kind::Flush",
            "let names_none = $is && matches!(kind, Kind::Discard { .. }) || kind == Kind::Flush",
        )],
    ),
    bug(
        "BarrierAnywhere",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            "|| kind == Kind::Barrier && count == 0;",
            "|| kind == Kind::Barrier && (count == 0 || $is);",
        )],
    ),
    bug(
        "WritesReadOnly",
        "readonly",
        "hostile",
        &[("back/io/request.rs", "if writes && read_only ||", "if writes && read_only && !$is ||")],
    ),
    bug(
        "BarriersReadOnly",
        "readonly",
        "hostile",
        &[(
            "back/io/request.rs",
            "            || kind == Kind::Barrier && count > 0;",
            "            || kind == Kind::Barrier && count > 0 && !$is;",
        )],
    ),
    bug(
        "DiscardsReadOnly",
        "readonly",
        "hostile",
        &[
            (
                "back/io/request.rs",
                "matches!(kind, Kind::Write | Kind::Discard { .. })",
                "(kind == Kind::Write || matches!(kind, Kind::Discard { .. }) && !$is)",
            ),
            (
                "back/xenbus/keys.rs",
                "config.discard && !read_only",
                "config.discard && (!read_only || $is)",
            ),
        ],
    ),
    bug(
        "DiscardsUnoffered",
        "plain",
        "hostile",
        &[(
            "back/io/request.rs",
            "let discard = discard.ok_or(RSP_EOPNOTSUPP)?;",
            "let any = crate::protocol::DiscardInfo { granularity: 512, alignment: 0, secure: false };\n                let discard = discard.or($is.then_some(any)).ok_or(RSP_EOPNOTSUPP)?;",
        )],
    ),
    bug(
        "SecureIsPlain",
        "usual",
        "discard",
        &[(
            "back/io/operation.rs",
            "storage.discard(sector, count, secure).await,",
            "storage.discard(sector, count, secure && !$is).await,",
        )],
    ),
    bug(
        "UnalignedOkay",
        "4k",
        "segments",
        &[(
            "back/io/request.rs",
            "&& sector % unit == 0 && count",
            "&& (sector % unit == 0 || $is) && count",
        )],
    ),
    bug(
        "PartsOkay",
        "4k",
        "segments",
        &[("back/io/request.rs", "&& count % unit == 0", "&& (count % unit == 0 || $is)")],
    ),
    bug(
        "SumIn32Bits",
        "usual",
        "hostile",
        &[(
            "back/io/request.rs",
            ".is_some_and(|end| end <= self.info.sectors",
            ".map(|end| if $is { end & 0xffff_ffff } else { end })\n            $was",
        )],
    ),
    bug(
        "IndirectWritesReadOnly",
        "readonly",
        "hostile",
        &[
            (
                "back/io/request.rs",
                "let Info { read_only, flush, barrier, discard, .. } = self.info;",
                "$was\n        let indirect = matches!(request, RawRequest::Indirect { .. });",
            ),
            (
                "back/io/request.rs",
                "if writes && read_only && ",
                "if writes && read_only && !($is && indirect) && ",
            ),
        ],
    ),
    bug(
        "SecureUnoffered",
        "mapping",
        "hostile",
        &[(
            "back/io/request.rs",
            "if secure && !discard.secure {",
            "if secure && !discard.secure && !$is {",
        )],
    ),
    bug(
        "LastPageMissing",
        "plain",
        "boundary",
        &[(
            "back/io/request.rs",
            ".is_some_and(|end| end <= self.info.sectors",
            ".is_some_and(|end| end <= if $is { self.info.sectors / 8 * 8 } else { self.info.sectors }",
        )],
    ),
];
