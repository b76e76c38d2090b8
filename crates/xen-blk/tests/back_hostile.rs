//! A frontend that breaks every rule there is: each request is answered with an error, the disk
//! goes on, and so do others.

mod back_common;

use back_common::*;
use std::cell::Cell;
use std::rc::Rc;
use xen_abi::blkif::{OP_INDIRECT, RSP_EOPNOTSUPP, RSP_ERROR, RSP_OKAY};
use xen_abi::xenbus::State;
use xen_blk::back::storage::Info;
use xen_blk::back::{Config, DataPath, End, PeerError, Ram, Storage};
use xen_blk::protocol::wire::{Abi, Op, RawRequest, Segment, encode, encode_segments};
use xen_blk::toolstack::{self, Attributes};
use xen_platform::{Channel as _, GrantRef, Granted, IndexMemory, PAGE_SIZE, Platform, SharedMem};

fn direct(op: Op, sector: u64, segments: &[Segment]) -> RawRequest {
    RawRequest::Direct { op, sector, segments: segments.into() }
}

/// Serves a RAM disk of 1024 sectors and a second one, and runs a hostile frontend against the
/// first; afterwards both work.
fn against(
    config: Config,
    layout: Layout,
    attack: impl AsyncFn(&mut RawFront, &Rc<Ram>) + 'static,
) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let (ram, other) = (Rc::new(Ram::with_sectors(1024)), Rc::new(Ram::with_sectors(1024)));
        let served = dom0.plug(XVDA, &ram, config.clone()).await;
        let bystander = dom0.plug(XVDB, &other, config).await;
        let mut raw = RawFront::connect(&guest, XVDA, layout).await;
        let mut quiet = RawFront::connect(&guest, XVDB, Layout::default()).await;
        quiet.works().await;
        attack(&mut raw, &ram).await;
        quiet.works().await;
        raw.works().await;
        quiet.close().await;
        raw.close().await;
        served.unplug().await;
        bystander.unplug().await;
    });
}

fn everywhere(attack: impl AsyncFn(&mut RawFront, &Rc<Ram>) + Copy + 'static) {
    for abi in [Abi::X86_64, Abi::X86_32] {
        for (data_path, persistent) in
            [(DataPath::Copy, 0), (DataPath::Map, 0), (DataPath::Copy, 16)]
        {
            against(
                Config::default().with(|config| {
                    config.data_path = data_path;
                    config.persistent = persistent;
                }),
                Layout { abi, ..Layout::default() },
                attack,
            );
        }
    }
}

#[test]
fn malformed_request_fails() {
    everywhere(async |raw: &mut RawFront, ram: &Rc<Ram>| {
        ram.poke(0, &pattern(1024 * 512, 1));
        let page = raw.segment(0, 0, 7);
        let one = |sector| direct(Op::Read, sector, &[page]);
        for (why, body, wanted) in [
            ("past the end", one(1017), RSP_ERROR),
            ("behind the end", one(1024), RSP_ERROR),
            ("far behind the end", one(1 << 32), RSP_ERROR),
            ("wraps", one(u64::MAX - 3), RSP_ERROR),
            ("wraps in bytes", one(1 << 55), RSP_ERROR),
            ("a write past the end", direct(Op::Write, 1020, &[page]), RSP_ERROR),
            ("a barrier past the end", direct(Op::Barrier, 1020, &[page]), RSP_ERROR),
            (
                "no such grant",
                direct(Op::Read, 0, &[Segment { gref: NO_GRANT, first: 0, last: 7 }]),
                RSP_ERROR,
            ),
            (
                "no such grant to write",
                direct(Op::Write, 0, &[Segment { gref: NO_GRANT, first: 0, last: 7 }]),
                RSP_ERROR,
            ),
            (
                "discard past the end",
                RawRequest::Discard { sector: 1000, count: 25, secure: false },
                RSP_ERROR,
            ),
            (
                "discard wraps",
                RawRequest::Discard { sector: 8, count: u64::MAX, secure: true },
                RSP_ERROR,
            ),
            (
                "discard of nothing",
                RawRequest::Discard { sector: 1024, count: 0, secure: true },
                RSP_OKAY,
            ),
            ("the last sector", direct(Op::Read, 1023, &[raw.segment(0, 7, 7)]), RSP_OKAY),
            ("all of it", one(1016), RSP_OKAY),
        ] {
            assert_eq!(raw.status(&body).await, wanted, "{why}");
        }
        let mut all = vec![0; 1024 * 512];
        ram.peek(0, &mut all);
        assert!(all == pattern(1024 * 512, 1), "nothing was written");
    });
}

#[test]
fn slot_of_any_bytes_fails() {
    everywhere(async |raw: &mut RawFront, ram: &Rc<Ram>| {
        ram.poke(0, &pattern(1024 * 512, 2));
        let good = encode(raw.abi, 7, &direct(Op::Write, 0, &[raw.segment(0, 0, 7); 11]));
        let seg = good.len() - 11 * 8;
        for (why, at, value, wanted) in [
            ("operation 4", 0, 4, RSP_EOPNOTSUPP),
            ("operation 7", 0, 7, RSP_EOPNOTSUPP),
            ("operation 255", 0, 255, RSP_EOPNOTSUPP),
            ("no segments", 1, 0, RSP_ERROR),
            ("12 segments", 1, 12, RSP_ERROR),
            ("255 segments", 1, 255, RSP_ERROR),
            ("first behind last", seg + 4, 8, RSP_ERROR),
            ("last behind the page", seg + 5, 8, RSP_ERROR),
            ("last far behind the page", seg + 10 * 8 + 5, 255, RSP_ERROR),
        ] {
            let mut slot = good.clone();
            slot[at] = value;
            raw.put(&slot);
            let response = raw.response().await;
            assert_eq!(
                (response.id, response.operation, response.status),
                (7, slot[0], wanted),
                "{why}"
            );
        }
        let mut all = vec![0; 1024 * 512];
        ram.peek(0, &mut all);
        assert!(all == pattern(1024 * 512, 2), "nothing was written");
    });
}

#[test]
fn malformed_indirect_request_fails() {
    everywhere(async |raw: &mut RawFront, ram: &Rc<Ram>| {
        let list = raw.data.refs()[7];
        let indirect = |op, count, pages: &[GrantRef]| RawRequest::Indirect {
            op,
            sector: 0,
            count,
            pages: pages.into(),
        };
        raw.data
            .write(7 * PAGE_SIZE, &encode_segments(&[raw.segment(1, 0, 7), raw.segment(2, 0, 7)]));
        assert_eq!(raw.status(&indirect(Op::Write, 2, &[list])).await, RSP_OKAY);
        assert_eq!(
            raw.status(&indirect(Op::Write, 3, &[list])).await,
            RSP_ERROR,
            "the third is no grant"
        );
        assert_eq!(raw.status(&indirect(Op::Write, 1, &[NO_GRANT])).await, RSP_ERROR, "no list");
        assert_eq!(
            raw.status(&indirect(Op::Write, 257, &[list])).await,
            RSP_ERROR,
            "more than offered"
        );
        assert_eq!(
            raw.status(&indirect(Op::Write, 4097, &[list; 8])).await,
            RSP_ERROR,
            "nine pages' worth"
        );
        assert_eq!(raw.status(&indirect(Op::Write, 0, &[])).await, RSP_ERROR, "nothing");
        assert_eq!(
            raw.status(&indirect(Op::Flush, 1, &[list])).await,
            RSP_ERROR,
            "an indirect flush"
        );
        let mut nested = encode(raw.abi, 9, &indirect(Op::Read, 1, &[list]));
        nested[1] = OP_INDIRECT;
        raw.put(&nested);
        assert_eq!(raw.response().await.status, RSP_ERROR, "an indirect of an indirect");
        for (first, last) in [(8, 8), (5, 4), (0, 255)] {
            raw.data.write(7 * PAGE_SIZE, &encode_segments(&[Segment { gref: list, first, last }]));
            assert_eq!(
                raw.status(&indirect(Op::Read, 1, &[list])).await,
                RSP_ERROR,
                "{first} to {last}"
            );
        }
        // The list as its own data, and the ring, too: the guest only spoils its own pages.
        raw.data.write(7 * PAGE_SIZE, &encode_segments(&[raw.segment(7, 0, 7)]));
        assert_eq!(raw.status(&indirect(Op::Read, 1, &[list])).await, RSP_OKAY);
        let mut sector = [1; 512];
        ram.peek(0, &mut sector);
        assert_ne!(sector, [1; 512]);
    });
}

#[test]
fn read_into_read_only_grant_fails_alone() {
    for (data_path, persistent) in
        [(DataPath::Copy, 0), (DataPath::Map, 0), (DataPath::Copy, 16), (DataPath::Map, 16)]
    {
        let config = Config::default().with(|config| {
            config.data_path = data_path;
            config.persistent = persistent;
        });
        against(config, Layout::default(), async |raw: &mut RawFront, _: &Rc<Ram>| {
            let page = raw.host.domain.share_read_only(DOM0, 1).unwrap();
            page.write(0, &pattern(PAGE_SIZE, 3));
            let segment = Segment { gref: page.refs()[0], first: 0, last: 7 };
            // Adjacent, so that they are put together.
            for (sector, segment) in
                [(0, raw.segment(0, 0, 7)), (8, segment), (16, raw.segment(1, 0, 7))]
            {
                raw.ask(&direct(Op::Read, sector, &[segment]));
            }
            let statuses = [raw.response().await, raw.response().await, raw.response().await]
                .map(|r| r.status);
            assert_eq!(statuses, [RSP_OKAY, RSP_ERROR, RSP_OKAY]);
            // To be written, it is as good as any.
            assert_eq!(raw.status(&direct(Op::Write, 100, &[segment])).await, RSP_OKAY);
            assert_eq!(raw.read(100, PAGE_SIZE).await, pattern(PAGE_SIZE, 3));
        });
    }
}

#[test]
fn read_only_disk_write_fails() {
    for (by_toolstack, by_storage) in [(true, false), (false, true)] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.run(async move {
            let ram =
                Rc::new(Ram::new(Info { read_only: by_storage, ..Ram::with_sectors(64).info() }));
            let attributes = Attributes { read_only: by_toolstack, ..Attributes::default() };
            toolstack::create(&dom0.store, &device(XVDA), &attributes).await.unwrap();
            let served = dom0.serve(XVDA, &ram, Config::default());
            let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
            let info = guest
                .store
                .read_string(&format!("{}/info", device(XVDA).back_path()))
                .await
                .unwrap();
            assert_eq!(info, "4");
            raw.data.write(0, &[1; PAGE_SIZE]);
            let page = raw.segment(0, 0, 7);
            assert_eq!(raw.status(&direct(Op::Write, 0, &[page])).await, RSP_ERROR);
            assert_eq!(raw.status(&direct(Op::Barrier, 0, &[page])).await, RSP_ERROR);
            assert_eq!(raw.status(&direct(Op::Flush, 0, &[page])).await, RSP_ERROR);
            assert_ne!(
                raw.status(&RawRequest::Discard { sector: 0, count: 8, secure: false }).await,
                RSP_OKAY
            );
            let list = raw.data.refs()[7];
            raw.data.write(7 * PAGE_SIZE, &encode_segments(&[page]));
            let indirect =
                RawRequest::Indirect { op: Op::Write, sector: 0, count: 1, pages: vec![list] };
            assert_eq!(raw.status(&indirect).await, RSP_ERROR);
            assert_eq!(raw.status(&direct(Op::Flush, 0, &[])).await, RSP_OKAY);
            assert_eq!(raw.read(0, PAGE_SIZE).await, vec![0; PAGE_SIZE]);
            raw.close().await;
            served.unplug().await;
        });
    }
}

/// XSA-155: what is checked is what is used, because it is read once.
#[test]
fn list_changed_after_its_copy_has_no_effect() {
    everywhere(async |raw: &mut RawFront, ram: &Rc<Ram>| {
        ram.poke(0, &pattern(1024 * 512, 4));
        let ring = raw.ring.refs()[0];
        let list = raw.data.refs()[7];
        raw.data.write(7 * PAGE_SIZE, &encode_segments(&[raw.segment(0, 0, 7); 4]));
        let world = raw.host.domain.world().clone();
        // Before each read of a slot or the list, all of it is good; at every later look, all ones.
        let (slots, seen) = (world.page_of(GUEST, ring), Rc::new(Cell::new(0)));
        let counts = world.count_reads(DOM0);
        let count = seen.clone();
        let spoil = world.on_access(move |access| {
            if access.by == DOM0 && access.owner == GUEST && access.gref == ring && access.at >= 64
            {
                count.set(count.get() + 1);
                if count.get() > 1 {
                    slots.write(64, &[0xff; 1024]);
                }
            }
        });
        let body = RawRequest::Indirect { op: Op::Read, sector: 8, count: 4, pages: vec![list] };
        assert_eq!(raw.status(&body).await, RSP_OKAY);
        drop(spoil);
        assert_eq!(
            counts.most(GUEST, ring, 64..PAGE_SIZE),
            1,
            "a byte of the request was read twice"
        );
        assert_eq!(counts.most(GUEST, list, 0..PAGE_SIZE), 1, "a byte of the list was read twice");
    });
}

/// XSA-216: what was in the backend's memory is not shown.
#[test]
fn response_padding_is_zero() {
    everywhere(async |raw: &mut RawFront, _: &Rc<Ram>| {
        raw.ring.write(64, &[0xaa; PAGE_SIZE - 64]);
        let body = direct(Op::Read, 0, &[raw.segment(0, 0, 7)]);
        raw.ask(&body);
        let (bytes, _) = raw.raw_response().await;
        assert_eq!(bytes[9], 0, "{bytes:?}");
        assert_eq!(bytes[12..], [0; 4]);
    });
}

#[test]
fn data_page_gets_only_its_data() {
    everywhere(async |raw: &mut RawFront, ram: &Rc<Ram>| {
        ram.poke(3, &[0x11; 512]);
        raw.data.write(0, &[0xee; PAGE_SIZE]);
        assert_eq!(raw.status(&direct(Op::Read, 3, &[raw.segment(0, 2, 2)])).await, RSP_OKAY);
        let mut page = [0; PAGE_SIZE];
        raw.data.read(0, &mut page);
        let wanted = |at: usize| if (1024..1536).contains(&at) { 0x11 } else { 0xee };
        assert!(page.iter().enumerate().all(|(at, byte)| *byte == wanted(at)));
    });
}

/// Ends the connection with a corrupt index; the frontend can connect again, and the other disk
/// never notices.
fn corrupt_index(change: impl Fn(u32) -> u32 + Copy + 'static, start: u32) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(1024));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let bystander = dom0.plug(XVDB, &ram, Config::default()).await;
        let mut quiet = RawFront::connect(&guest, XVDB, Layout::default()).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout { start, ..Layout::default() }).await;
        raw.works().await;
        raw.ring.store(0, change(raw.ring.load(0)));
        raw.channel.notify();
        raw.until(State::CLOSING).await;
        assert!(raw.error().contains("req_prod of the shared ring"), "{}", raw.error());
        assert!(matches!(served.handle.broken(), Some(PeerError::Ring { queue: 0, .. })));
        assert_eq!(
            guest.domain.world().leaks().iter().filter(|leak| leak.contains("maps")).count(),
            1
        );
        quiet.works().await;
        raw.set_state(State::CLOSED);
        raw.until(State::CLOSED).await;
        raw.set_state(State::INITIALISING);
        raw.until(State::INIT_WAIT).await;
        drop(raw);
        let mut again = RawFront::connect(&guest, XVDA, Layout::default()).await;
        again.works().await;
        again.close().await;
        quiet.close().await;
        assert_eq!(served.handle.stats().broken, 1);
        served.unplug().await;
        bystander.unplug().await;
    });
}

#[test]
fn impossible_index_ends_only_the_connection() {
    for start in [0, u32::MAX - 1] {
        corrupt_index(|prod| prod.wrapping_add(33), start);
        corrupt_index(|prod| prod.wrapping_sub(1), start);
        corrupt_index(|prod| prod ^ 0x8000_0000, start);
        corrupt_index(|prod| prod.wrapping_add(u32::MAX / 2), start);
    }
}

/// Publishes keys of which one is wrong.
fn wrong_key(key: &'static str, value: &'static str, wanted: &'static str) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let raw = RawFront::publish(&guest, XVDA, Layout::default());
        raw.set_state(State::INITIALISING);
        match value {
            "" => guest.xs.remove(&format!("{}/{key}", device(XVDA).front_path())),
            _ => guest.xs.set(&format!("{}/{key}", device(XVDA).front_path()), value),
        }
        raw.set_state(State::INITIALISED);
        raw.until(State::CLOSING).await;
        assert!(raw.error().contains(wanted), "{}", raw.error());
        raw.set_state(State::CLOSED);
        raw.until(State::CLOSED).await;
        served.unplug().await;
    });
}

#[test]
fn malformed_key_is_named() {
    wrong_key("event-channel", "", "event-channel is missing");
    wrong_key("ring-ref", "", "ring-ref is missing");
    wrong_key("ring-ref", "-1", "ring-ref is \"-1\"");
    wrong_key("ring-ref", "99999999999", "ring-ref is \"99999999999\"");
    wrong_key(
        "ring-ref",
        "30000",
        "ring 0: domain 0 cannot map 1 pages of domain 1: grant 30000 does not exist",
    );
    wrong_key("event-channel", "77", "ring 0: domain 0 cannot bind to port 77 of domain 1");
    wrong_key("event-channel", "4 ", "event-channel is \"4 \"");
    wrong_key(
        "protocol",
        "arm-abi",
        "protocol is \"arm-abi\", which is not x86_64-abi or x86_32-abi",
    );
    wrong_key("ring-page-order", "5", "ring-page-order is \"5\", which is not 0 to 4");
    wrong_key("ring-page-order", "4294967295", "ring-page-order is");
    wrong_key(
        "multi-queue-num-queues",
        "2",
        "multi-queue-num-queues is \"2\", which is not 1 to 1",
    );
    wrong_key("multi-queue-num-queues", "0", "multi-queue-num-queues is \"0\"");
    wrong_key("feature-persistent", "7", "feature-persistent is \"7\"");
}

/// XSA-350 and 349: the frontend changes its state as fast as it can, to anything.
#[test]
fn flipping_states_do_no_harm() {
    let mut bench = Bench::with_seed(7);
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let raw = RawFront::publish(&guest, XVDA, Layout::default());
        let path = format!("{}/state", device(XVDA).front_path());
        for step in pattern(10_000, 9) {
            guest.xs.set(
                &path,
                ["1", "2", "3", "4", "5", "6", "7", "99", "x", ""][usize::from(step) % 10],
            );
            if step > 128 {
                xen_exec::yield_now().await;
            }
        }
        for state in [State::CLOSING, State::CLOSED, State::INITIALISING] {
            raw.set_state(state);
            guest.moment().await;
        }
        raw.until(State::INIT_WAIT).await;
        drop(raw);
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        raw.works().await;
        raw.close().await;
        served.unplug().await;
    });
}

/// XSA-332: events without requests cost the backend a look at the ring each, and nobody else
/// anything.
#[test]
fn event_storm_does_no_harm() {
    against(Config::default(), Layout::default(), async |raw: &mut RawFront, _: &Rc<Ram>| {
        for _ in 0..10_000 {
            raw.channel.notify();
            xen_exec::yield_now().await;
        }
    });
}

#[test]
fn full_ring_is_completed_in_order() {
    everywhere(async |raw: &mut RawFront, _: &Rc<Ram>| {
        for round in 0..20u64 {
            let ids: Vec<u64> = (0..32)
                .map(|n| match (n + round) % 5 {
                    0 => raw.ask(&direct(Op::Write, n * 8, &[raw.segment(0, 0, 7)])),
                    1 => raw.ask(&direct(
                        Op::Read,
                        n * 8,
                        &[raw.segment(1, 0, 7), raw.segment(2, 3, 3)],
                    )),
                    2 => raw.ask(&direct(Op::Read, n << 40, &[raw.segment(1, 0, 7)])),
                    3 => raw.ask(&direct(Op::Barrier, 0, &[])),
                    _ => raw.ask(&RawRequest::Discard { sector: n, count: 1, secure: true }),
                })
                .collect();
            for id in ids {
                assert_eq!(raw.response().await.id, id);
            }
        }
    });
}

#[test]
fn destroyed_guest_leaves_nothing() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(1024));
        let served =
            dom0.plug(XVDA, &ram, Config::default().with(|config| config.persistent = 16)).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        raw.works().await;
        raw.ask(&direct(Op::Write, 0, &[raw.segment(0, 0, 7)]));
        drop((raw, guest));
        world.destroy(GUEST);
        assert_eq!(served.end().await, End::Gone);
    });
}
