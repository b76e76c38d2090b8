//! Packets of an exact size, and what can be asked before reading and writing.

mod common;

use common::{Bench, CLI_NOTIFY, DOM0, Error, GUEST, SRV_NOTIFY, pair, pattern};
use embedded_io_async::{Read, Write};
use proptest::prelude::*;
use std::time::Duration;
use xen_platform::{Clock, IndexMemory, deadline, sleep};
use xen_vchan::{ConfigError, Offer, Side};

/// Sends packets of these sizes through rings of 4 KiB, with work of other sizes' time at either
/// end.
fn packets_arrive(seed: u64, start: u32, sizes: Vec<usize>) {
    let mut bench = Bench::with_seed(seed);
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let config = common::server(DOM0, (12, 12));
        let offer = Offer::publish_from(&guest.domain, &guest.store, &config, start).await.unwrap();
        let client = dom0.connect().await.unwrap();
        let server = offer.accept().await.unwrap();
        let ((mut reader, _), (_, mut writer)) = (server.split(), client.split());
        let total = sizes.iter().sum();
        let lengths = sizes.clone();
        let receiving = spawner.spawn(&guest.domain, async move {
            let mut all = Vec::new();
            for len in lengths {
                let mut packet = vec![0; len];
                reader.recv(&mut packet).await.unwrap();
                all.extend(packet);
            }
            all
        });
        let mut bytes = &pattern(total)[..];
        for len in sizes {
            let (packet, rest) = bytes.split_at(len);
            writer.send(packet).await.unwrap();
            bytes = rest;
        }
        assert!(receiving.join().await == pattern(total));
        drop(client);
        server.close().await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn packets_arrive_as_they_were_sent(
        seed: u64,
        before in 0u32..10_000,
        sizes in prop::collection::vec(prop_oneof![0usize..10, 0usize..=4096, Just(4096)], 1..30),
    ) {
        packets_arrive(seed, 0u32.wrapping_sub(before), sizes);
    }
}

#[test]
fn all_of_a_packet_goes_or_nothing() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 12)).await;
        let ((mut reader, _), (_, mut writer)) = (server.split(), client.split());
        assert_eq!(writer.try_send(&pattern(1000)), Ok(Some(())));
        assert_eq!(writer.try_send(&[7; 25]), Ok(None));
        let mut got = [0; 1001];
        assert_eq!(reader.try_recv(&mut got), Ok(None));
        assert_eq!(got, [0; 1001]);
        let soon = guest.in_secs(1);
        assert!(deadline(&guest.domain, soon, reader.recv(&mut got)).await.is_err());
        assert!(deadline(&dom0.domain, soon, writer.send(&[7; 25])).await.is_err());
        assert_eq!(reader.try_recv(&mut got[..1000]), Ok(Some(())));
        assert_eq!(got[..1000], pattern(1000));
        assert_eq!((reader.try_recv(&mut []), writer.try_send(&[])), (Ok(Some(())), Ok(Some(()))));
        assert_eq!(reader.data_ready(), Ok(0));
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn a_packet_that_never_fits_is_refused_and_not_waited_for() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 11)).await;
        let refused =
            |len, side, max| Err(Error::Config(ConfigError::PacketTooLarge { len, side, max }));
        let ((mut server_reader, mut server_writer), (mut reader, mut writer)) =
            (server.split(), client.split());
        assert_eq!(writer.send(&[0; 1025]).await, refused(1025, Side::Left, 1024));
        assert_eq!(server_reader.recv(&mut [0; 1025]).await, refused(1025, Side::Left, 1024));
        assert_eq!(server_writer.send(&[0; 2049]).await, refused(2049, Side::Right, 2048));
        assert_eq!(reader.recv(&mut [0; 2049]).await, refused(2049, Side::Right, 2048));
        writer.send(&[0; 1024]).await.unwrap();
        server_writer.send(&[0; 2048]).await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn of_a_peer_that_ended_whole_packets_are_read_and_the_rest_by_bytes() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, mut writer) = server.split();
        let receiving = spawner.spawn(&guest.domain, async move {
            let mut got = [0; 4];
            let ends = [
                reader.recv(&mut got).await,
                reader.recv(&mut got).await,
                reader.recv(&mut got).await,
            ];
            (ends, reader)
        });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        client.split().1.write_all(b"onetwothre").await.unwrap();
        client.close().await.unwrap();
        let (ends, mut reader) = receiving.join().await;
        assert_eq!(ends, [Ok(()), Ok(()), Err(Error::Closed)]);
        let mut got = [0; 9];
        assert_eq!(reader.data_ready(), Ok(2));
        assert_eq!(reader.read(&mut got).await, Ok(2));
        assert_eq!(&got[..2], b"re");
        assert_eq!(writer.send(b"x").await, Err(Error::Closed));
        assert_eq!(writer.space(), Err(Error::Closed));
        server.close().await.unwrap();
    });
}

#[test]
fn who_asks_is_told_when_the_answer_changes() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 12)).await;
        let page = world.page_of(GUEST, server.info().control_ref);
        let ((mut reader, _), (mut other, mut writer)) = (server.split(), client.split());
        writer.write_all(&[1; 10]).await.unwrap();
        assert_eq!(page.load_u8(CLI_NOTIFY) & 3, 0, "the first write has used the request up");
        assert_eq!(reader.data_ready(), Ok(10));
        assert_eq!(page.load_u8(CLI_NOTIFY) & 3, 1);

        let waiting = spawner.spawn(&guest.domain, async move {
            while reader.data_ready().unwrap() < 1024 {
                reader.next_event().await;
            }
            reader
        });
        sleep(&dom0.domain, Duration::from_millis(1)).await;
        let at = dom0.domain.now();
        writer.write_all(&[1; 1014]).await.unwrap();
        let mut reader = waiting.join().await;
        assert_eq!(dom0.domain.now(), at, "by an event, not by the clock");

        assert_eq!(writer.space(), Ok(0));
        assert_eq!(page.load_u8(SRV_NOTIFY) & 3, 3, "for space, and for data since it connected");
        let waiting = spawner.spawn(&dom0.domain, async move {
            while writer.space().unwrap() < 1000 {
                writer.next_event().await;
            }
            writer
        });
        reader.recv(&mut [0; 1000]).await.unwrap();
        let mut writer = waiting.join().await;
        assert_eq!(dom0.domain.now(), at);

        // The end of the connection is news, too; and nobody waits for more after that.
        server.close().await.unwrap();
        for _ in 0..3 {
            writer.next_event().await;
            other.next_event().await;
        }
        assert_eq!(other.read(&mut [0; 1]).await, Ok(0));
        assert_eq!(dom0.domain.now(), at);
        drop(client);
        drop(other);
    });
}
