//! The catalogue: each act is one way to break the protocol.

/// One way to break the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Its name.
    pub name: &'static str,
    /// The deed of the backend.
    pub about: &'static str,
    /// A bug of that kind which happened, or the rule that is broken.
    pub source: &'static str,
    /// The least that a frontend has to do.
    pub demand: Demand,
    pub(crate) deed: Deed,
}

/// The least that a frontend has to do, besides staying alive and taking an honest disk afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Nothing: it may end the connection, go on, or use the disk no more.
    Survive,
    /// It must not use the disk.
    Refuse,
    /// The protocol permits the deed: it has to go on.
    GoOn,
}

/// A deed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// Nothing: an honest disk.
    None,
    /// These keys have other values; without one a key is missing.
    Keys(&'static [(&'static str, Option<&'static str>)]),
    /// These states are written first, one after another, and again for that number of times.
    States(&'static [u32], u32),
    /// A response is another.
    Response(Response),
    /// A number of events that come for nothing.
    Events(u32),
    /// The pages of all requests stay mapped until another disk has been served.
    Mapped,
    /// Responses come in the other order than their requests.
    Reversed,
    /// Requests are not answered, and the backend closes.
    Closes,
    /// Requests are not answered, and the backend's folder goes away.
    Vanishes,
}

/// Faults of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Response {
    /// Its id is of no slot.
    FarId,
    /// Its id is of a slot, but of no request in flight.
    FreeId,
    /// It is given twice.
    Twice,
    /// Its operation is another.
    Operation,
    /// Its status is none of the protocol.
    Status(i16),
    /// The index is so far ahead of the responses.
    Ahead(u32),
    /// The index goes back.
    Back,
    /// It is rewritten again and again after it was published.
    Rewritten,
    /// It is an error.
    Error,
    /// Everything behind its fields is filled, its padding too.
    Padding,
}

const fn act(
    name: &'static str,
    about: &'static str,
    source: &'static str,
    demand: Demand,
    deed: Deed,
) -> Act {
    Act { name, about, source, demand, deed }
}

/// The backend that does nothing wrong.
pub(crate) const HONEST: Act = act("honest", "an honest disk", "", Demand::GoOn, Deed::None);

use Demand::{GoOn, Refuse, Survive};

/// Keys that a frontend needs not understand are offered with the largest number.
const LARGEST: Option<&str> = Some("4294967295");
const XENBUS: &str = "xen/io/xenbus.h, enum xenbus_state";
const BLKIF: &str = "xen/io/blkif.h, Backend XenBus Nodes";
const RING: &str = "xen/io/ring.h; Linux's blkfront was hardened against it in 2021 (5.16)";

/// All of them.
pub const ACTS: &[Act] = &[
    act(
        "far-id",
        "a response has an id beyond the ring",
        "Linux blkfront used it as an index until 5.16; Mini-OS and Unikraft take it for a pointer",
        Survive,
        Deed::Response(Response::FarId),
    ),
    act(
        "free-id",
        "a response has the id of no request in flight",
        RING,
        Survive,
        Deed::Response(Response::FreeId),
    ),
    act("twice", "a response comes twice", RING, Survive, Deed::Response(Response::Twice)),
    act(
        "operation",
        "a response has another operation than its request",
        RING,
        Survive,
        Deed::Response(Response::Operation),
    ),
    act(
        "status-unknown",
        "a response has the status -77",
        "xen/io/blkif.h, BLKIF_RSP_*",
        Survive,
        Deed::Response(Response::Status(-77)),
    ),
    act(
        "status-positive",
        "a response has the status 1, which is no success",
        "xen/io/blkif.h, BLKIF_RSP_*",
        Survive,
        Deed::Response(Response::Status(1)),
    ),
    act(
        "index-ahead",
        "the response index is one ahead of the responses",
        RING,
        Survive,
        Deed::Response(Response::Ahead(1)),
    ),
    act(
        "index-far",
        "the response index is 10000 ahead of the requests",
        RING,
        Survive,
        Deed::Response(Response::Ahead(10_000)),
    ),
    act(
        "index-back",
        "the response index goes back",
        RING,
        Survive,
        Deed::Response(Response::Back),
    ),
    act(
        "rewritten",
        "a response is rewritten while it is read",
        "double fetches: the kind of XSA-155, on the other side",
        Survive,
        Deed::Response(Response::Rewritten),
    ),
    act(
        "padding",
        "the padding of a response is not zero",
        "XSA-216: backends did so for years",
        GoOn,
        Deed::Response(Response::Padding),
    ),
    act("error", "a read fails", "xen/io/blkif.h", Survive, Deed::Response(Response::Error)),
    act(
        "reversed",
        "responses come in another order than their requests",
        "xen/io/blkif.h: the order is free",
        GoOn,
        Deed::Reversed,
    ),
    act("events", "20000 events for nothing", "XSA-391", GoOn, Deed::Events(20_000)),
    act(
        "mapped",
        "the pages of requests stay mapped after their responses",
        "XSA-396: frontends used such pages again",
        Survive,
        Deed::Mapped,
    ),
    act("closes", "the backend closes with requests in flight", XENBUS, Survive, Deed::Closes),
    act("vanishes", "the backend's folder goes away in use", XENBUS, Survive, Deed::Vanishes),
    act(
        "toggles",
        "the state goes to and fro a hundred times",
        "XSA-350: it crashed the other side",
        Survive,
        Deed::States(&[2, 4, 2, 5, 1, 6], 100),
    ),
    act(
        "early",
        "the backend is connected before the frontend has published a ring",
        XENBUS,
        Survive,
        Deed::States(&[4], 1),
    ),
    act("state-unknown", "the state is 99", XENBUS, Survive, Deed::States(&[99], 1)),
    act(
        "no-sectors",
        "the disk has no key sectors",
        BLKIF,
        Refuse,
        Deed::Keys(&[("sectors", None)]),
    ),
    act(
        "sectors-text",
        "sectors is no number",
        BLKIF,
        Refuse,
        Deed::Keys(&[("sectors", Some("many"))]),
    ),
    act(
        "sectors-overflow",
        "sectors is 2^64 - 1",
        BLKIF,
        Survive,
        Deed::Keys(&[("sectors", Some("18446744073709551615"))]),
    ),
    act(
        "sector-size-0",
        "sector-size is 0",
        BLKIF,
        Refuse,
        Deed::Keys(&[("sector-size", Some("0"))]),
    ),
    act(
        "sector-size-7",
        "sector-size is 7",
        BLKIF,
        Refuse,
        Deed::Keys(&[("sector-size", Some("7"))]),
    ),
    act(
        "sector-size-large",
        "sector-size is 2^31",
        BLKIF,
        Refuse,
        Deed::Keys(&[("sector-size", Some("2147483648"))]),
    ),
    act("info", "all bits of info are set", BLKIF, Survive, Deed::Keys(&[("info", LARGEST)])),
    act(
        "discard-0",
        "discards are offered with a granularity of 0 and a large alignment",
        BLKIF,
        Survive,
        Deed::Keys(&[
            ("feature-discard", Some("1")),
            ("discard-granularity", Some("0")),
            ("discard-alignment", LARGEST),
        ]),
    ),
    act(
        "rings",
        "rings of 2^(2^32 - 1) pages are offered",
        "XSA-155's kind; a frontend has to take what it wants",
        GoOn,
        Deed::Keys(&[
            ("max-ring-page-order", LARGEST),
            ("max-ring-pages", LARGEST),
            ("multi-queue-max-queues", Some("1")),
        ]),
    ),
];
