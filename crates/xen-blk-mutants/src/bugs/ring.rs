//! The ring and its events.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
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
    bug(
        "EventLostAtProd",
        "usual",
        "segments",
        &[(
            "slots.rs",
            "    new.wrapping_sub(mem.load(event)) < new.wrapping_sub(old)",
            "    let event = mem.load(event);\n    let last = $is && prod == RSP_PROD && event == new;\n    new.wrapping_sub(event) < new.wrapping_sub(old) && !last",
        )],
    ),
    bug(
        "EventLostAtFirst",
        "usual",
        "segments",
        &[(
            "slots.rs",
            "    let last = ",
            "    let last = $is && prod == RSP_PROD && event == old.wrapping_add(1) && new.wrapping_sub(old) > 1\n        || ",
        )],
    ),
    bug(
        "StatusOfNeighbour",
        "usual",
        "hostile",
        &[(
            "back/io/queue.rs",
            "        while let Some(response) = self.responses.next(now, &mut stats) {\n",
            "$was            let mut response = response;\n            if $is {\n                crate::mutant::exchange_status(&mut response.status);\n            }\n",
        )],
    ),
    bug(
        "SameIdDropped",
        "usual",
        "hostile",
        &[
            (
                "back/io/queue.rs",
                "            let now = *now.get_or_insert_with(|| self.platform.now());",
                "            if $is && self.responses.has(id) {\n                continue;\n            }\n$was",
            ),
            (
                "back/io/responses.rs",
                "impl Responses {\n",
                "impl Responses {\n    pub fn has(&self, id: u64) -> bool {\n        self.owed.iter().any(|owed| owed.id == id && owed.status.is_none())\n    }\n",
            ),
        ],
    ),
];
