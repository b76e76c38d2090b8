//! Ends and failures at every moment at which they can come.

mod common;

use common::{Bench, DOM0, Error, GUEST, next_client_is_served, pattern, works};
use embedded_io_async::{Read, Write};
use std::cell::Cell;
use std::rc::Rc;
use xen_platform::deadline;
use xen_sim::Operation;
use xen_vchan::{Offer, Stale};

/// Kills the client's process at its `nth` access to shared memory, while it connects, writes and
/// reads. False if it got through with fewer.
fn server_survives_a_client_killed_at(nth: u32) -> bool {
    let mut bench = Bench::new();
    let (guest, victim, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    let left = Rc::new(Cell::new(nth));
    let (count, process) = (left.clone(), victim.domain.clone());
    let hook = bench.sim.world().on_access(move |access| {
        if access.by == DOM0 && count.get() > 0 {
            count.set(count.get() - 1);
            if count.get() == 0 {
                process.kill_process();
            }
        }
    });
    bench.run(async move {
        let offer = guest.publish(DOM0, (12, 10)).await;
        // What it makes of its own death until it stops does not matter.
        let crashing = spawner.spawn(&victim.domain.clone(), async move {
            let client = victim.connect().await?;
            client.split().1.write_all(&pattern(5000)).await?;
            client.split().0.read(&mut [0; 5]).await?;
            client.close().await
        });
        let server = match deadline(&guest.domain, guest.in_secs(5), offer.accept()).await {
            Ok(accepted) => accepted.unwrap(),
            // It never said that it was there.
            Err(_) => return next_client_is_served(&guest, &next).await,
        };
        let (mut reader, mut writer) = server.split();
        let (mut got, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(Error::Died(DOM0)) => break,
                Ok(n) => got.extend_from_slice(&buffer[..n]),
                Err(error) => panic!("{error}"),
            }
            if got.len() == 5000 {
                let _ = writer.write(b"enough").await;
            }
        }
        assert!(pattern(5000).starts_with(&got));
        crashing.outcome().await;
        server.close().await.unwrap();
        next_client_is_served(&guest, &next).await;
    });
    drop(hook);
    left.get() == 0
}

#[test]
fn a_server_survives_its_client_being_killed_at_any_moment() {
    let tried = (1..).take_while(|&nth| server_survives_a_client_killed_at(nth)).count();
    assert!(tried > 40, "only {tried} moments");
}

/// Destroys the server's domain, which looks again this number of times before it sleeps, at its
/// `nth` access to shared memory. False if it got through with fewer.
fn client_survives_a_server_destroyed_at(nth: u32, looks: u32) -> bool {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    let left = Rc::new(Cell::new(nth));
    let count = left.clone();
    let hook = bench.sim.world().on_access(move |access| {
        if access.by == GUEST && count.get() > 0 {
            count.set(count.get() - 1);
            if count.get() == 0 {
                world.destroy(GUEST);
            }
        }
    });
    bench.run(async move {
        // What it makes of its own death until it stops does not matter.
        let serving = spawner.spawn(&guest.domain.clone(), async move {
            let config = common::server(DOM0, (10, 12));
            let server =
                Offer::publish(&guest.domain, &guest.store, &config).await?.accept().await?;
            server.busy_poll(looks);
            let (mut reader, mut writer) = server.split();
            let mut got = [0; 3000];
            let mut len = 0;
            while len < got.len() {
                len += reader.read(&mut got[len..]).await?;
            }
            writer.write_all(&got).await?;
            server.close().await
        });
        let end = async {
            let client = dom0.connect().await?;
            let (mut reader, mut writer) = client.split();
            writer.write_all(&pattern(3000)).await?;
            let mut got = Vec::new();
            let mut buffer = [0; 700];
            while let n @ 1.. = reader.read(&mut buffer).await? {
                got.extend_from_slice(&buffer[..n]);
            }
            assert!(pattern(3000).starts_with(&got));
            client.close().await
        };
        let end = end.await;
        let survived = serving.outcome().await.is_some();
        assert!(end == Ok(()) && survived || end == Err(Error::Died(GUEST)), "{end:?}");
    });
    drop(hook);
    left.get() == 0
}

#[test]
fn a_client_survives_its_servers_domain_being_destroyed_at_any_moment() {
    for (looks, at_least) in [(0, 30), (8, 25)] {
        let tried =
            (1..).take_while(|&nth| client_survives_a_server_destroyed_at(nth, looks)).count();
        assert!(tried > at_least, "only {tried} moments");
    }
}

#[test]
fn a_server_whose_operations_fail_leaves_nothing_behind() {
    for kind in Operation::ALL {
        for nth in 1.. {
            let mut bench = Bench::new();
            let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
            let failure = bench.sim.world().fail_nth(GUEST, kind, nth);
            let happened = bench.run(async move {
                let offer =
                    Offer::publish(&guest.domain, &guest.store, &common::server(DOM0, (12, 13)))
                        .await;
                match offer {
                    Err(Error::Platform(error)) => assert_eq!(error.by, GUEST),
                    Err(error) => panic!("{error}"),
                    Ok(offer) => offer.withdraw().await.unwrap(),
                }
                let happened = failure.happened();
                // Whatever is still to fail must not fail the check.
                if happened {
                    next_client_is_served(&guest, &dom0).await;
                }
                happened
            });
            if !happened {
                break;
            }
        }
    }
}

#[test]
fn a_client_whose_operations_fail_leaves_the_offer_as_it_was() {
    for kind in Operation::ALL {
        for nth in 1.. {
            let mut bench = Bench::new();
            let (guest, dom0, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
            let failure = bench.sim.world().fail_nth(DOM0, kind, nth);
            let happened = bench.run(async move {
                let offer = guest.publish(DOM0, (12, 13)).await;
                match dom0.connect().await {
                    Err(Error::Platform(error)) => {
                        assert_eq!((error.by, kind), (DOM0, Operation::ClearOnDeath))
                    }
                    Err(Error::Stale { why: Stale::Map(_), .. }) => {
                        assert_eq!(kind, Operation::Map)
                    }
                    Err(Error::Stale { why: Stale::Bind(_), .. }) => {
                        assert_eq!(kind, Operation::Connect)
                    }
                    Err(error) => panic!("{error}"),
                    Ok(client) => {
                        drop(client);
                        offer.withdraw().await.unwrap();
                        return false;
                    }
                }
                assert!(failure.happened());
                let client = next.connect().await.unwrap();
                let server = offer.accept().await.unwrap();
                works(&server, &client).await;
                client.close().await.unwrap();
                server.close().await.unwrap();
                true
            });
            if !happened {
                break;
            }
        }
    }
}
