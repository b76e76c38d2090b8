//! Coming and going: of disks, of backends, of the domain itself.

mod common;

use common::backend::{
    Backend, Store, all_keys, front_is, front_state, least_keys, set_state, until, with,
};
use common::{BACK, Bench, DOM0, Error, FRONT, GUEST, SECTORS, VDEV, pattern, plug};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::front::raw::{Index, RawConnection};
use xen_blk::front::{Change, Config, End, Finder, GoneReason, Note, list};
use xen_blk::protocol::wire::{self, Op, RawRequest};
use xen_platform::{Clock, Platform, deadline};

#[test]
fn disk_is_closed_and_attached_many_times() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.xs.set(&format!("{BACK}/online"), "1");
    let store = Store::new(SECTORS);
    bench.sim.spawn(&dom0.domain.clone(), async move {
        for _ in 0..50 {
            Backend::start(&dom0, &store, &all_keys()).await.serve().await;
            front_is(&dom0, &["1"]).await;
        }
    });
    bench.run(async move {
        for round in 0..50u8 {
            // Another kind of rings every time: nothing of the one before may be left.
            let config = Config::default().with(|config| {
                config.ring_pages = 1 << (round % 5);
                config.queues = 1 + u32::from(round % 3);
            });
            let (disk, driver) = guest.attach(&config).await.unwrap();
            disk.write(0, &[round; 512]).await.unwrap();
            let mut back = [0; 512];
            disk.read(0, &mut back).await.unwrap();
            assert_eq!(back, [round; 512]);
            disk.close().await;
            assert_eq!(driver.join().await, Ok(End::Closed));
            assert_eq!(disk.read(0, &mut back).await, Err(Error::Gone(GoneReason::Closed)));
        }
        // The last backend waits for a frontend that begins anew.
        guest.store.write(&format!("{FRONT}/state"), b"1").await.unwrap();
    });
}

#[test]
fn requests_in_flight_end_before_close() {
    for unplug in [false, true] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
            let held = [backend.next().await.unwrap(), backend.next().await.unwrap()];
            if unplug {
                set_state(&dom0, 5);
            }
            // The frontend has seen it by now, and waits.
            xen_platform::sleep(&dom0.domain, Duration::from_secs(1)).await;
            assert_eq!(front_state(&dom0), "4");
            held.iter().for_each(|(queue, request)| backend.answer(*queue, request));
            backend.close().await
        });
        bench.run(async move {
            let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
            let tasks: Vec<_> = (0..2)
                .map(|n| {
                    let disk = disk.clone();
                    guest.spawn(async move { disk.write(n, &[1; 512]).await })
                })
                .collect();
            xen_platform::sleep(&guest.domain, Duration::from_millis(1)).await;
            if !unplug {
                disk.close().await;
            }
            let expected = if unplug { End::Unplugged } else { End::Closed };
            assert_eq!(driver.join().await, Ok(expected));
            for task in tasks {
                task.join().await.unwrap();
            }
            assert_eq!(serving.join().await, [(1, 0), (1, 1)]);
            let why = if unplug { GoneReason::Unplugged } else { GoneReason::Closed };
            assert_eq!(disk.read(0, &mut [0; 512]).await, Err(Error::Gone(why)));
        });
    }
}

#[test]
fn restarted_backend_gets_open_requests_in_order() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        let (dom0, second, guest) = (bench.host(DOM0), bench.host(DOM0), bench.host(GUEST));
        let store = Store::new(SECTORS);
        let content = store.clone();
        let order = Rc::new(RefCell::new(Vec::new()));
        let begun = order.clone();
        let first = dom0.clone();
        bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &store, &all_keys()).await;
            // Takes some requests and answers one of them only.
            let (queue, answered) = backend.next().await.unwrap();
            for _ in 0..4 {
                backend.next().await.unwrap();
            }
            backend.answer(queue, &answered);
            std::future::pending::<()>().await
        });
        let log = bench.run(async move {
            // All at once, so that the barriers among them have to be kept in their places.
            let config = Config::default().with(|config| config.bare_barriers = true);
            let (disk, driver) = guest.attach(&config).await.unwrap();
            let ops: Vec<_> = (0..12u64)
                .map(|n| {
                    let (disk, begun) = (disk.clone(), begun.clone());
                    guest.spawn(async move {
                        begun.borrow_mut().push(n);
                        match n {
                            3 | 7 => disk.barrier(n * 256, &[n as u8; 512]).await,
                            _ => {
                                disk.write(
                                    n * 256,
                                    &pattern(n, if n % 2 == 0 { 30 * 4096 } else { 512 }),
                                )
                                .await
                            }
                        }
                    })
                })
                .collect();
            xen_platform::sleep(&guest.domain, Duration::from_secs(1)).await;
            first.domain.kill_process();
            xen_platform::sleep(&guest.domain, Duration::from_secs(1)).await;
            // The new one has no indirect requests and a smaller ring: what was one request becomes
            // many.
            let keys = with(least_keys(), "feature-barrier", 1);
            let serving =
                second.spawn({
                    let second = second.clone();
                    async move {
                        Backend::start_anew(&second, &Store(content.0), &keys).await.serve().await
                    }
                });
            for op in ops {
                op.join().await.unwrap();
            }
            for n in [0u64, 2, 4, 10] {
                let mut back = vec![0; 30 * 4096];
                disk.read(n * 256, &mut back).await.unwrap();
                assert!(back == pattern(n, 30 * 4096), "what {n} wrote");
            }
            let info = disk.info();
            assert_eq!((info.indirect_segments, info.ring_pages), (0, 1));
            assert_eq!(info.notes, [Note::Restarted]);
            disk.close().await;
            assert_eq!(driver.join().await, Ok(End::Closed));
            serving.join().await
        });
        // The tasks began in the order that the seed gave them; all that began before a barrier
        // comes before it.
        let begun: Vec<u64> = order.borrow().clone();
        let mut sent: Vec<u64> =
            log.iter().filter(|(op, _)| *op != 0).map(|(_, sector)| sector / 256).collect();
        sent.dedup();
        assert_eq!(sent, begun[begun.len() - sent.len()..], "seed {seed}");
    }
}

#[test]
fn vanished_backend_ends_the_disk() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let xs = bench.xs.clone();
    let killer = dom0.clone();
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        backend.next().await;
        std::future::pending::<()>().await
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        let reading = guest.spawn({
            let disk = disk.clone();
            async move { disk.read(0, &mut [0; 512]).await }
        });
        xen_platform::sleep(&guest.domain, Duration::from_millis(1)).await;
        killer.domain.kill_process();
        xs.remove(BACK);
        assert_eq!(driver.join().await, Ok(End::Lost));
        assert_eq!(reading.join().await, Err(Error::Gone(GoneReason::Lost)));
        disk.close().await;
        assert_eq!(xs.get(&format!("{FRONT}/state")).unwrap(), b"6");
    });
}

#[test]
fn lost_backend_is_given_up_after_timeout() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let other = bench.host(DOM0);
    let killer = dom0.clone();
    bench.sim.spawn(&dom0.domain.clone(), async move {
        let _backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        std::future::pending::<()>().await
    });
    bench.run(async move {
        let config =
            Config::default().with(|config| config.connect_timeout = Duration::from_secs(20));
        let (disk, driver) = guest.attach(&config).await.unwrap();
        killer.domain.kill_process();
        set_state(&other, 1);
        let wrong = driver.join().await.unwrap_err();
        assert!(matches!(wrong, Error::NoBackend { .. }), "{wrong}");
        assert_eq!(disk.read(0, &mut [0; 512]).await, Err(Error::Gone(GoneReason::NoReturn)));
    });
}

#[test]
fn resize_is_seen_at_once() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let owner = dom0.clone();
    bench.sim.spawn(&dom0.domain.clone(), async move {
        Backend::start(&dom0, &Store::new(2 * SECTORS), &all_keys()).await.serve().await;
    });
    bench.run(async move {
        let (disk, _driver) = guest.attach(&Config::default()).await.unwrap();
        let mut seen = 0;
        for sectors in [2 * SECTORS, SECTORS / 2] {
            owner.xs.set(&format!("{BACK}/sectors"), sectors.to_string());
            set_state(&owner, 4);
            disk.changed(&mut seen).await;
            assert_eq!(disk.info().sectors, sectors);
            disk.read(sectors - 1, &mut [0; 512]).await.unwrap();
            assert!(matches!(
                disk.read(sectors, &mut [0; 512]).await,
                Err(Error::OutOfRange { .. })
            ));
        }
        disk.close().await;
    });
}

#[test]
fn restarted_kernel_gets_its_disk_back() {
    for seed in 0..10 {
        let mut bench = Bench::with_seed(seed);
        let (dom0, before, after) = (bench.host(DOM0), bench.host(GUEST), bench.host(GUEST));
        bench.xs.set(&format!("{BACK}/online"), "1");
        bench.sim.spawn(&dom0.domain.clone(), async move {
            for _ in 0..2 {
                Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await.serve().await;
                front_is(&dom0, &["1"]).await;
            }
        });
        bench.run(async move {
            let (disk, _driver) = before.attach(&Config::default()).await.unwrap();
            disk.write(0, &[1; 512]).await.unwrap();
            before.domain.kill_process();
            let (disk, driver) = after.attach(&Config::default()).await.unwrap();
            disk.write(0, &[1; 512]).await.unwrap();
            disk.close().await;
            driver.join().await.unwrap();
            after.store.write(&format!("{FRONT}/state"), b"1").await.unwrap();
        });
    }
}

#[test]
fn dropped_driver_ends_the_disk() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        backend.next().await;
    });
    bench.run(async move {
        let config = Config::default();
        let (disk, driver) =
            xen_blk::front::attach(&guest.domain, &guest.store, VDEV, &config).await.unwrap();
        let reader = disk.clone();
        let reading = guest.spawn(async move { reader.read(0, &mut [0; 512]).await });
        until(async { driver.await.map(drop).unwrap_or(()) }, serving.join()).await;
        // `until` has dropped the driver.
        assert_eq!(reading.join().await, Err(Error::Gone(GoneReason::Dropped)));
        disk.close().await;
    });
}

#[test]
fn last_handle_closes_the_disk() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await.serve().await
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        drop(disk);
        assert_eq!(driver.join().await, Ok(End::Closed));
        serving.join().await;
    });
}

#[test]
fn finder_reports_added_and_removed_disks() {
    let mut bench = Bench::new();
    let guest = bench.host(GUEST);
    let xs = bench.xs.clone();
    bench.run(async move {
        assert_eq!(list(&guest.store).await, Ok(vec![VDEV]));
        let mut finder = Finder::new(&guest.domain, &guest.store);
        assert_eq!(finder.next().await, Ok(Change::Added(VDEV)));
        plug(&xs, 51728);
        assert_eq!(finder.next().await, Ok(Change::Added(51728)));
        xs.remove(FRONT);
        assert_eq!(finder.next().await, Ok(Change::Removed(VDEV)));
        assert_eq!(list(&guest.store).await, Ok(vec![51728]));
        xs.remove("/local/domain/1/device/vbd");
        assert_eq!(finder.next().await, Ok(Change::Removed(51728)));
        assert_eq!(list(&guest.store).await, Ok(vec![]));
    });
}

#[test]
fn disk_plugged_in_again_between_two_looks_is_reported() {
    let mut bench = Bench::new();
    let guest = bench.host(GUEST);
    let xs = bench.xs.clone();
    bench.run(async move {
        let mut finder = Finder::new(&guest.domain, &guest.store);
        assert_eq!(finder.next().await, Ok(Change::Added(VDEV)));
        xs.remove(FRONT);
        plug(&xs, VDEV);
        assert_eq!(finder.next().await, Ok(Change::Removed(VDEV)));
        assert_eq!(finder.next().await, Ok(Change::Added(VDEV)));
        // Its keys change, and it is the same disk.
        xs.set(&format!("{FRONT}/state"), "4");
        plug(&xs, 51728);
        assert_eq!(finder.next().await, Ok(Change::Added(51728)));
    });
}

#[test]
fn refused_look_for_disks_is_tried_again() {
    let mut bench = Bench::new();
    let guest = bench.host(GUEST);
    let (xs, domain) = (bench.xs.clone(), guest.domain.clone());
    bench.run(async move {
        let mut finder = Finder::new(&guest.domain, &guest.store);
        assert_eq!(finder.next().await, Ok(Change::Added(VDEV)));
        xs.set_permissions("/local/domain/1/device/vbd", "n0");
        plug(&xs, 51728);
        let until = Some(domain.now() + Duration::from_secs(30));
        let refused = deadline(&domain, until, finder.next()).await;
        assert!(refused.is_err(), "EACCES ended discovery: {:?}", refused.unwrap());
        xs.set_permissions("/local/domain/1/device/vbd", "n0 r1");
        assert_eq!(finder.next().await, Ok(Change::Added(51728)));
    });
}

#[test]
fn disk_plugged_in_again_ends_the_old_one() {
    let mut bench = Bench::new();
    let (dom0, second, guest) = (bench.host(DOM0), bench.host(DOM0), bench.host(GUEST));
    let xs = bench.xs.clone();
    let first = bench.sim.spawn(&dom0.domain.clone(), {
        let dom0 = dom0.clone();
        async move {
            Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await.serve().await;
        }
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        disk.write(0, &[1; 512]).await.unwrap();
        // Removed and made anew, for another disk of the same number, before the guest looks.
        dom0.domain.kill_process();
        drop(first);
        xs.remove(FRONT);
        xs.remove(BACK);
        plug(&xs, VDEV);
        let other = Store::new(SECTORS);
        let contents = other.clone();
        let serving = second
            .clone()
            .spawn(async move { Backend::start(&second, &other, &all_keys()).await.serve().await });
        let write = disk.write(0, &[2; 512]).await;
        assert_eq!(write, Err(Error::Gone(GoneReason::Unplugged)), "on the other disk");
        assert_eq!(driver.join().await, Ok(End::Unplugged));
        assert_eq!(contents.0.borrow()[..512], [0; 512]);
        // The new disk can be attached as any other.
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        disk.write(0, &[3; 512]).await.unwrap();
        disk.close().await;
        assert_eq!(driver.join().await, Ok(End::Closed));
        serving.join().await;
    });
}

#[test]
fn raw_ring_sends_any_bytes() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend = Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await;
        let (queue, request) = backend.next().await.unwrap();
        assert!(request.request.is_err());
        backend.refuse(queue, &request, -1);
        let (queue, request) = backend.next().await.unwrap();
        backend.answer(queue, &request);
        backend.close().await
    });
    bench.run(async move {
        let second = Duration::from_secs(1);
        let config = Config::default().with(|config| config.ring_pages = 2);
        let altered = |keys: &mut xen_blk::front::raw::Keys| {
            keys.push(("feature-nonsense".into(), "1".into()))
        };
        let published =
            RawConnection::publish(&guest.domain, &guest.store, VDEV, &config, altered).await;
        let mut connection = published.unwrap();
        let connected = [xen_abi::xenbus::State::CONNECTED];
        let state = connection.backend_is(&connected, second).await.unwrap();
        let page = connection.share(1).unwrap();
        let ring = &mut connection.rings[0];
        assert_eq!(ring.slots(), 64);
        assert_eq!(state, xen_abi::xenbus::State::CONNECTED);
        assert_eq!(guest.store.read(&format!("{FRONT}/feature-nonsense")).await.unwrap(), b"1");
        ring.put(&[0xff; 112]);
        ring.push();
        let response = ring.response(second).await.unwrap();
        assert_eq!((response.id, response.operation, response.status), (u64::MAX, 0xff, -1));
        let gref = xen_platform::Granted::refs(&page)[0];
        let segments = vec![wire::Segment { gref, first: 0, last: 7 }];
        ring.put(&wire::encode(
            config.abi,
            5,
            &RawRequest::Direct { op: Op::Read, sector: 0, segments },
        ));
        ring.push();
        assert_eq!(ring.response(second).await.unwrap().status, 0);
        assert_eq!((ring.load(Index::ReqProd), ring.load(Index::RspProd)), (2, 2));
        assert_eq!(ring.response(second).await, None);
        assert!(connection.close(second).await);
        serving.join().await;
        assert_eq!(guest.domain.domid(), Some(GUEST));
    });
}

/// Tells if a write that follows a barrier is on the ring before the barrier is completed.
fn write_passes_barrier(bare_barriers: bool) -> bool {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let playing = bench.sim.spawn(&dom0.domain.clone(), async move {
        let mut backend =
            Backend::start(&dom0, &Store::new(SECTORS), &with(least_keys(), "feature-barrier", 1))
                .await;
        let (queue, barrier) = backend.next().await.unwrap();
        let patience = Some(dom0.in_secs(1));
        let early = xen_platform::deadline(&dom0.domain, patience, backend.next()).await;
        backend.answer(queue, &barrier);
        let (passes, write) = match early {
            Ok(write) => (true, write),
            Err(_) => (false, backend.next().await),
        };
        let (queue, write) = write.unwrap();
        backend.answer(queue, &write);
        backend.close().await;
        passes
    });
    bench.run(async move {
        let config = Config::default().with(|config| config.bare_barriers = bare_barriers);
        let (disk, driver) = guest.attach(&config).await.unwrap();
        let writer = disk.clone();
        let barrier = guest.spawn(async move { writer.barrier(0, &[1; 512]).await });
        let writer = disk.clone();
        let write = guest.spawn(async move { writer.write(0, &[2; 512]).await });
        barrier.join().await.unwrap();
        write.join().await.unwrap();
        disk.close().await;
        driver.join().await.unwrap();
        playing.join().await
    })
}

#[test]
fn requests_behind_barrier_wait_unless_bare() {
    assert!(!write_passes_barrier(false));
    assert!(write_passes_barrier(true));
}
