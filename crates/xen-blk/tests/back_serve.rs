//! The backend with this crate's own frontend: every combination of features, and everything that
//! happens in a disk's life.

mod back_common;

use back_common::*;
use std::rc::Rc;
use std::time::Duration;
use xen_abi::xenbus::State;
use xen_blk::back::storage::Info;
use xen_blk::back::{Config, DataPath, End, Ram, Storage};
use xen_blk::front;
use xen_blk::protocol::Units;
use xen_blk::protocol::wire::Abi;
use xen_blk::toolstack;
use xen_platform::{EventCounter, sleep};
use xen_sim::Operation;

/// Connects with these features, and writes and reads all over the disk.
fn round_trip(config: Config, front_config: front::Config, sector_size: u32) {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::new(Info { sector_size, ..Ram::with_sectors(4096).info() }));
        let served = dom0.plug(XVDA, &ram, config.clone()).await;
        let (disk, end) = guest.attach(XVDA, &front_config).await;
        let info = disk.info();
        let what = format!("{config:?}, {info:?}");
        assert_eq!((info.sectors, info.sector_size), (4096, sector_size), "{what}");
        assert_eq!(
            info.ring_pages,
            front_config.ring_pages.min(1 << config.ring_order_max),
            "{what}"
        );
        assert_eq!(info.queues, front_config.queues.min(config.queues_max), "{what}");
        assert_eq!(info.persistent, front_config.persistent && config.persistent > 0, "{what}");
        let unit = u64::from(sector_size) / 512;
        for (seed, (at, count)) in
            [(0, 1), (1, 1), (511, 1), (8, 100), (200, 300)].into_iter().enumerate()
        {
            let (at, bytes) = (at * unit, pattern(count * sector_size as usize, seed as u32));
            if at + (bytes.len() as u64 / 512) > 4096 {
                continue;
            }
            disk.write(at, &bytes).await.unwrap();
            let mut got = vec![0; bytes.len()];
            disk.read(at, &mut got).await.unwrap();
            assert!(got == bytes, "{what}: read back at {at}");
            ram.peek(at, &mut got);
            assert!(got == bytes, "{what}: in the storage at {at}");
        }
        disk.flush().await.unwrap();
        disk.barrier(0, &pattern(sector_size as usize, 9)).await.unwrap();
        disk.discard(unit, unit, false).await.unwrap();
        let mut two = vec![1; 2 * sector_size as usize];
        disk.read(0, &mut two).await.unwrap();
        assert_eq!(
            two,
            [pattern(sector_size as usize, 9), vec![0; sector_size as usize]].concat(),
            "{what}"
        );
        disk.close().await;
        assert_eq!(end.join().await, front::End::Closed);
        let stats = served.handle.stats().clone();
        assert_eq!(
            (stats.refused, stats.in_flight, stats.reads.failed, stats.writes.failed),
            (0, 0, 0, 0),
            "{what}"
        );
        assert_eq!(stats.pages_persistent > 0, info.persistent, "{what}");
        served.unplug().await;
    });
}

#[test]
fn feature_combinations_move_data() {
    let mut tried = 0;
    for (ring_order_max, queues_max) in [(0, 1), (1, 3), (4, 2)] {
        for (indirect_segments, persistent) in [(0, 0), (32, 5), (256, 1056), (4096, 0)] {
            for (data_path, abi, sector_size) in [
                (DataPath::Copy, Abi::X86_64, 512),
                (DataPath::Map, Abi::X86_32, 4096),
                (DataPath::Copy, Abi::X86_32, 512),
            ] {
                let config = Config::default().with(|config| {
                    config.ring_order_max = ring_order_max;
                    config.queues_max = queues_max;
                    config.indirect_segments = indirect_segments;
                    config.persistent = persistent;
                    config.data_path = data_path;
                });
                let front_config = front::Config::default().with(|config| {
                    config.queues = 2;
                    config.indirect_segments = 4096;
                    config.abi = abi;
                });
                round_trip(config, front_config, sector_size);
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 36);
}

#[test]
fn units_of_the_frontend_are_understood() {
    for (_, units) in Units::NAMED {
        for (sector_size, indirect_segments) in [(512, 256), (4096, 0), (4096, 256)] {
            let config = Config::default().with(|config| {
                config.units = units;
                config.indirect_segments = indirect_segments;
            });
            round_trip(
                config,
                front::Config::default().with(|config| {
                    config.units = units;
                    config.indirect_segments = indirect_segments;
                }),
                sector_size,
            );
        }
    }
}

#[test]
fn concurrent_tasks_read_their_writes() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        let spawner = bench.sim.spawner();
        bench.run(async move {
            let ram = Rc::new(Ram::with_sectors(4096));
            // Memory for a few requests only, so that some have to wait.
            let config = Config::default().with(|config| {
                config.memory = 64 << 10;
                config.persistent = 8;
                config.merge = 16 << 10;
            });
            let served = dom0.plug(XVDA, &ram, config).await;
            let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
            let tasks: Vec<_> = (0..8u32)
                .map(|task| {
                    let disk = disk.clone();
                    spawner.spawn(&guest.domain, async move {
                        for round in 0..10 {
                            let at = u64::from(task * 512 + round * 16);
                            let bytes = pattern(512 << (task % 5), task * 100 + round);
                            disk.write(at, &bytes).await.unwrap();
                            let mut got = vec![0; bytes.len()];
                            disk.read(at, &mut got).await.unwrap();
                            assert!(got == bytes);
                            if round == task {
                                disk.flush().await.unwrap();
                            }
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.join().await;
            }
            disk.close().await;
            end.join().await;
            served.unplug().await;
        });
    }
}

#[test]
fn resized_disk_notifies_the_frontend() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
        for sectors in [128, 16, 1 << 12] {
            let mut got = vec![0; 512];
            ram.resize(sectors);
            while disk.info().sectors != sectors {
                guest.moment().await;
            }
            disk.write(sectors - 1, &[7; 512]).await.unwrap();
            disk.read(sectors - 1, &mut got).await.unwrap();
            assert_eq!(got, [7; 512]);
        }
        disk.close().await;
        end.join().await;
        served.unplug().await;
    });
}

#[test]
fn frontend_reconnects_many_times() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        for round in 0..20u8 {
            let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
            let mut got = [0; 512];
            disk.read(3, &mut got).await.unwrap();
            assert_eq!(got, [round; 512]);
            disk.write(3, &[round + 1; 512]).await.unwrap();
            disk.close().await;
            end.join().await;
        }
        assert_eq!(served.handle.stats().connections, 20);
        served.unplug().await;
    });
}

#[test]
fn stopped_disk_is_let_go() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let alone = dom0.plug(XVDB, &ram, Config::default()).await;
        let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
        disk.write(0, &[1; 512]).await.unwrap();
        served.unplug().await;
        assert_eq!(end.join().await, front::End::Unplugged);
        drop(disk);
        guest.moment().await;
        alone.unplug().await;
    });
}

#[test]
fn frontend_beyond_stop_timeout_is_cut_off() {
    for force in [false, true] {
        let mut bench = Bench::new();
        let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        bench.run(async move {
            let ram = Rc::new(Ram::with_sectors(64));
            let served = dom0.plug(XVDA, &ram, Config::default()).await;
            let mut raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
            served.handle.stop();
            guest.moment().await;
            assert_eq!(raw.state_of_backend(), State::CLOSING);
            raw.works().await;
            if force {
                served.handle.force();
            }
            assert_eq!(served.end().await, End::Forced);
            assert_eq!(raw.state_of_backend(), State::CLOSED);
            toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
        });
    }
}

#[test]
fn toolstack_closes_and_removes_disk() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        // As `xl block-detach` does.
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let (disk, end) = guest.attach(XVDA, &front::Config::default()).await;
        dom0.xs.set(&format!("{}/online", served.device.back_path()), "0");
        dom0.xs.set(&format!("{}/state", served.device.back_path()), "5");
        assert_eq!(end.join().await, front::End::Unplugged);
        assert_eq!(served.end().await, End::Stopped);
        drop(disk);
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
        // And with --force.
        let served = dom0.plug(XVDB, &ram, Config::default()).await;
        let mut raw = RawFront::connect(&guest, XVDB, Layout::default()).await;
        raw.works().await;
        toolstack::remove(&dom0.store, &device(XVDB)).await.unwrap();
        assert_eq!(served.end().await, End::Removed);
    });
}

#[test]
fn frontend_close_of_offline_disk_ends_it() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(64));
        let served = dom0.plug(XVDA, &ram, Config::default()).await;
        let raw = RawFront::connect(&guest, XVDA, Layout::default()).await;
        dom0.xs.set(&format!("{}/online", served.device.back_path()), "0");
        raw.close().await;
        assert_eq!(served.end().await, End::Closed);
        toolstack::remove(&dom0.store, &device(XVDA)).await.unwrap();
    });
}

/// Kills the backend's process before its `nth` access to shared memory and starts another; the
/// frontend must not notice. Tells if there was such an access.
fn survives_a_restart_at(nth: u32) -> bool {
    let mut bench = Bench::new();
    let (dom0, guest, next) = (bench.host(DOM0), bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(4096));
        let config = Config::default().with(|config| config.persistent = 4);
        let served = dom0.plug(XVDA, &ram, config.clone()).await;
        let (disk, end) = guest
            .attach(XVDA, &front::Config::default().with(|config| config.ring_pages = 1))
            .await;
        let (left, killed) = (Rc::new(std::cell::Cell::new(nth)), Rc::new(EventCounter::new()));
        let (count, victim, kill) = (left.clone(), dom0.domain.clone(), killed.clone());
        let hook = world.on_access(move |access| {
            if access.by == DOM0 && count.get() > 0 {
                count.set(count.get() - 1);
                if count.get() == 0 {
                    victim.kill_process();
                    kill.signal();
                }
            }
        });
        let (to, other) = (disk.clone(), disk.clone());
        let bytes = pattern(100 * 512, 5);
        let wanted = bytes.clone();
        let mut work = std::pin::pin!(async move {
            for at in [0, 100, 200] {
                to.write(at, &bytes).await.unwrap();
            }
            let mut got = vec![0; bytes.len()];
            other.read(100, &mut got).await.unwrap();
            got
        });
        // Until it is done or the backend is dead.
        let ended = std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
            std::task::Poll::Ready(got) => std::task::Poll::Ready(Some(got)),
            std::task::Poll::Pending => killed.poll_after(&mut 0, cx).map(|()| None),
        })
        .await;
        drop(hook);
        let happened = left.get() == 0;
        let served = if happened { next.serve(XVDA, &ram, config) } else { served };
        let got = match ended {
            Some(got) => got,
            None => work.await,
        };
        assert!(got == wanted, "killed at access {nth}");
        disk.close().await;
        end.join().await;
        served.unplug().await;
        happened
    })
}

#[test]
fn backend_killed_at_any_moment_goes_on_after_restart() {
    let tried = (1..).take_while(|&nth| survives_a_restart_at(nth)).count();
    assert!(tried > 20, "only {tried} moments");
}

#[test]
fn backend_with_failing_operations_leaves_nothing() {
    for kind in [Operation::Map, Operation::Copy, Operation::Connect] {
        for (data_path, persistent) in
            [(DataPath::Copy, 0), (DataPath::Map, 0), (DataPath::Copy, 8), (DataPath::Map, 8)]
        {
            let tried = (1..).take_while(|&nth| fails_at(kind, nth, data_path, persistent)).count();
            let least = usize::from(kind != Operation::Copy);
            assert!(tried >= least, "{kind:?} {data_path:?} {persistent}: {tried}");
        }
    }
}

/// XSA-361: fails the `nth` operation of that kind; tells if there was one.
fn fails_at(kind: Operation, nth: u32, data_path: DataPath, persistent: usize) -> bool {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let failure = bench.sim.world().fail_nth(DOM0, kind, nth);
    bench.run(async move {
        let ram = Rc::new(Ram::with_sectors(1024));
        let served = dom0
            .plug(
                XVDA,
                &ram,
                Config::default().with(|config| {
                    config.data_path = data_path;
                    config.persistent = persistent;
                }),
            )
            .await;
        let front_config = front::Config::default().with(|config| {
            config.connect_timeout = Duration::from_secs(5);
            config.ring_pages = 1;
        });
        let attached = front::attach(&guest.domain, &guest.store, XVDA, &front_config).await;
        let Ok((disk, driver)) = attached else {
            assert!(failure.happened() && served.handle.broken().is_some());
            served.unplug().await;
            return true;
        };
        let mut spawned = std::pin::pin!(driver);
        let work = async {
            let bytes = pattern(40 * 512, nth);
            let mut failed = 0;
            for at in [0, 100] {
                failed += u32::from(disk.write(at, &bytes).await.is_err());
            }
            let mut got = vec![0; bytes.len()];
            failed += u32::from(disk.read(100, &mut got).await.is_err());
            assert!(failed <= 1);
            // With mapping, what fails is tried again page by page.
            assert!(
                data_path == DataPath::Map
                    || persistent > 0
                    || failed == u32::from(failure.happened())
            );
            if failed == 0 {
                assert!(got == bytes);
            }
            disk.close().await;
        };
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            let _ = spawned.as_mut().poll(cx);
            work.as_mut().poll(cx)
        })
        .await;
        let happened = failure.happened();
        sleep(&guest.domain, Duration::from_secs(1)).await;
        served.unplug().await;
        happened
    })
}

use std::future::Future;
