//! The end of each direction on its own.

mod common;

use common::{Bench, DOM0, Error, GUEST, RawClient, pair, pattern};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::{Channel as _, Clock, IndexMemory, SharedMem, sleep};
use xen_vchan::Live;

#[test]
fn finish_ends_one_direction_after_its_last_byte() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 12)).await;
        assert!(server.can_half_close() && client.can_half_close());
        let ((mut from, mut to), (mut reader, mut writer)) = (server.split(), client.split());
        writer.write_all(&pattern(900)).await.unwrap();
        writer.finish().unwrap();
        assert_eq!(writer.write(b"more").await, Err(Error::Closed));
        let mut got = [0; 900];
        from.read_exact(&mut got).await.unwrap();
        assert!(got[..] == pattern(900));
        assert_eq!(from.read(&mut got).await, Ok(0));
        assert_eq!(from.recv(&mut got[..1]).await, Err(Error::Closed));
        // The other direction goes on, long after.
        sleep(&guest.domain, Duration::from_secs(60)).await;
        to.write_all(b"late").await.unwrap();
        to.finish().unwrap();
        let mut late = [0; 4];
        reader.read_exact(&mut late).await.unwrap();
        assert_eq!((&late, reader.read(&mut got).await), (b"late", Ok(0)));
        assert_eq!((server.state(), client.state()), (Live::Connected, Live::Connected));
        server.close_with_status(7).await.unwrap();
        client.over().await;
        assert_eq!((client.state(), client.peer_status()), (Live::Left, Some(7)));
        client.close().await.unwrap();
    });
}

#[test]
fn waiting_reader_is_woken_by_the_end_at_once() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
        let spawner = bench.sim.spawner();
        bench.run(async move {
            let (server, client) = pair(&guest, &dom0, (12, 12)).await;
            let (mut from, _) = server.split();
            let clock = guest.domain.clone();
            let reading = spawner.spawn(&guest.domain, async move {
                let end = from.read(&mut [0; 9]).await;
                (end, clock.now())
            });
            sleep(&dom0.domain, Duration::from_millis(1500)).await;
            let at = dom0.domain.now();
            let mut writer = client.split().1;
            writer.finish().unwrap();
            writer.drained().await.unwrap();
            let (end, seen) = reading.join().await;
            assert_eq!(end, Ok(0));
            let late = seen.since(at).max(dom0.domain.now().since(at));
            assert!(late < Duration::from_millis(500), "woken by a timer, {late:?} later");
            server.close().await.unwrap();
            client.close().await.unwrap();
        });
    }
}

#[test]
fn drained_waits_until_the_end_was_seen() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let ((mut from, _), (_, mut writer)) = (server.split(), client.split());
        writer.write_all(b"x").await.unwrap();
        writer.finish().unwrap();
        let soon = dom0.in_secs(5);
        assert_eq!(from.read(&mut [0; 9]).await, Ok(1));
        let drained = xen_platform::deadline(&dom0.domain, soon, writer.drained()).await;
        assert!(drained.is_err(), "the server has not looked for more");
        assert_eq!(from.read(&mut [0; 9]).await, Ok(0));
        writer.drained().await.unwrap();
        server.close().await.unwrap();
        client.close().await.unwrap();
    });
}

/// Bytes written before are read, but its end was never announced: it may not be all.
#[test]
fn dropped_connection_is_cut_off_and_not_ended() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        client.split().1.write_all(b"part").await.unwrap();
        drop(client);
        let (mut reader, mut got) = (server.split().0, [0; 9]);
        assert_eq!(reader.read(&mut got).await, Ok(4));
        assert_eq!(reader.read(&mut got).await, Err(Error::Died(DOM0)));
        server.close().await.unwrap();
    });
}

/// libxenvchan's client writes its notify byte as a whole, and knows two of its bits.
#[test]
fn client_of_libxenvchan_ends_only_with_the_connection() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let offer = guest.publish(DOM0, (10, 12)).await;
        let raw = RawClient::attach(&dom0.domain, &offer);
        raw.page.store_u8(common::CLI_LIVE, 1);
        raw.page.store_u8(common::SRV_NOTIFY, 1);
        raw.channel.notify();
        let server = offer.accept().await.unwrap();
        assert!(!server.can_half_close());
        let (mut reader, mut writer) = server.split();
        writer.finish().unwrap();
        assert_eq!(raw.page.load_u8(common::CLI_NOTIFY) & 0x60, 0, "bits that it need not bear");
        raw.page.write(1024, b"bye");
        raw.page.store(common::LEFT_PROD, 3);
        raw.page.store_u8(common::CLI_LIVE, 0);
        raw.channel.notify();
        let mut got = [0; 9];
        assert_eq!(reader.read(&mut got).await, Ok(3));
        assert_eq!(reader.read(&mut got).await, Ok(0));
        assert_eq!(server.state(), Live::Left);
        drop(raw);
        server.close_with_status(1).await.unwrap();
    });
}

/// A server of libxenvchan that stays (vchan-socket-proxy) keeps its page for the next client.
#[test]
fn persistent_server_of_libxenvchan_serves_client_after_client() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let server = common::RawServer::publish(&bench, &guest, common::good_head(10, 11));
    bench.run(async move {
        for number in 1..=3u32 {
            let client = dom0.connect().await.unwrap();
            assert!(!client.can_half_close());
            client.split().1.write_all(b"ask").await.unwrap();
            assert_eq!(server.page.load(common::LEFT_PROD), 3 * number);
            server.page.store(common::LEFT_CONS, 3 * number);
            client.close().await.unwrap();
            assert_eq!(server.page.load_u8(common::CLI_LIVE), 0);
        }
    });
    common::unpublish(&bench);
}
