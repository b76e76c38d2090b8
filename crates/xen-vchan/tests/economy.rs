//! That nothing is done too often: events, and reads of what a peer can change.

mod common;

use common::{
    Bench, CLI_LIVE, CLI_NOTIFY, DOM0, GUEST, LEFT_CONS, LEFT_PROD, RIGHT_CONS, RIGHT_PROD, SRV_LIVE, SRV_NOTIFY, pair,
};
use embedded_io_async::{Read, Write};
use std::time::Duration;

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
        xen_platform::sleep(&dom0.domain, Duration::from_millis(1)).await;
        assert!(writer.idle().unwrap());
        writer.write_all(&[7; 5]).await.unwrap();
        assert!(!writer.idle().unwrap());
        writer.write_all(&[7; 5]).await.unwrap();
        assert_eq!(sent(), (0, 3));
        let mut server_reader = reading.join().await;

        // A writer asks when it finds no space.
        writer.write_all(&[7; 4096]).await.unwrap();
        let writing = spawner.spawn(&dom0.domain, async move { writer.write_all(&[7; 50]).await });
        xen_platform::sleep(&dom0.domain, Duration::from_millis(1)).await;
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
fn every_field_of_the_peer_is_read_once_in_each_call() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let offer = guest.publish(DOM0, (13, 10)).await;
        let control = offer.info().control_ref;
        let reads = world.count_reads(DOM0);
        let client = dom0.connect().await.unwrap();
        for (field, range) in [("orders", 16..20), ("live", 20..22), ("grants", 24..32), ("indices", 0..16)] {
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
            assert_eq!(reads.most(GUEST, control, 1024..4096), u32::from(reader_domain == DOM0), "each byte once");
            reads.reset();
            assert_eq!(writer.try_write(&[0; 600]), Ok(Some(600)));
            assert_eq!([prod, cons, live].map(head), [0, 1, 1], "writing");
            assert!(head(wishes) <= 2, "looked at, and cleared if it was set");
        }
        drop(client);
        server.close().await.unwrap();
    });
}
