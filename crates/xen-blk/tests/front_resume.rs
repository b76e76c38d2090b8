//! Saves and restores of the domain under disks in use.

mod common;

use common::backend::{Backend, Store, all_keys, least_keys, with};
use common::{BACK, Bench, DOM0, FRONT, GUEST, Host, SECTORS, VDEV, pattern, plug};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_blk::front::{Config, End};
use xen_platform::{Clock, sleep};
use xen_sim::World;

/// Saves the guest, ends its backend, and restores the guest with new folders for its disk. `dom0`
/// is the process of the backend.
fn save_and_restore(world: &World, dom0: &Host) {
    let suspended = world.suspend(GUEST);
    dom0.domain.kill_process();
    let xs = &dom0.xs;
    xs.remove(FRONT);
    xs.remove(BACK);
    suspended.restore(GUEST);
    plug(xs, VDEV);
}

#[test]
fn restored_domain_goes_on_in_order() {
    for seed in 0..40 {
        let mut bench = Bench::with_seed(seed);
        let (dom0, second, guest) = (bench.host(DOM0), bench.host(DOM0), bench.host(GUEST));
        let world = bench.sim.world().clone();
        let store = Store::new(SECTORS);
        let content = store.clone();
        let order = Rc::new(RefCell::new(Vec::new()));
        let begun = order.clone();
        let first = dom0.clone();
        bench.sim.spawn(&dom0.domain.clone(), async move {
            let mut backend = Backend::start(&dom0, &store, &all_keys()).await;
            // Takes some requests and completes one of them only.
            let (queue, completed) = backend.next().await.unwrap();
            for _ in 0..4 {
                backend.next().await.unwrap();
            }
            backend.answer(queue, &completed);
            std::future::pending::<()>().await
        });
        let log = bench.run(async move {
            let config = Config::default().with(|config| config.bare_barriers = true);
            let (disk, driver) = guest.attach(&config).await.unwrap();
            let works: Vec<_> = (0..12u64)
                .map(|n| {
                    let (disk, begun) = (disk.clone(), begun.clone());
                    guest.spawn(async move {
                        begun.borrow_mut().push(n);
                        match n {
                            3 | 7 => disk.barrier(n * 256, &[n as u8; 512]).await,
                            _ => {
                                let len = if n % 2 == 0 { 30 * 4096 } else { 512 };
                                disk.write(n * 256, &pattern(n, len)).await
                            }
                        }
                    })
                })
                .collect();
            let dom0 = Host { domain: first.domain.clone(), ..second.clone() };
            sleep(&second.domain, Duration::from_millis(100)).await;
            save_and_restore(&world, &dom0);
            // The new backend has no indirect requests and a smaller ring.
            let keys = with(least_keys(), "feature-barrier", 1);
            let serving = second.clone().spawn(async move {
                Backend::start(&second, &Store(content.0), &keys).await.serve().await
            });
            for work in works {
                work.join().await.unwrap();
            }
            for n in [0u64, 2, 4, 10] {
                let mut back = vec![0; 30 * 4096];
                disk.read(n * 256, &mut back).await.unwrap();
                assert!(back == pattern(n, 30 * 4096), "what {n} wrote");
            }
            let info = disk.info();
            assert_eq!((info.indirect_segments, info.ring_pages), (0, 1));
            disk.close().await;
            assert_eq!(driver.join().await, Ok(End::Closed));
            serving.join().await
        });
        let begun: Vec<u64> = order.borrow().clone();
        let mut sent: Vec<u64> =
            log.iter().filter(|(op, _)| *op != 0).map(|(_, sector)| sector / 256).collect();
        sent.dedup();
        assert_eq!(sent, begun[begun.len() - sent.len()..], "seed {seed}");
    }
}

#[test]
fn restore_at_any_moment_loses_no_request() {
    for delay in 0..60 {
        let mut bench = Bench::with_seed(delay);
        let (mut dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
        let backends: Vec<Host> = (0..3).map(|_| bench.host(DOM0)).collect();
        let toolstack = bench.host(DOM0);
        let world = bench.sim.world().clone();
        let store = Store::new(SECTORS);
        bench.run(async move {
            let serve = |host: &Host| {
                let (host, store) = (host.clone(), store.clone());
                host.clone().spawn(async move {
                    Backend::start(&host, &store, &all_keys()).await.serve().await;
                })
            };
            let mut serving = serve(&dom0);
            let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
            let clock = guest.domain.clone();
            let buffer = disk.buffer(8).unwrap();
            let working = guest.spawn({
                let (disk, buffer) = (disk.clone(), buffer.clone());
                async move {
                    for n in 0..60u64 {
                        let bytes = pattern(n, 8 * 4096);
                        let sector = n * 64;
                        buffer.write(0, &bytes);
                        disk.write_from(sector, &buffer, 0..bytes.len()).await.unwrap();
                        let mut back = vec![0; bytes.len()];
                        disk.read(sector, &mut back).await.unwrap();
                        assert!(back == bytes, "the copy of {n}");
                        buffer.write(0, &vec![0; bytes.len()]);
                        disk.read_into(sector, &buffer, 0..bytes.len()).await.unwrap();
                        buffer.read(0, &mut back);
                        assert!(back == bytes, "the buffer of {n}");
                        disk.flush().await.unwrap();
                        sleep(&clock, Duration::from_micros(50)).await;
                    }
                }
            });
            for next in backends {
                sleep(&toolstack.domain, Duration::from_micros(200 + 37 * delay)).await;
                let old = Host { domain: dom0.domain.clone(), ..toolstack.clone() };
                save_and_restore(&world, &old);
                drop(serving);
                serving = serve(&next);
                dom0 = next;
            }
            working.join().await;
            let resumed = guest.domain.now();
            assert!(resumed > xen_platform::Time::default());
            drop(buffer);
            disk.close().await;
            assert_eq!(driver.join().await, Ok(End::Closed));
            serving.join().await;
        });
        bench.sim.world().assert_clean();
    }
}

#[test]
fn cancelled_suspend_changes_nothing() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let world = bench.sim.world().clone();
    let toolstack = bench.host(DOM0);
    let serving = bench.sim.spawn(&dom0.domain.clone(), async move {
        Backend::start(&dom0, &Store::new(SECTORS), &all_keys()).await.serve().await
    });
    bench.run(async move {
        let (disk, driver) = guest.attach(&Config::default()).await.unwrap();
        disk.write(0, &[1; 512]).await.unwrap();
        let suspended = world.suspend(GUEST);
        sleep(&toolstack.domain, Duration::from_secs(5)).await;
        suspended.cancel();
        let mut back = [0; 512];
        disk.read(0, &mut back).await.unwrap();
        assert_eq!(back, [1; 512]);
        disk.close().await;
        assert_eq!(driver.join().await, Ok(End::Closed));
        serving.join().await;
    });
}
