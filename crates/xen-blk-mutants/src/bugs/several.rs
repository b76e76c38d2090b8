//! Several rings of one connection that get in each other's way.

use super::{Bug, bug};

pub const BUGS: &[Bug] = &[
    bug(
        "RefusalFailsOtherRing",
        "usual",
        "hostile",
        &[
            (
                "back/io/queue.rs",
                "                    log::debug!(\"request {id:#x} on ring {}: {why}\", self.ring.number);",
                "                    crate::mutant::note_refusal(id, self.ring.number);\n$was",
            ),
            (
                "back/io/queue.rs",
                "        let Ring { slots, page, channel, abi, next, .. } = &mut self.ring;\n",
                "        let number = self.ring.number;\n$was",
            ),
            (
                "back/io/queue.rs",
                "            if crate::mutant::is(\"StatusOfNeighbour\") {",
                "            if $is && crate::mutant::is_refused_elsewhere(response.id, number) {\n                response.status = xen_abi::blkif::RSP_ERROR;\n            }\n$was",
            ),
        ],
    ),
    bug(
        "RefusalStopsOtherRing",
        "usual",
        "hostile",
        &[
            (
                "back/io/queue.rs",
                "        while !self.closing && room > 0 {",
                "        while !self.closing && room > 0 && !($is && crate::mutant::has_refusal_elsewhere(self.ring.number)) {",
            ),
            (
                "back/io/queue.rs",
                "        !self.closing && self.bytes",
                "        !self.closing && !($is && crate::mutant::has_refusal_elsewhere(self.ring.number)) && self.bytes",
            ),
            (
                "back/io/connection.rs",
                "        Ok(Connection { queues })",
                "        crate::mutant::forget_refusal();\n$was",
            ),
        ],
    ),
    bug(
        "RefusalAnsweredElsewhere",
        "usual",
        "hostile",
        &[(
            "back/io/queue.rs",
            "            if crate::mutant::is(\"RefusalFailsOtherRing\") &&",
            "            if $is {\n                crate::mutant::hand_over(&mut response, number);\n            }\n$was",
        )],
    ),
    bug(
        "IdsOfAllRings",
        "usual",
        "hostile",
        &[
            (
                "back/io/queue.rs",
                "            let response = self.responses.owe(id, operation, now);",
                "            let request = match request {\n                Ok(_) if $is && crate::mutant::is_in_flight_elsewhere(id, self.ring.number) => {\n                    Err(wire::Malformed::Operation(operation))\n                }\n                other => other,\n            };\n$was",
            ),
            (
                "back/io/queue.rs",
                "                crate::mutant::hand_over(&mut response, number);\n            }\n",
                "$was            if $is {\n                crate::mutant::ended(response.id, number);\n            }\n",
            ),
        ],
    ),
    bug(
        "FlushOnlyOnFirstRing",
        "usual",
        "durable",
        &[(
            "back/io/queue.rs",
            "            self.in_flight.push(carry_out(self.storage, next));",
            "            let mut next = next;\n            if $is && next.kind == Kind::Flush && self.ring.number > 0 {\n                next.kind = Kind::Discard { count: 0, secure: false };\n            }\n$was",
        )],
    ),
];
