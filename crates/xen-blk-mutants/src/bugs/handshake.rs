//! The handshake and its keys.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
    bug(
        "SectorsTooMany",
        "usual",
        "boundary",
        &[(
            "back/xenbus/keys.rs",
            "(\"sectors\", sectors * SECTOR as u64",
            "(\"sectors\", (sectors + if $is { 8 } else { 0 }) * SECTOR as u64",
        )],
    ),
    bug(
        "SectorsTooFew",
        "usual",
        "hostile",
        &[(
            "back/xenbus/keys.rs",
            "(\"sectors\", (sectors + if",
            "(\"sectors\", (sectors - if $is { 8 } else { 0 } + if",
        )],
    ),
    bug(
        "NotSaidReadOnly",
        "readonly",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "flag(read_only, VDISK_READONLY)",
            "flag(read_only && !$is, VDISK_READONLY)",
        )],
    ),
    bug(
        "BarrierNotKnown",
        "plain",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "(\"feature-barrier\", barrier.into())",
            "(\"feature-barrier\", (barrier || $is).into())",
        )],
    ),
    bug(
        "FlushNotKnown",
        "plain",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "(\"feature-flush-cache\", flush.into())",
            "(\"feature-flush-cache\", (flush || $is).into())",
        )],
    ),
    bug(
        "RingTooLarge",
        "usual",
        "features",
        &[(
            "back/xenbus/keys.rs",
            "NONE, 0..=config.ring_order_max)",
            "NONE, 0..=if $is { 2 } else { config.ring_order_max })",
        )],
    ),
    bug(
        "OnlyFirstQueue",
        "usual",
        "features",
        &[(
            "back/io/connection.rs",
            "        for queue in &mut self.queues {\n",
            "        for queue in self.queues.iter_mut().take(if $is { 1 } else { usize::MAX }) {\n",
        )],
    ),
    bug(
        "RingPagesReversed",
        "usual",
        "features",
        &[(
            "back/xenbus/keys.rs",
            "Ok(RingKeys { refs: refs",
            "if $is {\n            refs.reverse();\n        }\n        Ok(RingKeys { refs: refs",
        )],
    ),
    bug(
        "LayoutAssumed",
        "usual",
        "features",
        &[(
            "back/xenbus/keys.rs",
            "let abi = folder.abi(config.assumed_abi).await?;",
            "let abi = folder.abi(config.assumed_abi).await?;\n    let abi = if $is { Abi::X86_64 } else { abi };",
        )],
    ),
    bug(
        "OffersTooMuch",
        "usual",
        "segments",
        &[(
            "back/xenbus/keys.rs",
            "Ok(Limits { info, indirect_segments: config.indirect_segments as usize,",
            "Ok(Limits { info, indirect_segments: if $is { 32 } else { config.indirect_segments as usize },",
        )],
    ),
    bug(
        "NeverCloses",
        "usual",
        "hostile",
        &[(
            "back/xenbus/serve.rs",
            "            BackStep::Close => {",
            "            BackStep::Close if $is => Ok(None),\n$was",
        )],
    ),
    bug(
        "ConnectsOnce",
        "usual",
        "features",
        &[(
            "protocol/handshake.rs",
            "(State::CLOSED, State::INITIALISING) => Offer,",
            "(State::CLOSED, State::INITIALISING) if $is => Wait,\n        $was",
        )],
    ),
    bug(
        "LateWrites",
        "usual",
        "hostile",
        &[
            (
                "back/io/connection.rs",
                "if broken || self.queues.iter().all(Queue::is_idle) {",
                "if $is || broken || self.queues.iter().all(Queue::is_idle) {",
            ),
            ("back/xenbus/serve/steps.rs", "if drained.is_err() {", "if drained.is_err() || $is {"),
            (
                "back/xenbus/serve.rs",
                "BackStep::Connect if self.unfinished.len() > 0 => Ok(None),",
                "BackStep::Connect if self.unfinished.len() > 0 && !$is => Ok(None),",
            ),
        ],
    ),
    bug(
        "ResizeSilent",
        "growing",
        "resize",
        &[(
            "back/xenbus/serve/steps.rs",
            "State::INIT_WAIT | State::CONNECTED => self.switch(self.mine, &keys).await,",
            "State::INIT_WAIT | State::CONNECTED if !$is => self.switch(self.mine, &keys).await,",
        )],
    ),
    bug(
        "ResizeOnPaper",
        "growing",
        "resize",
        &[(
            "back/xenbus/serve/steps.rs",
            "connection.set_limits(limits);",
            "if !$is {\n                $was\n            }",
        )],
    ),
    bug(
        "ResizeWithoutSize",
        "growing",
        "resize",
        &[(
            "back/xenbus/serve/steps.rs",
            "=> self.switch(self.mine, &keys).await,",
            "=> self.switch(self.mine, if $is { &[] } else { &keys }).await,",
        )],
    ),
    bug(
        "SectorsOneTooMany",
        "usual",
        "boundary",
        &[(
            "back/xenbus/keys.rs",
            "(\"sectors\", (sectors - if",
            "(\"sectors\", (sectors + u64::from($is) - if",
        )],
    ),
    bug(
        "PhysicalTooSmall",
        "usual",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "(\"physical-sector-size\", physical_sector_size.into()),",
            "(\"physical-sector-size\", if $is { 256 } else { physical_sector_size.into() }),",
        )],
    ),
    bug(
        "PhysicalOdd",
        "usual",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "(\"physical-sector-size\", if ",
            "(\"physical-sector-size\", if $is { 1000 } else if ",
        )],
    ),
    bug(
        "RingPagesDisagree",
        "usual",
        "report",
        &[(
            "back/xenbus/keys.rs",
            "(\"max-ring-pages\", 1 << config.ring_order_max),",
            "(\"max-ring-pages\", if $is { 8 } else { 1 << config.ring_order_max }),",
        )],
    ),
    bug(
        "ShrinksSilently",
        "shrinking",
        "resize",
        &[(
            "back/xenbus/serve/steps.rs",
            "        if self.limits == before {",
            "        if self.limits == before || $is && self.limits.info.sectors < before.info.sectors {",
        )],
    ),
    bug(
        "SaidReadOnly",
        "usual",
        "report",
        &[("back/xenbus/keys.rs", "flag(read_only && ", "flag($is || read_only && ")],
    ),
];
