//! A frontend that puts anything at all into the ring, its head and its lists of segments: every
//! request is answered, in order, with its own id, and then the disk works as before.

mod back_common;

use back_common::*;
use proptest::prelude::*;
use std::rc::Rc;
use xen_abi::xenbus::State;
use xen_blk::back::{Config, DataPath, End, Ram};
use xen_blk::protocol::wire::{Abi, Op, RawRequest, Segment, encode};
use xen_blk::toolstack;
use xen_platform::{Channel as _, Granted, IndexMemory, PAGE_SIZE, SharedMem};

/// A request, of any kind, before some of its bytes are changed.
#[derive(Clone, Debug)]
struct Seed {
    kind: u8,
    sector: u64,
    count: usize,
    /// Which bytes of the slot become what.
    changes: Vec<(usize, u8)>,
}

fn seed() -> impl Strategy<Value = Seed> {
    let sector = prop_oneof![0u64..64, any::<u64>(), (u64::MAX - 64)..=u64::MAX];
    let changes = prop::collection::vec((0usize..108, any::<u8>()), 0..4);
    (0u8..8, sector, 0usize..12, changes).prop_map(|(kind, sector, count, changes)| Seed {
        kind,
        sector,
        count,
        changes,
    })
}

fn slot(raw: &RawFront, seed: &Seed) -> Vec<u8> {
    let Seed { kind, sector, count, .. } = *seed;
    let ops = [Op::Read, Op::Write, Op::Barrier, Op::Flush];
    let op = ops[usize::from(kind % 4)];
    let body = match kind {
        0..4 => {
            let segments =
                (0..count.min(11)).map(|n| raw.segment(n % 8, (n % 8) as u8, 7)).collect();
            RawRequest::Direct { op, sector, segments }
        }
        4 | 5 => RawRequest::Indirect {
            op,
            sector,
            count: count * 100,
            pages: raw.data.refs()[..count.min(8)].to_vec(),
        },
        _ => RawRequest::Discard { sector, count: sector >> count, secure: kind == 7 },
    };
    let mut slot = encode(raw.abi, 0, &body);
    slot.resize(raw.abi.slot(), 0);
    for &(at, value) in &seed.changes {
        slot[at] = value;
    }
    slot
}

/// The id that a slot has, whatever else is in it.
fn id_of(abi: Abi, slot: &[u8]) -> u64 {
    let at = if abi == Abi::X86_64 { 8 } else { 4 };
    u64::from_le_bytes(slot[at..at + 8].try_into().unwrap())
}

fn play(seeds: Vec<Seed>, lists: Vec<u8>, abi: Abi, config: Config) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, config).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout { abi, ..Layout::default() }).await;
        raw.data.write(0, &lists);
        for batch in seeds.chunks(32) {
            let slots: Vec<_> = batch.iter().map(|seed| slot(&raw, seed)).collect();
            slots.iter().for_each(|slot| raw.front.put(&raw.ring, slot));
            raw.show();
            for slot in &slots {
                assert_eq!(raw.response().await.id, id_of(abi, slot));
            }
        }
        raw.works().await;
        raw.close().await;
        let stats = served.handle.stats().clone();
        assert_eq!((stats.in_flight, stats.completed()), (0, seeds.len() as u64 + 2));
        served.unplug().await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_request_is_answered(
        seeds in prop::collection::vec(seed(), 1..80),
        lists in prop::collection::vec(prop_oneof![0u8..10, any::<u8>()], PAGE_SIZE),
        narrow: bool,
        map: bool,
        persistent: bool,
    ) {
        let abi = if narrow { Abi::X86_32 } else { Abi::X86_64 };
        let data_path = if map { DataPath::Map } else { DataPath::Copy };
        let config = Config::default().with(|config| {
            config.data_path = data_path;
            config.persistent = if persistent { 4 } else { 0 };
        });
        play(seeds, lists, abi, config);
    }

    /// Attaches to a ring that somebody else is said to have served, with anything in its head.
    #[test]
    fn any_ring_is_attached_to_or_refused(
        head in prop::collection::vec(any::<u8>(), 64),
        indices in prop::option::of((any::<u32>(), 0u32..40)),
        marked: bool,
    ) {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.run(async move {
            let ram = Rc::new(Ram::with_sectors(64));
            let raw = {
                toolstack::create(&dom0.store, &device(XVDA), &Default::default()).await.unwrap();
                let raw = RawFront::publish(&guest, XVDA, Layout::default());
                raw.ring.write(0, &head);
                if let Some((rsp_prod, open)) = indices {
                    raw.ring.store(8, rsp_prod);
                    raw.ring.store(0, rsp_prod.wrapping_add(open));
                    if marked {
                        // A journal's entry that counts, for any response.
                        raw.ring.store(16, rsp_prod.wrapping_add(open / 2));
                        raw.ring.store(20, raw.ring.load(16) ^ 0x6a72_6e6c);
                    }
                }
                raw.set_state(State::CONNECTED);
                raw
            };
            let served = dom0.serve(XVDA, &ram, Config::default());
            guest.moment().await;
            raw.channel.notify();
            guest.moment().await;
            let open = indices.map_or(u32::MAX, |(_, open)| open);
            let state = raw.state_of_backend();
            if open <= 32 {
                assert_eq!(state, State::CONNECTED);
                assert_eq!(raw.ring.load(8), raw.ring.load(0), "all is answered");
            } else if indices.is_some() {
                assert_eq!(state, State::CLOSING);
            }
            served.handle.force();
            assert_eq!(served.end().await, End::Forced);
            toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
        });
    }
}

#[test]
fn page_shared_by_all_requests_spoils_no_other_data() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        // The disk's zeros over the ring itself: indices included.
        let ring = Segment { gref: raw.ring.refs()[0], first: 0, last: 7 };
        raw.ask(&RawRequest::Direct { op: Op::Read, sector: 0, segments: vec![ring] });
        guest.moment().await;
        raw.channel.notify();
        guest.moment().await;
        let state = raw.state_of_backend();
        assert!(state == State::CLOSING || state == State::CONNECTED, "{state}");
        raw.set_state(State::CLOSED);
        raw.until(State::CLOSED).await;
        drop(raw);
        guest.xs.set(&format!("{}/state", device(XVDA).front_path()), "1");
        guest.moment().await;
        let mut again = RawFront::connect(&guest, XVDA, Layout::default()).await;
        again.works().await;
        again.close().await;
        served.unplug().await;
    });
}
