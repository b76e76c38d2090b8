//! Ends that nobody announces: killed programs, destroyed domains, lost events.

mod common;

use common::{
    Bench, DOM0, Error, GUEST, RawClient, SRV_LIVE, next_client_is_served, pair, pattern,
};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::{Clock, DomId, IndexMemory};
use xen_vchan::{ClientConfig, Live, connect};

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
        // The kernel of its domain clears its live byte; the end of its output is missing.
        assert_eq!(reader.read(&mut got).await, Err(Error::Died(DOM0)));
        assert_eq!(writer.write(b"x").await, Err(Error::Died(DOM0)));
        assert_eq!(server.state(), Live::Died);
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
        assert_eq!(reader.read(&mut got).await, Err(Error::Died(GUEST)));
        assert_eq!(dom0.domain.now(), at);
        client.close().await.unwrap();
        next_client_is_served(&next, &dom0).await;
        drop(server);
    });
}

/// A kernel that ends clears its live bytes and tells nobody else: its output was cut off.
#[test]
fn server_kernel_that_ends_has_died() {
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
        assert_eq!(reading.join().await, Err(Error::Died(GUEST)));
        assert_eq!(client.state(), Live::Died);
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
        let writing =
            spawner.spawn(&guest.domain, async move { writer.write_all(&[0; 5000]).await });
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
        let config = ClientConfig::new(DomId(99), common::PATH);
        let nobody = connect(&dom0.domain, &dom0.store, &config).await.err();
        assert_eq!(nobody, Some(Error::Died(DomId(99))));
        let (process, store) = (dom0.domain.clone(), dom0.store.clone());
        let connecting = spawner.spawn(&dom0.domain, async move {
            connect(&process, &store, &common::client(None)).await.err()
        });
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
        world.drop_events(GUEST, server.info().local_port, 1);
        client.split().1.write_all(b"anyway").await.unwrap();
        let at = guest.domain.now();
        assert_eq!(reading.join().await, Ok(6));
        assert!(guest.domain.now().since(at) <= Duration::from_secs(1));
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}
