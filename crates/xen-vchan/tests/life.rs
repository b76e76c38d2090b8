//! Begin and end of connections when both sides keep to the protocol.

mod common;

use common::{
    Bench, CLI_LIVE, CLI_NOTIFY, DOM0, EVENT_CHANNEL, Error, GUEST, LEFT_PROD, PATH, RING_REF,
    RawClient, SRV_LIVE, pair, pattern,
};
use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Channel, DomId, IndexMemory, SharedMem, deadline};
use xen_sim::AccessKind;
use xen_vchan::{ClientConfig, Live, Offer, Role, connect};

#[test]
fn the_page_and_the_keys_are_what_a_client_expects() {
    let mut bench = Bench::new();
    let (guest, xs) = (bench.host(GUEST), bench.xs.clone());
    bench.run(async move {
        let offer = guest.publish(DOM0, (13, 13)).await;
        let head = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 13, 0, 13, 0, 2, 1, 0x81, 0];
        let refs = [9, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0, 12, 0, 0, 0];
        assert_eq!(offer.page(), [&head[..], &refs].concat());
        let info = offer.info();
        assert_eq!(
            (info.control_ref.0, info.port, info.role, info.peer),
            (8, info.local_port, Role::Server, DOM0)
        );
        assert_eq!(xs.get(RING_REF).unwrap(), b"8");
        assert_eq!(xs.get(EVENT_CHANNEL).unwrap(), info.port.to_string().as_bytes());
        for key in [RING_REF, EVENT_CHANNEL] {
            assert_eq!(xs.permissions(key).unwrap(), "n1 r0");
        }
        offer.withdraw().await.unwrap();
    });
}

#[test]
fn both_ends_remember_the_page_from_before_the_client_announced_itself() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let offer = guest.publish(DOM0, (13, 13)).await;
        let published = offer.page();
        let client = dom0.connect().await.unwrap();
        let server = offer.accept().await.unwrap();
        assert_eq!(published[20..24], [2, 1, 0x81, 0]);
        assert_eq!((client.first_page(), server.first_page()), (&published[..], &published[..]));
        assert_eq!(client.page()[20..24], [1, 1, 0x81, 0x81]);
        client.close().await.unwrap();
        server.close().await.unwrap();
    });
}

#[test]
fn clients_are_served_one_after_another_each_with_a_channel_of_its_own() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        for round in 0..5u8 {
            let (server, client) = pair(&guest, &dom0, (12, 11)).await;
            assert_eq!(server.page()[..16], [0; 16], "indices of an earlier client");
            let ((mut server_reader, mut server_writer), (mut reader, mut writer)) =
                (server.split(), client.split());
            writer.write_all(&[round; 3000]).await.unwrap();
            let mut got = [0; 3000];
            server_reader.read_exact(&mut got).await.unwrap();
            server_writer.write_all(&got[..2000]).await.unwrap();
            reader.read_exact(&mut got[..2000]).await.unwrap();
            assert_eq!(got, [round; 3000]);
            client.close().await.unwrap();
            assert_eq!(server_reader.read(&mut got).await, Ok(0));
            assert_eq!(server.state(), Live::Left);
            server.close().await.unwrap();
        }
    });
}

#[test]
fn what_was_written_before_a_close_is_still_read() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        for server_closes in [true, false] {
            let (server, client) = pair(&guest, &dom0, (12, 12)).await;
            let (first, second) = if server_closes { (server, client) } else { (client, server) };
            let (mut reader, mut writer) = second.split();
            first.split().1.write_all(&pattern(4000)).await.unwrap();
            first.close().await.unwrap();
            let (mut got, mut buffer) = (Vec::new(), [0; 999]);
            loop {
                match reader.read(&mut buffer).await.unwrap() {
                    0 => break,
                    n => got.extend_from_slice(&buffer[..n]),
                }
            }
            assert!(got == pattern(4000));
            assert_eq!(second.state(), Live::Left);
            assert_eq!(writer.write(b"x").await, Err(Error::Closed));
            assert_eq!(writer.drained().await, Ok(()), "nothing was written, so nothing is left");
            second.close().await.unwrap();
        }
    });
}

/// The platform's work when pages are given back is a safety net: the word is the protocol's to
/// say.
#[test]
fn an_end_says_that_it_leaves() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let said = Rc::new(RefCell::new(Vec::new()));
        let heard = said.clone();
        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        let hook = world.on_access(move |access| {
            if access.kind == AccessKind::Write {
                heard.borrow_mut().push((access.by, access.at, access.len));
            }
        });
        client.close().await.unwrap();
        drop(server);
        assert_eq!(*said.borrow(), [(DOM0, CLI_LIVE, 1), (GUEST, SRV_LIVE, 1)]);
        drop(hook);
        guest.publish(DOM0, (12, 12)).await.withdraw().await.unwrap();
    });
}

#[test]
fn closing_wakes_the_own_readers_and_writers() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 11)).await;
        let (mut reader, mut writer) = client.split();
        let reading = spawner.spawn(&dom0.domain, async move { reader.read(&mut [0; 10]).await });
        let writing =
            spawner.spawn(&dom0.domain, async move { writer.write_all(&[1; 5000]).await });
        xen_platform::sleep(&dom0.domain, Duration::from_millis(10)).await;
        client.close().await.unwrap();
        assert_eq!(reading.join().await, Err(Error::Closed));
        assert_eq!(writing.join().await, Err(Error::Closed));
        server.close().await.unwrap();
    });
}

#[test]
fn a_client_that_came_wrote_and_left_unseen_is_read_to_the_end() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let offer = guest.publish(DOM0, (11, 12)).await;
        let client = dom0.connect().await.unwrap();
        client.split().1.write_all(b"in a hurry").await.unwrap();
        client.close().await.unwrap();
        let connection = offer.accept().await.unwrap();
        let (mut reader, mut writer) = connection.split();
        let mut got = [0; 10];
        reader.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"in a hurry");
        assert_eq!(reader.read(&mut got).await, Ok(0));
        assert_eq!(writer.write(b"x").await, Err(Error::Closed));
        connection.close().await.unwrap();
    });
}

/// Clients of Xen before 4.14 send no event when they connect, only when they write.
#[test]
fn a_client_that_connects_in_silence_is_noticed_when_it_writes() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let offer = guest.publish(DOM0, (10, 12)).await;
        let client = RawClient::attach(&dom0.domain, &offer);
        let accepting = spawner.spawn(&guest.domain, offer.accept());
        let pause = || xen_platform::sleep(&dom0.domain, Duration::from_secs(1));
        pause().await;
        client.page.store_u8(CLI_LIVE, 1);
        pause().await;
        client.page.write(1024, b"hello");
        client.page.store(LEFT_PROD, 5);
        assert_eq!(
            client.page.fetch_and(CLI_NOTIFY, !1) & 3,
            1,
            "the server wants to hear of data"
        );
        client.channel.notify();
        let connection = accepting.join().await.unwrap();
        let mut got = [0; 5];
        connection.split().0.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        connection.close().await.unwrap();
    });
}

#[test]
fn a_guest_can_be_the_client_of_dom0_and_of_another_guest() {
    let mut bench = Bench::new();
    let (dom0, one, two) = (bench.host(DOM0), bench.host(GUEST), bench.host(DomId(2)));
    bench.run(async move {
        for (server, client) in [(&dom0, &two), (&one, &two), (&two, &dom0)] {
            let config = common::server(client.domain.id(), (12, 13));
            let offer = Offer::publish(&server.domain, &server.store, &config).await.unwrap();
            let config = ClientConfig::new(server.domain.id(), PATH).deadline(client.in_secs(1));
            let near = connect(&client.domain, &client.store, &config).await.unwrap();
            let far = offer.accept().await.unwrap();
            near.split().1.write_all(b"hello").await.unwrap();
            let mut got = [0; 5];
            far.split().0.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"hello");
            near.close().await.unwrap();
            far.close().await.unwrap();
        }
    });
}

#[test]
fn giving_up_a_read_or_a_write_loses_nothing() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 11)).await;
        let ((mut reader, _), (_, mut writer)) = (server.split(), client.split());
        let mut got = [0; 1024];
        let soon = || guest.in_secs(3);
        assert!(deadline(&guest.domain, soon(), reader.read(&mut got)).await.is_err());
        writer.write_all(&pattern(1024)).await.unwrap();
        assert!(deadline(&guest.domain, soon(), writer.write(b"too much")).await.is_err());
        assert!(deadline(&guest.domain, soon(), writer.drained()).await.is_err());
        reader.read_exact(&mut got).await.unwrap();
        assert!(got[..] == pattern(1024));
        writer.drained().await.unwrap();
        assert_eq!(reader.try_read(&mut got), Ok(None));
        drop(client);
        server.close().await.unwrap();
    });
}
