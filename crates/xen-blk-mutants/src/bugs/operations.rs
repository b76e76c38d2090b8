//! Operations of the storage, and their order.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
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
    bug(
        "BarrierFlushesAfter",
        "usual",
        "ordered",
        &[(
            "back/io/operation.rs",
            "                storage.flush().await?;\n                storage.write",
            "                if !$is {\n                    storage.flush().await?;\n                }\n                storage.write",
        )],
    ),
    bug(
        "BarrierFlushesBefore",
        "usual",
        "ordered",
        &[(
            "back/io/operation.rs",
            "storage.write(sector, &self.buffer.bytes()[range]).await?;\n                storage.flush().await\n",
            "storage.write(sector, &self.buffer.bytes()[range]).await?;\n                if $is {\n                    return Ok(());\n                }\n                storage.flush().await\n",
        )],
    ),
    bug(
        "DiscardRoundsOut",
        "usual",
        "discard",
        &[(
            "back/io/operation.rs",
            "            Kind::Discard { count, secure } =>",
            "            Kind::Discard { count, secure } if $is => {\n                let (first, end) = (sector / 8 * 8, (sector + count).next_multiple_of(8));\n                storage.discard(first, end - first, secure).await\n            }\n$was",
        )],
    ),
    bug(
        "DiscardIsLate",
        "usual",
        "discard",
        &[
            (
                "back/io/operation.rs",
                "            Kind::Discard { count: 0, .. } => Ok(()),\n",
                "$was            Kind::Discard { count, secure } if $is => {\n                crate::mutant::put_off((sector, count, secure));\n                Ok(())\n            }\n",
            ),
            (
                "back/io/operation.rs",
                "            Kind::Write => storage.write(sector, &self.buffer.bytes()[range]).await,",
                "            Kind::Write if $is => {\n                let written = storage.write(sector, &self.buffer.bytes()[range]).await;\n                for (sector, count, secure) in crate::mutant::take_off() {\n                    let _ = storage.discard(sector, count, secure).await;\n                }\n                written\n            }\n$was",
            ),
        ],
    ),
];
