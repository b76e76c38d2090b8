//! Backends that break the protocol: the disk ends with what was wrong, and nothing else happens.

mod common;

use common::backend::{Backend, Store, all_keys, least_keys, set_state};
use common::{Bench, DOM0, Error, GUEST, Host, SECTORS};
use proptest::prelude::*;
use std::time::Duration;
use xen_abi::blkif;
use xen_blk::front::{Config, GoneReason, Note, Op, PeerError};
use xen_blk::protocol::wire::{Decoded, Response};
use xen_platform::IndexMemory;
use xen_ring::slots::Corrupt;
use xen_sim::Operation;

/// Response of a backend to the first request; afterwards it only closes.
type Trick = fn(&mut Backend, usize, &Decoded);

/// The result of a read, of the driver, and of a read after that.
fn read_from(trick: Trick) -> [Error; 3] {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let playing = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        let (queue, request) = backend.next().await.unwrap();
        trick(&mut backend, queue, &request);
        backend.close().await;
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        let read = disk.read(0, &mut [0; 512]).await.unwrap_err();
        let end = driver.join().await.unwrap_err();
        playing.join().await;
        [read, end, disk.read(0, &mut [0; 512]).await.unwrap_err()]
    })
}

fn ends_with(trick: Trick, expected: PeerError) {
    assert_eq!(
        read_from(trick),
        [const { None }; 3].map(|_: Option<()>| Error::Peer(expected.clone()))
    );
}

#[test]
fn response_to_no_request_is_refused() {
    ends_with(
        |backend, queue, request| {
            backend.respond(
                queue,
                Response { id: 0xdead_beef_0000_0000, operation: 0, ..answer(request) },
            )
        },
        PeerError::UnknownId { queue: 0, id: 0xdead_beef_0000_0000 },
    );
    // The right slot, and another serial number.
    ends_with(
        |backend, queue, request| {
            backend.respond(queue, Response { id: request.id + (1 << 16), ..answer(request) })
        },
        PeerError::UnknownId { queue: 0, id: 2 << 16 },
    );
    ends_with(
        |backend, queue, request| {
            backend.respond(queue, Response { id: 0xffff, ..answer(request) })
        },
        PeerError::UnknownId { queue: 0, id: 0xffff },
    );
}

fn answer(request: &Decoded) -> Response {
    Response { id: request.id, operation: request.operation, status: 0 }
}

#[test]
fn response_for_another_operation_is_refused() {
    ends_with(
        |backend, queue, request| {
            backend.respond(queue, Response { operation: 1, ..answer(request) })
        },
        PeerError::Operation { queue: 0, id: 1 << 16, op: Op::Read, found: 1 },
    );
    // Only an indirect request may be called one.
    ends_with(
        |backend, queue, request| {
            backend.respond(queue, Response { operation: 6, ..answer(request) })
        },
        PeerError::Operation { queue: 0, id: 1 << 16, op: Op::Read, found: 6 },
    );
}

#[test]
fn unknown_status_is_refused() {
    for status in [1, -3, i16::MIN, i16::MAX] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
            let (queue, request) = backend.next().await.unwrap();
            backend.refuse(queue, &request, status);
            backend.close().await;
        });
        bench.run(async move {
            let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
            let expected = PeerError::Status { queue: 0, id: 1 << 16, op: Op::Read, status };
            assert_eq!(disk.read(0, &mut [0; 512]).await, Err(Error::Peer(expected)));
            driver.join().await.unwrap_err();
        });
    }
}

#[test]
fn jumping_index_is_refused() {
    for jump in [2, 512, 0x8000_0000, u32::MAX] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
            backend.next().await.unwrap();
            // rsp_prod
            backend.queues[0].mem.store(8, jump);
            xen_platform::Channel::notify(&backend.queues[0].channel);
            backend.close().await;
        });
        bench.run(async move {
            let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
            let corrupt = Corrupt { field: "rsp_prod", found: jump, least: 0, most: 1 };
            let expected = Error::Peer(PeerError::Ring { queue: 0, corrupt });
            assert_eq!(disk.read(0, &mut [0; 512]).await, Err(expected.clone()));
            assert_eq!(driver.join().await, Err(expected));
        });
    }
}

#[test]
fn duplicate_response_is_refused_and_spoils_no_other() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        let (queue, first) = backend.next().await.unwrap();
        backend.next().await.unwrap();
        backend.answer(queue, &first);
        backend.answer(queue, &first);
        backend.close().await;
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        let other = disk.clone();
        let second = guest.spawn(async move { other.read(8, &mut [0; 512]).await });
        let first = disk.read(0, &mut [0; 512]).await;
        let expected = Error::Peer(PeerError::UnknownId { queue: 0, id: 1 << 16 });
        assert_eq!((first, second.join().await), (Ok(()), Err(expected.clone())));
        assert_eq!(driver.join().await, Err(expected));
    });
}

#[test]
fn unsupported_feature_is_switched_off_and_noted() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        let mut direct = 0;
        while let Some((queue, request)) = backend.next().await {
            let indirect =
                matches!(request.request, Ok(xen_blk::protocol::wire::RawRequest::Indirect { .. }));
            match request.operation {
                blkif::OP_READ | blkif::OP_WRITE if !indirect => {
                    direct += 1;
                    backend.answer(queue, &request);
                }
                blkif::OP_WRITE_BARRIER if backend.log.len() < 8 => backend.answer(queue, &request),
                _ => backend.refuse(queue, &request, blkif::RSP_EOPNOTSUPP),
            }
        }
        backend.close().await;
        direct
    });
    bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        // A flush becomes a barrier; secure discard goes before discard does.
        disk.flush().await.unwrap();
        assert_eq!(disk.discard(0, 8, true).await, Err(Error::Unsupported(Op::SecureDiscard)));
        assert!(!disk.info().discard.unwrap().secure);
        assert_eq!(disk.discard(0, 8, false).await, Err(Error::Unsupported(Op::Discard)));
        assert_eq!(disk.info().discard, None);
        // An indirect request becomes several direct ones.
        let data = common::pattern(3, 100 * 4096);
        disk.write(0, &data).await.unwrap();
        let mut back = vec![0; data.len()];
        disk.read(0, &mut back).await.unwrap();
        assert!(back == data);
        assert_eq!(disk.barrier(0, &[]).await, Err(Error::Unsupported(Op::Barrier)));
        assert_eq!(disk.flush().await, Err(Error::Unsupported(Op::Flush)));
        let info = disk.info();
        assert_eq!(
            (info.flush, info.barrier, info.indirect_segments, info.max_transfer),
            (false, false, 0, 11 * 4096)
        );
        let refused = [Op::Flush, Op::SecureDiscard, Op::Discard].map(Note::Refused);
        assert_eq!(info.notes[..3], refused);
        assert_eq!(info.notes[3..], [Note::RefusedIndirect, Note::Refused(Op::Barrier)]);
        disk.close().await;
        assert_eq!(serving.join().await, 20);
    });
}

#[test]
fn error_fails_one_request_only() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &least_keys()).await;
        while let Some((queue, request)) = backend.next().await {
            match &request.request {
                Ok(xen_blk::protocol::wire::RawRequest::Direct { sector: 88, .. }) => {
                    backend.refuse(queue, &request, blkif::RSP_ERROR)
                }
                _ => backend.answer(queue, &request),
            }
        }
        backend.close().await;
    });
    bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        let failed = disk.write(0, &[1; 40 * 4096]).await;
        assert_eq!(failed, Err(Error::Failed { op: Op::Write, sector: 88, count: 88 }));
        disk.write(0, &[1; 11 * 4096]).await.unwrap();
        disk.close().await;
        let stats = disk.stats();
        assert_eq!((stats.failed, stats.in_flight), (1, 0));
    });
}

#[test]
fn silent_backend_is_reported_with_stuck_request() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &least_keys()).await;
        let (queue, request) = backend.next().await.unwrap();
        backend.answer(queue, &request);
        while backend.next().await.is_some() {}
        backend.close().await;
    });
    let config = Config::default().with(|config| config.request_timeout = Duration::from_secs(8));
    bench.run(async move {
        let (disk, driver) = guest.attach(&config).await.unwrap();
        disk.read(0, &mut [0; 512]).await.unwrap();
        // More than the ring holds: the rest never gets onto it, and fails as well.
        let start = xen_platform::Clock::now(&guest.domain);
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let disk = disk.clone();
                guest.spawn(async move { disk.write(n, &[0; 512]).await })
            })
            .collect();
        for (n, task) in tasks.into_iter().enumerate() {
            let Err(Error::TimedOut(stuck)) = task.join().await else {
                panic!("request {n} did not time out")
            };
            assert_eq!((stuck.op, stuck.sector, stuck.count), (Op::Write, n as u64, 1));
            assert_eq!(
                (stuck.queue, stuck.in_flight, stuck.completed),
                ((n < 32).then_some(0), 32, 1)
            );
            assert_eq!(stuck.waited, Duration::from_secs(10));
        }
        let waited = xen_platform::Clock::now(&guest.domain).since(start);
        assert!((8..=10).contains(&waited.as_secs()), "{waited:?}");
        assert_eq!(disk.stats().timed_out, 40);
        disk.close().await;
        driver.join().await.unwrap();
    });
}

#[test]
fn response_does_not_wait_for_another() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &least_keys()).await;
        let mut requests = Vec::new();
        while requests.len() < 24 {
            requests.push(backend.next().await.unwrap());
        }
        let (queue, request) = &requests[7];
        backend.answer(*queue, request);
        while backend.next().await.is_some() {}
        backend.close().await;
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        let start = xen_platform::Clock::now(&guest.domain);
        let write = |n| {
            let disk = disk.clone();
            guest.spawn(async move { disk.write(n, &[0; 512]).await })
        };
        let mut tasks: Vec<_> = (0..24).map(write).collect();
        tasks.swap_remove(7).join().await.unwrap();
        let waited = xen_platform::Clock::now(&guest.domain).since(start);
        assert_eq!(waited, Duration::ZERO, "no time passes while anything can move");
        for task in tasks {
            assert!(matches!(task.join().await, Err(Error::TimedOut(_))));
        }
        disk.close().await;
        driver.join().await.unwrap();
    });
}

#[test]
fn event_storm_completes_nothing() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        while let Some((queue, request)) = backend.next().await {
            for _ in 0..1000 {
                xen_platform::Channel::notify(&backend.queues[queue].channel);
                set_state(&dom0, 4);
            }
            backend.answer(queue, &request);
        }
        backend.close().await;
    });
    bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        for _ in 0..10 {
            disk.read(0, &mut [0; 512]).await.unwrap();
        }
        disk.close().await;
    });
}

#[test]
fn shorter_request_shows_no_older_data() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let looking = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        let mut last = Vec::new();
        while let Some((queue, request)) = backend.next().await {
            if let Ok(xen_blk::protocol::wire::RawRequest::Direct { segments, .. }) =
                &request.request
            {
                last = vec![0xee; 4096];
                xen_platform::SharedMem::read(
                    &dom0.domain.world().page_of(GUEST, segments[0].gref),
                    0,
                    &mut last,
                );
            }
            backend.answer(queue, &request);
        }
        backend.close().await;
        last
    });
    let last = bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        disk.write(0, &[0xaa; 4096]).await.unwrap();
        disk.write(0, &[0xbb; 512]).await.unwrap();
        disk.close().await;
        looking.join().await
    });
    assert!(last[..512].iter().all(|&b| b == 0xbb) && last[512..].iter().all(|&b| b == 0));
}

#[test]
fn platform_without_pages_shrinks_or_fails_a_request() {
    let connected = async |guest: &Host| guest.attach(&Config::default()).await.unwrap();
    for nth in 1..=4 {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.sim.spawn(&dom0.domain.clone(), async move {
            Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await.serve().await;
        });
        bench.run(async move {
            let (disk, _driver) = connected(&guest).await;
            let _failure = guest.domain.world().fail_nth(GUEST, Operation::Share, nth);
            let data = common::pattern(5, 100 * 4096);
            let written = disk.write(0, &data).await;
            match nth {
                1 => assert!(matches!(written, Err(Error::Platform(_)))),
                _ => {
                    written.unwrap();
                    let mut back = vec![0; data.len()];
                    disk.read(0, &mut back).await.unwrap();
                    assert!(back == data);
                }
            }
            disk.close().await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever a backend answers: each request ends well or with the reason, and all ends.
    #[test]
    fn any_responses_do_no_harm(answers in prop::collection::vec((0u64..200_000, 0u8..8, -3i16..2, any::<bool>()), 1..20)) {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
            for (id, operation, status, honest) in answers {
                let Some((queue, request)) = backend.next().await else { break };
                match honest {
                    true => backend.answer(queue, &request),
                    false => backend.respond(queue, Response { id, operation, status }),
                }
            }
            backend.close().await;
        });
        let config = Config::default().with(|config| config.request_timeout = Duration::from_secs(2));
        bench.run(async move {
            let (disk, driver) = guest.attach(&config).await.unwrap();
            let tasks: Vec<_> = (0..8).map(|n| {
                let disk = disk.clone();
                guest.spawn(async move {
                    let mut results = Vec::new();
                    for _ in 0..4 {
                        results.push(disk.read(n, &mut [0; 1024]).await);
                    }
                    results
                })
            }).collect();
            for task in tasks {
                for result in task.join().await {
                    let known = matches!(result, Ok(()) | Err(Error::Peer(_) | Error::Failed { .. } | Error::TimedOut(_)));
                    assert!(known, "{result:?}");
                }
            }
            disk.close().await;
            let _ = driver.join().await;
            assert!(matches!(disk.read(0, &mut [0; 512]).await, Err(Error::Gone(GoneReason::Closed) | Error::Peer(_))));
        });
    }
}
