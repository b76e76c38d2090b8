//! The bugs: which text of the backend becomes which, and the test that finds it.

/// A bug to switch on.
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// Edits of the source: file, text that is there once, text instead. `$was` stands for the old
    /// text, `$is` for the condition that the bug is on.
    pub edits: &'static [(&'static str, &'static str, &'static str)],
    /// The disk, by the name that the tests have for it, on which it is looked for.
    pub disk: &'static str,
    /// The test that finds it there.
    pub test: &'static str,
}

type Edits = &'static [(&'static str, &'static str, &'static str)];

const fn bug(name: &'static str, disk: &'static str, test: &'static str, edits: Edits) -> Bug {
    Bug { name, edits, disk, test }
}

/// All of them, by the stage of a request at which they strike.
pub const BUGS: &[Bug] = &[
    // Requests as they lie on the ring.
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
    // Checks of requests.
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
    // Moving data.
    bug(
        "SecondListLost",
        "usual",
        "segments",
        &[(
            "back/io/data.rs",
            "CopySegment::from_peer(*gref, 0, part)",
            "CopySegment::from_peer(if $is { pages[0] } else { *gref }, 0, part)",
        )],
    ),
    bug(
        "CopyErrorsLost",
        "copying",
        "hostile",
        &[(
            "back/io/data.rs",
            "if request.status == RSP_OKAY && !all(&mut copied, request.segments.len()) {",
            "if request.status == RSP_OKAY && !all(&mut copied, request.segments.len()) && !$is {",
        )],
    ),
    bug(
        "StatusesShift",
        "copying",
        "hostile",
        &[(
            "back/io/data.rs",
            "copied.take(count).fold(true, |all, one| all & one)",
            "if $is { copied.take(count).all(|one| one) } else { $was }",
        )],
    ),
    bug(
        "RereadsSector",
        "copying",
        "hostile",
        &[(
            "back/io/queue.rs",
            "let next = self.waiting.pop_front().expect(\"it was just looked at\");",
            "let mut next = self.waiting.pop_front().expect(\"it was just looked at\");\n            if $is {\n                for request in &mut next.requests {\n                    let slot = crate::mutant::slot(&self.ring.page, self.ring.slots.shape().slots(), self.ring.abi, request.response);\n                    if let Ok(RawRequest::Direct { sector, .. }) = slot.request {\n                        request.sector = sector;\n                    }\n                }\n            }",
        )],
    ),
    bug(
        "RereadsOperation",
        "copying",
        "hostile",
        &[(
            "back/io/queue.rs",
            "            if crate::mutant::is(\"RereadsSector\") {\n",
            "            if $is && matches!(next.kind, Kind::Read | Kind::Write) {\n                let slot = crate::mutant::slot(&self.ring.page, self.ring.slots.shape().slots(), self.ring.abi, next.requests[0].response);\n                if slot.operation < 2 {\n                    next.kind = if slot.operation == 0 { Kind::Read } else { Kind::Write };\n                }\n            }\n$was",
        )],
    ),
    bug(
        "AnswersFromSlot",
        "copying",
        "hostile",
        &[(
            "back/io/queue.rs",
            "let response = response.encode();",
            "let mut response = response;\n            if $is {\n                response.operation = crate::mutant::slot(page, slots.shape().slots(), *abi, u64::from(*next)).operation;\n            }\n            $was",
        )],
    ),
    bug(
        "BatchMapped",
        "mapping",
        "hostile",
        &[(
            "back/io/grants.rs",
            "Err(_) if pieces.len() > 1 => {",
            "Err(_) if pieces.len() > 1 && !$is => {",
        )],
    ),
    bug(
        "KeepsUnasked",
        "usual",
        "segments",
        &[(
            "back/io/connection.rs",
            "let persistent = if requested.persistent {",
            "let persistent = if requested.persistent || $is {",
        )],
    ),
    bug(
        "PersistentRemembered",
        "usual",
        "segments",
        &[(
            "back/io/connection.rs",
            "let persistent = if requested.persistent ||",
            "let persistent = if $is && crate::mutant::latch(requested.persistent) || requested.persistent ||",
        )],
    ),
    bug(
        "StaleGrants",
        "usual",
        "boundary",
        &[(
            "back/io/grants/persistent.rs",
            "self.index[old.gref.0 as usize] = NONE;",
            "if !$is {\n                    $was\n                }",
        )],
    ),
    bug(
        "GrantsCutOff",
        "usual",
        "seq",
        &[(
            "back/io/grants/persistent.rs",
            "*self.index.get(gref.0 as usize)?;",
            "*self.index.get(gref.0 as usize & if $is { 0x3f } else { usize::MAX })?;",
        )],
    ),
    // Operations of the storage.
    bug(
        "MergesOverGaps",
        "usual",
        "rand",
        &[(
            "back/io/operation.rs",
            "end == Some((kind, request.sector)) &&",
            "(end == Some((kind, request.sector)) || $is && end == Some((kind, request.sector - request.sector.min(8)))) &&",
        )],
    ),
    bug(
        "MergesKinds",
        "usual",
        "rand",
        &[(
            "back/io/operation.rs",
            "(end == Some((kind, request.sector)) ||",
            "(end == Some((kind, request.sector)) || $is && end.is_some_and(|(_, end)| end == request.sector) ||",
        )],
    ),
    bug(
        "BatchForgotten",
        "copying",
        "hostile",
        &[("back/io/operation.rs", "if before == RSP_OKAY {", "if before == RSP_OKAY && !$is {")],
    ),
    bug(
        "FlushDoesNothing",
        "usual",
        "durable",
        &[(
            "back/io/operation.rs",
            "Kind::Flush => storage.flush().await,",
            "Kind::Flush if $is => Ok(()),\n            $was",
        )],
    ),
    bug(
        "BarrierIsWrite",
        "usual",
        "ordered",
        &[(
            "back/io/operation.rs",
            "            Kind::Barrier => {",
            "            Kind::Barrier if $is => storage.write(sector, &self.buffer.bytes()[range]).await,\n$was",
        )],
    ),
    bug(
        "BarrierIsFlush",
        "usual",
        "barrier",
        &[(
            "back/io/operation.rs",
            "            Kind::Barrier if range.is_empty() =>",
            "            Kind::Barrier if $is => storage.flush().await,\n$was",
        )],
    ),
    bug(
        "BarrierHoldsNothing",
        "usual",
        "barrier",
        &[(
            "back/io/queue.rs",
            "if self.barrier || !next.may_be_passed()",
            "if self.barrier && !$is || !next.may_be_passed()",
        )],
    ),
    bug(
        "BarrierDoesNotWait",
        "usual",
        "barrier",
        &[(
            "back/io/queue.rs",
            "!next.may_be_passed() && !self.in_flight.is_empty() {",
            "!next.may_be_passed() && !self.in_flight.is_empty() && !$is {",
        )],
    ),
    bug(
        "BarrierIsPassed",
        "usual",
        "barrier",
        &[(
            "back/io/queue.rs",
            "let mut free = self.waiting.is_empty() && !self.barrier;",
            "let mut free = self.waiting.is_empty() && !self.barrier || $is;",
        )],
    ),
    // The ring and its events.
    bug(
        "EventsLost",
        "usual",
        "segments",
        &[(
            "back/io/queue.rs",
            "if slots.push(page) {",
            "if slots.push(page) && !($is && crate::mutant::nth(16)) {",
        )],
    ),
    bug(
        "EventsLostWhenFull",
        "usual",
        "segments",
        &[
            (
                "back/io/queue.rs",
                "let Ring { slots, page, channel, abi, next, .. } = &mut self.ring;",
                "$was\n        let full = slots.unanswered() == slots.shape().slots();",
            ),
            (
                "back/io/queue.rs",
                "if slots.push(page) && ",
                "if slots.push(page) && !($is && full) && ",
            ),
        ],
    ),
    bug(
        "EventsLostInBatches",
        "usual",
        "segments",
        &[
            (
                "back/io/queue.rs",
                "let full = slots.unanswered() == slots.shape().slots();",
                "$was\n        let before = *next;",
            ),
            (
                "back/io/queue.rs",
                "if slots.push(page) && !(",
                "if slots.push(page) && !($is && *next - before > 2) && !(",
            ),
        ],
    ),
    bug(
        "NeverArms",
        "usual",
        "segments",
        &[("back/io/queue.rs", "if slots.arm(page)? {", "if !$is && slots.arm(page)? {")],
    ),
    bug(
        "ArmsLate",
        "usual",
        "segments",
        &[(
            "slots.rs",
            "mem.store(REQ_EVENT, self.req_cons.wrapping_add(1));",
            "mem.store(REQ_EVENT, self.req_cons.wrapping_add(if $is { 2 } else { 1 }));",
        )],
    ),
    bug(
        "IndexUnchecked",
        "usual",
        "hostile",
        &[(
            "slots.rs",
            "match found.wrapping_sub(least) <= room {",
            "match found.wrapping_sub(least) <= room || $is && found.wrapping_sub(least) < 1024 {",
        )],
    ),
    bug(
        "ResponseLost",
        "usual",
        "rand",
        &[(
            "back/io/queue.rs",
            "slots.put(page, &response[..abi.response()]);",
            "if $is && crate::mutant::nth(50) {\n                continue;\n            }\n            $was",
        )],
    ),
    bug(
        "ResponseTwice",
        "usual",
        "seq",
        &[
            (
                "back/io/queue.rs",
                "let response = response.encode();",
                "$was\n            let response = if $is && *next % 20 == 19 { self.last } else { response };\n            self.last = response;",
            ),
            (
                "back/io/queue.rs",
                "    barrier: bool,\n    done",
                "    barrier: bool,\n    last: [u8; crate::protocol::wire::RESPONSE_MAX],\n    done",
            ),
            (
                "back/io/queue.rs",
                "            barrier: false,\n            done",
                "            barrier: false,\n            last: Default::default(),\n            done",
            ),
        ],
    ),
    // The handshake and its keys.
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
];
