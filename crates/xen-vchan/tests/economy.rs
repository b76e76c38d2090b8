//! That nothing is done too often: events, and reads of what a peer can change.

mod common;

use common::{
    Bench, CLI_LIVE, CLI_NOTIFY, DOM0, GUEST, LEFT_CONS, LEFT_PROD, RIGHT_CONS, RIGHT_PROD,
    SRV_LIVE, SRV_NOTIFY, pair,
};
use common::{RawServer, good_head, unpublish};
use embedded_io_async::{Read, Write};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Clock, IndexMemory, Platform, deadline, sleep};
use xen_sim::{AccessHook, AccessKind, Domain, World};
use xen_vchan::Connection;

/// Counts how often the guest, as this server, asks its client for events.
fn count_requests(world: &World, server: &Connection<Domain>) -> (Rc<Cell<u32>>, AccessHook) {
    let count = Rc::new(Cell::new(0));
    let (armed, page) = (count.clone(), server.info().control_ref);
    let hook = world.on_access(move |access| {
        if access.by == GUEST
            && access.kind == AccessKind::Update
            && access.touches(GUEST, page, CLI_NOTIFY)
        {
            count.set(count.get() + 1);
        }
    });
    (armed, hook)
}

#[test]
fn events_are_sent_only_to_who_asked_for_them() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let ((mut server_reader, _), (_, mut writer)) = (server.split(), client.split());
        let sent = || (world.notifies(GUEST), world.notifies(DOM0));
        assert_eq!(sent(), (0, 1), "the client has said that it is there");

        // The first write answers the wish that stands in a fresh page; nobody renews it.
        for _ in 0..10 {
            writer.write_all(&[7; 100]).await.unwrap();
        }
        assert_eq!(sent(), (0, 2));
        let mut got = [0; 300];
        for _ in 0..3 {
            server_reader.read_exact(&mut got).await.unwrap();
        }
        assert_eq!(sent(), (0, 2), "the writer did not wait for space");

        // A reader asks when it finds nothing, once for each sleep.
        let reading = spawner.spawn(&guest.domain, async move {
            server_reader.read_exact(&mut [0; 100]).await.unwrap();
            server_reader.read_exact(&mut [0; 10]).await.unwrap();
            server_reader
        });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        assert!(writer.idle().unwrap());
        writer.write_all(&[7; 5]).await.unwrap();
        assert!(!writer.idle().unwrap());
        writer.write_all(&[7; 5]).await.unwrap();
        assert_eq!(sent(), (0, 3));
        let mut server_reader = reading.join().await;

        // A writer asks when it finds no space.
        writer.write_all(&[7; 4096]).await.unwrap();
        let writing = spawner.spawn(&dom0.domain, async move { writer.write_all(&[7; 50]).await });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        let before = sent();
        for _ in 0..5 {
            server_reader.read_exact(&mut [0; 10]).await.unwrap();
        }
        assert_eq!(sent(), (before.0 + 1, before.1));
        writing.join().await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn a_held_event_goes_with_the_next_write_or_before_the_next_wait() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        server.hold_events(true);
        let ((mut server_reader, mut server_writer), (mut reader, mut writer)) =
            (server.split(), client.split());
        // The client waits for space, and in another task for an answer.
        writer.write_all(&[1; 4096]).await.unwrap();
        let writing = spawner.spawn(&dom0.domain, async move {
            writer.write_all(&[1; 50]).await.unwrap();
            writer
        });
        let reading =
            spawner.spawn(&dom0.domain, async move { reader.read_exact(&mut [0; 10]).await });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        let before = world.notifies(GUEST);
        server_reader.read_exact(&mut [0; 50]).await.unwrap();
        assert_eq!(world.notifies(GUEST), before, "it waits for the answer");
        server_writer.write_all(&[2; 10]).await.unwrap();
        assert_eq!(world.notifies(GUEST), before + 1, "one for both");
        let mut writer = writing.join().await;
        reading.join().await.unwrap();

        let writing = spawner.spawn(&dom0.domain, async move { writer.write_all(&[1; 20]).await });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        server_reader.read_exact(&mut [0; 4096]).await.unwrap();
        assert_eq!(world.notifies(GUEST), before + 1);
        // No answer: what is waited for comes only after the event.
        server_reader.read_exact(&mut [0; 20]).await.unwrap();
        assert_eq!(world.notifies(GUEST), before + 2);
        writing.join().await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn requests_for_events_are_made_only_before_a_sleep() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let ((mut reader, _), (_, mut writer)) = (server.split(), client.split());
        let (armed, _counting) = count_requests(&world, &server);
        for _ in 0..10 {
            writer.write_all(&[1; 100]).await.unwrap();
            reader.read_exact(&mut [0; 100]).await.unwrap();
        }
        assert_eq!(armed.get(), 0, "there was data each time");
        let reading =
            spawner.spawn(&guest.domain, async move { reader.read_exact(&mut [0; 30]).await });
        for n in 1..=3 {
            sleep(&dom0.domain, Duration::from_millis(1)).await;
            assert_eq!(armed.get(), n, "once for each sleep");
            writer.write_all(&[1; 10]).await.unwrap();
        }
        reading.join().await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn who_looks_again_in_time_asks_for_no_event() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        // The bytes are there for the 51st look: the first, 49 more, and the one after the request;
        // or 50 more.
        for (more, requests) in [(49, 1), (50, 0)] {
            let (server, client) = pair(&guest, &dom0, (12, 12)).await;
            let ((mut reader, _), (_, writer)) = (server.split(), client.split());
            server.busy_poll(more);
            let (armed, _counting) = count_requests(&world, &server);
            let (mut looks, mut writer, page) = (0, Some(writer), server.info().control_ref);
            let hook = world.on_access(move |access| {
                let is_look = access.by == GUEST && access.kind == AccessKind::Read;
                looks += u32::from(is_look && access.touches(GUEST, page, LEFT_PROD));
                if let Some(mut writer) = writer.take_if(|_| looks == 51) {
                    writer.try_write(&[2; 10]).unwrap();
                }
            });
            assert_eq!(reader.read(&mut [0; 10]).await, Ok(10));
            assert_eq!(armed.get(), requests);
            drop((hook, client));
            server.close().await.unwrap();
        }
    });
}

#[test]
fn round_trips_between_two_who_look_again_take_no_event() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let serving = spawner.spawn(&guest.domain, async move {
            let (mut reader, mut writer) = server.split();
            let mut message = [0; 64];
            while let n @ 1.. = reader.read(&mut message).await.unwrap() {
                writer.write_all(&message[..n]).await.unwrap();
            }
            server.close().await.unwrap();
        });
        let (mut reader, mut writer) = client.split();
        // The first message answers the request that stands in a fresh page.
        let mut sent = None;
        for n in 0..100 {
            writer.write_all(&[n; 64]).await.unwrap();
            let mut answer = [0; 64];
            reader.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [n; 64]);
            let now = (world.notifies(GUEST), world.notifies(DOM0));
            assert_eq!(*sent.get_or_insert(now), now, "round trip {n}");
        }
        drop((reader, writer));
        client.close().await.unwrap();
        serving.join().await;
    });
}

#[test]
fn the_state_of_the_event_channel_is_asked_once_a_second_and_not_at_each_event() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let offer = guest.publish(DOM0, (12, 12)).await;
        let client = dom0.connect().await.unwrap();
        let server = offer.accept().await.unwrap();
        let ((mut reader, mut writer), (_, mut peer)) = (server.split(), client.split());
        let reading =
            spawner.spawn(&guest.domain, async move { reader.read_exact(&mut [0; 1000]).await });
        // It waits for space, and so each event wakes it as well.
        let writing =
            spawner.spawn(&guest.domain, async move { writer.write_all(&[0; 4097]).await });
        for _ in 0..99 {
            sleep(&dom0.domain, Duration::from_millis(1)).await;
            peer.write_all(&[1; 10]).await.unwrap();
        }
        world.raise_spurious(GUEST, server.info().port, 1000);
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        assert_eq!(guest.domain.state_queries(), 0);
        sleep(&dom0.domain, Duration::from_secs(10)).await;
        assert_eq!(guest.domain.state_queries(), 10);
        peer.write_all(&[1; 10]).await.unwrap();
        reading.join().await.unwrap();
        client.split().0.read_exact(&mut [0; 4097]).await.unwrap();
        writing.join().await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn every_field_of_the_peer_is_read_once_in_each_call() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let offer = guest.publish(DOM0, (13, 10)).await;
        let control = offer.info().control_ref;
        let reads = world.count_reads(DOM0);
        let client = dom0.connect().await.unwrap();
        for (field, range) in
            [("orders", 16..20), ("live", 20..22), ("grants", 24..32), ("indices", 0..16)]
        {
            assert_eq!(reads.most(GUEST, control, range), 1, "{field}, while connecting");
        }
        let server = offer.accept().await.unwrap();
        for (reader_domain, near, far, prod, cons, live, wishes) in [
            (DOM0, &client, &server, RIGHT_PROD, LEFT_CONS, SRV_LIVE, CLI_NOTIFY),
            (GUEST, &server, &client, LEFT_PROD, RIGHT_CONS, CLI_LIVE, SRV_NOTIFY),
        ] {
            let ((mut reader, mut writer), (_, mut peer)) = (near.split(), far.split());
            peer.write_all(&[1; 800]).await.unwrap();
            let reads = world.count_reads(reader_domain);
            let head = |at| reads.of(GUEST, control, at);
            assert_eq!(reader.try_read(&mut [0; 500]), Ok(Some(500)));
            assert_eq!([prod, cons, live].map(head), [1, 0, 0], "reading");
            assert_eq!(
                reads.most(GUEST, control, 1024..4096),
                u32::from(reader_domain == DOM0),
                "each byte once"
            );
            reads.reset();
            assert_eq!(writer.try_write(&[0; 600]), Ok(Some(600)));
            assert_eq!([prod, cons, live].map(head), [0, 1, 1], "writing");
            assert!(head(wishes) <= 2, "looked at, and cleared if it was set");
        }
        drop(client);
        server.close().await.unwrap();
    });
}

/// vchan-socket-proxy waits for an event before it looks for data, and may have taken the one for
/// data together with that for the client's arrival.
#[test]
fn peer_that_has_missed_an_event_gets_another_each_second_until_it_has_read() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let server = RawServer::publish(&bench, &guest, good_head(12, 10));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let connection = dom0.connect().await.unwrap();
        let (mut reader, mut writer) = connection.split();
        let wait = async |reader: &mut xen_vchan::Reader<Domain>| {
            let until = Some(dom0.domain.now() + Duration::from_secs(10));
            assert!(deadline(&dom0.domain, until, reader.read(&mut [0; 8])).await.is_err());
        };
        let before = world.notifies(DOM0);
        wait(&mut reader).await;
        assert_eq!(world.notifies(DOM0), before, "there was nothing to read");
        writer.write_all(b"hello").await.unwrap();
        let before = world.notifies(DOM0);
        wait(&mut reader).await;
        let sent = world.notifies(DOM0) - before;
        assert!((9..=10).contains(&sent), "{sent} events in 10 s");
        server.page.store(LEFT_CONS, 5);
        let before = world.notifies(DOM0);
        wait(&mut reader).await;
        assert_eq!(world.notifies(DOM0), before, "it has read everything");
        drop((reader, writer));
        connection.close().await.unwrap();
        drop(server);
    });
    unpublish(&bench);
}

#[test]
fn busy_poll_window_grows_with_short_sleeps_and_ends_with_a_long_one() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let ((mut reader, _), (_, mut writer)) = (server.split(), client.split());
        let reading = spawner.spawn(&guest.domain, async move {
            while let Ok(1..) = reader.read(&mut [0; 8]).await {}
        });
        let mut looks = Vec::new();
        for micros in [50, 50, 50, 50, 50, 50, 50, 10_000, 50, 50] {
            let before = guest.domain.yields().count();
            sleep(&dom0.domain, Duration::from_micros(micros)).await;
            looks.push(guest.domain.yields().count() - before);
            writer.write_all(b"x").await.unwrap();
        }
        assert_eq!(looks, [8, 16, 32, 64, 128, 256, 256, 256, 8, 16]);
        client.close().await.unwrap();
        reading.join().await;
        server.close().await.unwrap();
    });
}
