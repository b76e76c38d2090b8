//! Ends that nobody announces: killed programs, destroyed domains, operations that fail half-way.

mod common;

use common::{Bench, DOM0, Error, GUEST, Host, RawClient, SRV_LIVE, pair, pattern};
use embedded_io_async::{Read, Write};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Clock, DomId, IndexMemory, deadline};
use xen_sim::{Domain, Operation};
use xen_vchan::{ClientConfig, Connection, Live, Offer, Stale, connect};

/// Whether bytes pass both ways.
async fn works(server: &Connection<Domain>, client: &Connection<Domain>) {
    for (from, to) in [(server, client), (client, server)] {
        from.split().1.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        to.split().0.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
}

/// A new client of the guest, in a process of its own, and its connection with a new offer.
async fn next_client_is_served(guest: &Host, dom0: &Host) {
    let (server, client) = pair(guest, dom0, (12, 12)).await;
    works(&server, &client).await;
    client.close().await.unwrap();
    server.close().await.unwrap();
}

#[test]
fn a_client_killed_in_mid_stream_makes_room_for_the_next() {
    let mut bench = Bench::new();
    let (guest, victim, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &victim, (12, 12)).await;
        let (mut reader, mut writer) = server.split();
        client.split().1.write_all(&pattern(3000)).await.unwrap();
        victim.domain.kill_process();
        let mut got = [0; 3000];
        reader.read_exact(&mut got).await.unwrap();
        assert!(got[..] == pattern(3000));
        // The kernel of its domain clears its live byte, as if it had closed.
        assert_eq!(reader.read(&mut got).await, Ok(0));
        assert_eq!(writer.write(b"x").await, Err(Error::Closed));
        assert_eq!(server.state(), Live::Left);
        server.close().await.unwrap();
        next_client_is_served(&guest, &next).await;
    });
}

#[test]
fn a_killed_server_program_is_noticed_at_once() {
    let mut bench = Bench::new();
    let (victim, dom0, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(GUEST));
    bench.run(async move {
        let (server, client) = pair(&victim, &dom0, (12, 12)).await;
        server.split().1.write_all(b"unfinish").await.unwrap();
        victim.domain.kill_process();
        let at = dom0.domain.now();
        let (mut reader, mut got) = (client.split().0, [0; 9]);
        assert_eq!(reader.read(&mut got).await, Ok(8));
        assert_eq!(reader.read(&mut got).await, Ok(0));
        assert_eq!(dom0.domain.now(), at);
        client.close().await.unwrap();
        next_client_is_served(&next, &dom0).await;
        drop(server);
    });
}

/// A kernel that ends clears its live bytes and tells nobody else.
#[test]
fn a_server_that_closed_before_its_domain_went_has_closed() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, _) = client.split();
        let reading = spawner.spawn(&dom0.domain, async move { reader.read(&mut [0; 9]).await });
        xen_platform::sleep(&dom0.domain, Duration::from_millis(10)).await;
        world.page_of(GUEST, server.info().control_ref).store_u8(SRV_LIVE, 0);
        world.destroy(GUEST);
        assert_eq!(reading.join().await, Ok(0));
        assert_eq!(client.state(), Live::Left);
        drop(server);
    });
}

/// Clients that do not arrange for their death (ocaml-vchan's) leave a live byte that lies.
#[test]
fn a_client_killed_without_last_words_is_missed_after_a_second() {
    let mut bench = Bench::new();
    let (guest, victim, next) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let offer = guest.publish(DOM0, (12, 12)).await;
        let client = RawClient::attach(&victim.domain, &offer);
        client.join();
        let server = offer.accept().await.unwrap();
        let (mut reader, mut writer) = server.split();
        let reading = spawner.spawn(&guest.domain, async move { reader.read(&mut [0; 10]).await });
        let writing = spawner.spawn(&guest.domain, async move { writer.write_all(&[0; 5000]).await });
        victim.domain.kill_process();
        let at = guest.domain.now();
        assert_eq!(reading.join().await, Err(Error::Died(DOM0)));
        assert_eq!(writing.join().await, Err(Error::Died(DOM0)));
        assert!(guest.domain.now().since(at) <= Duration::from_secs(2));
        assert_eq!(server.state(), Live::Died);
        server.close().await.unwrap();
        next_client_is_served(&guest, &next).await;
    });
}

#[test]
fn dom0_learns_at_once_that_the_servers_domain_is_destroyed() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        server.split().1.write_all(b"last words").await.unwrap();
        let ((mut reader, _), (_, mut writer)) = (client.split(), client.split());
        writer.write_all(&[0; 4096]).await.unwrap();
        let reading = spawner.spawn(&dom0.domain, async move {
            let mut got = [0; 10];
            reader.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"last words");
            reader.read(&mut got).await
        });
        let writing = spawner.spawn(&dom0.domain, async move { writer.write(&[0; 1]).await });
        xen_platform::sleep(&dom0.domain, Duration::from_millis(1500)).await;
        let at = dom0.domain.now();
        world.destroy(GUEST);
        assert_eq!(reading.join().await, Err(Error::Died(GUEST)));
        assert_eq!(writing.join().await, Err(Error::Died(GUEST)));
        assert_eq!(dom0.domain.now(), at, "not only at the next look");
        drop(client);
        drop(server);
    });
}

#[test]
fn a_guest_learns_within_a_second_that_the_servers_domain_is_destroyed() {
    let mut bench = Bench::new();
    let (guest, other) = (bench.host(GUEST), bench.host(DomId(2)));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let offer = guest.publish(other.domain.id(), (12, 12)).await;
        let client = other.connect().await.unwrap();
        let server = offer.accept().await.unwrap();
        world.destroy(GUEST);
        let at = other.domain.now();
        assert_eq!(client.split().0.read(&mut [0; 1]).await, Err(Error::Died(GUEST)));
        assert!(other.domain.now().since(at) <= Duration::from_secs(2));
        drop(server);
    });
}

#[test]
fn the_death_of_another_domain_is_none_of_its_business() {
    let mut bench = Bench::new();
    let (guest, dom0, _other) = (bench.host(GUEST), bench.host(DOM0), bench.host(DomId(2)));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, _) = client.split();
        let reading = spawner.spawn(&dom0.domain, async move { reader.read(&mut [0; 9]).await });
        world.destroy(DomId(2));
        xen_platform::sleep(&dom0.domain, Duration::from_secs(5)).await;
        server.split().1.write_all(b"unharmed").await.unwrap();
        assert_eq!(reading.join().await, Ok(8));
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}

#[test]
fn a_domain_that_is_not_there_is_not_waited_for() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let config = ClientConfig { peer: DomId(99), ..common::client(None) };
        let nobody = connect(&dom0.domain, &dom0.store, &config).await.err();
        assert_eq!(nobody, Some(Error::Died(DomId(99))));
        let (process, store) = (dom0.domain.clone(), dom0.store.clone());
        let connecting =
            spawner.spawn(&dom0.domain, async move { connect(&process, &store, &common::client(None)).await.err() });
        xen_platform::sleep(&dom0.domain, Duration::from_secs(5)).await;
        world.destroy(GUEST);
        assert_eq!(connecting.join().await, Some(Error::Died(GUEST)));
        drop(guest);
    });
}

#[test]
fn an_offer_to_a_domain_that_is_destroyed_ends() {
    let mut bench = Bench::new();
    let (dom0, _guest) = (bench.host(DOM0), bench.host(GUEST));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let mut offer = dom0.publish(GUEST, (12, 12)).await;
        let waiting = spawner.spawn(&dom0.domain, async move {
            let end = offer.arrival().await;
            offer.withdraw().await.unwrap();
            end
        });
        xen_platform::sleep(&dom0.domain, Duration::from_secs(5)).await;
        world.destroy(GUEST);
        assert_eq!(waiting.join().await, Err(Error::Died(GUEST)));
    });
}

#[test]
fn an_event_that_gets_lost_costs_a_second() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, _) = server.split();
        let reading = spawner.spawn(&guest.domain, async move { reader.read(&mut [0; 9]).await });
        xen_platform::sleep(&dom0.domain, Duration::from_millis(10)).await;
        world.lose_events(GUEST, server.info().local_port, 1);
        client.split().1.write_all(b"anyway").await.unwrap();
        let at = guest.domain.now();
        assert_eq!(reading.join().await, Ok(6));
        assert!(guest.domain.now().since(at) <= Duration::from_secs(1));
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}

/// Kills the client's process at its `nth` access to shared memory, while it connects, writes and reads. False if it got
/// through with fewer.
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

/// Destroys the server's domain at its `nth` access to shared memory. False if it got through with fewer.
fn client_survives_a_server_destroyed_at(nth: u32) -> bool {
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
            let server = Offer::publish(&guest.domain, &guest.store, &config).await?.accept().await?;
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
    let tried = (1..).take_while(|&nth| client_survives_a_server_destroyed_at(nth)).count();
    assert!(tried > 30, "only {tried} moments");
}

#[test]
fn a_server_whose_operations_fail_leaves_nothing_behind() {
    for kind in Operation::ALL {
        for nth in 1.. {
            let mut bench = Bench::new();
            let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
            let failure = bench.sim.world().fail_nth(GUEST, kind, nth);
            let happened = bench.run(async move {
                let offer = Offer::publish(&guest.domain, &guest.store, &common::server(DOM0, (12, 13))).await;
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
                    Err(Error::Platform(error)) => assert_eq!((error.by, kind), (DOM0, Operation::ClearOnDeath)),
                    Err(Error::Stale { why: Stale::Map(_), .. }) => assert_eq!(kind, Operation::Map),
                    Err(Error::Stale { why: Stale::Bind(_), .. }) => assert_eq!(kind, Operation::Connect),
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
