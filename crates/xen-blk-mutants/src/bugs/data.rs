//! Moving data, and the grants that lead to it.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
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
    bug(
        "ListEndsEarly",
        "usual",
        "segments",
        &[(
            "back/io/data.rs",
            "true => wire::segments(bytes).map_err(Malformed::status),",
            "true => wire::segments(bytes).map_err(Malformed::status).map(|mut list| {\n                if $is && list.len() >= 512 {\n                    list[511].gref = list[510].gref;\n                }\n                list\n            }),",
        )],
    ),
    bug(
        "OnlyFirstSegmentHasFirst",
        "usual",
        "segments",
        &[(
            "back/io/data.rs",
            "                let at = usize::from(segment.first) * blkif::SECTOR;",
            "                let first = core::ptr::eq(segment, &request.segments[0]);\n                let at = if $is && !first { 0 } else { usize::from(segment.first) * blkif::SECTOR };",
        )],
    ),
    bug(
        "PersistentAtPageStart",
        "usual",
        "segments",
        &[(
            "back/io/grants.rs",
            "usize::from(span.at) + self.done, at..at + step",
            "(if $is { 0 } else { usize::from(span.at) }) + self.done, at..at + step",
        )],
    ),
    bug(
        "ResponseBeforeData",
        "usual",
        "seq",
        &[
            (
                "back/io/queue.rs",
                "    done: Vec<Operation>,\n",
                "    done: Vec<Operation>,\n    late: Vec<Operation>,\n",
            ),
            (
                "back/io/queue.rs",
                "            done: Vec::new(),\n",
                "            done: Vec::new(),\n            late: Vec::new(),\n",
            ),
            (
                "back/io/queue.rs",
                "        data::copy_to_peer(&mut self.ring.grants, &mut done, self.handle);\n",
                "        if $is {\n            for operation in done.drain(..) {\n                self.barrier &= operation.kind != Kind::Barrier;\n                self.bytes -= operation.len();\n                self.complete(&operation.requests);\n                self.late.push(operation);\n            }\n            return;\n        }\n$was",
            ),
            (
                "back/io/queue.rs",
                "        for _ in 0..ROUNDS {\n",
                "        if !self.late.is_empty() {\n            cx.waker().wake_by_ref();\n            if crate::mutant::nth(4) {\n                let mut late = core::mem::take(&mut self.late);\n                data::copy_to_peer(&mut self.ring.grants, &mut late, self.handle);\n            }\n        }\n        let rounds = if $is { 1 } else { ROUNDS };\n        for _ in 0..rounds {\n",
            ),
        ],
    ),
];
