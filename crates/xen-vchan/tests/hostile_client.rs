//! Attacks of a client on a server by writing what it likes, and the server's reaction.

mod common;

use common::{
    Bench, CLI_LIVE, DOM0, Error, GUEST, LEFT_CONS, LEFT_PROD, RIGHT_CONS, RIGHT_PROD, RawClient,
    SRV_LIVE, server,
};
use embedded_io_async::{Read, Write};
use proptest::prelude::*;
use std::time::Duration;
use xen_platform::{Channel, Clock, IndexMemory, ReadySince, SharedMem, deadline};
use xen_ring::bytes::{Fault, Field};
use xen_sim::Domain;
use xen_vchan::{Connection, Live, Offer, PeerError, Role, Side};

/// Offset of the left ring in a page with orders 10 and 11, and of the right one.
const LEFT: usize = 1024;
const RIGHT: usize = 2048;

/// A hostile client of a server whose rings have 1024 and 2048 bytes and whose indices begin at
/// `start`.
fn attack<T: 'static>(
    start: u32,
    play: impl AsyncFnOnce(RawClient, Connection<Domain>) -> T + 'static,
) -> T {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let config = server(DOM0, (10, 11));
        let offer = Offer::publish_from(&guest.domain, &guest.store, &config, start).await.unwrap();
        let client = RawClient::attach(&dom0.domain, &offer);
        client.join();
        let connection = offer.accept().await.unwrap();
        let result = play(client, connection).await;
        // Whatever the client did, the next offer is as good as ever; withdrawing it removes the
        // keys.
        guest.publish(DOM0, (10, 11)).await.withdraw().await.unwrap();
        result
    })
}

/// The server has ended the connection: it says so in the page, has sent an event, and says the
/// same to everyone.
async fn assert_over(
    client: &RawClient,
    events: &mut ReadySince,
    connection: &Connection<Domain>,
    error: &PeerError,
) {
    events.wait(&client.channel).await;
    assert_eq!(client.page.load_u8(SRV_LIVE), 0);
    assert_eq!(connection.state(), Live::Broken);
    let (mut reader, mut writer) = connection.split();
    let error = Error::Peer(error.clone());
    assert_eq!(reader.read(&mut [0; 9]).await, Err(error.clone()));
    assert_eq!(writer.write(b"x").await, Err(error.clone()));
    assert_eq!(writer.drained().await, Err(error.clone()));
    assert_eq!(writer.idle(), Err(error));
    assert!(connection.page().is_empty());
}

#[test]
fn more_data_than_the_ring_holds_is_refused() {
    for start in [0, 77, u32::MAX - 5] {
        for claim in [1025, 2048, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            attack(start, async move |client, connection| {
                let mut events = ReadySince::now(&client.channel);
                let prod = start.wrapping_add(claim);
                client.page.store(LEFT_PROD, prod);
                let mut got = [0x55; 100];
                let Err(Error::Peer(error)) = connection.split().0.read(&mut got).await else {
                    panic!("accepted")
                };
                let PeerError::Ring { side: Side::Left, corrupt } = error else {
                    panic!("{error}")
                };
                assert_eq!((corrupt.field, corrupt.fault), (Field::Prod, Fault::Overfull));
                assert_eq!((corrupt.prod, corrupt.cons, corrupt.size), (prod, start, 1024));
                assert_eq!(got, [0x55; 100], "something was copied");
                assert_over(&client, &mut events, &connection, &error).await;
            });
        }
    }
}

#[test]
fn more_space_than_the_ring_has_is_refused() {
    for start in [0, u32::MAX - 5] {
        for claim in [1, 2049, 0x8000_0000, u32::MAX - 2048] {
            attack(start, async move |client, connection| {
                let mut events = ReadySince::now(&client.channel);
                client.page.store(RIGHT_CONS, start.wrapping_add(claim));
                let Err(Error::Peer(error)) = connection.split().1.write(&[1; 10]).await else {
                    panic!("accepted")
                };
                let PeerError::Ring { side: Side::Right, corrupt } = error else {
                    panic!("{error}")
                };
                assert_eq!((corrupt.field, corrupt.fault), (Field::Cons, Fault::Overfull));
                assert_eq!(client.page.load(RIGHT_PROD), start, "published all the same");
                assert_over(&client, &mut events, &connection, &error).await;
            });
        }
    }
}

#[test]
fn an_index_that_moves_back_is_refused() {
    attack(0, async move |client, connection| {
        client.page.store(LEFT_PROD, 600);
        connection.split().0.read(&mut [0; 100]).await.unwrap();
        client.page.store(LEFT_PROD, 599);
        let Err(Error::Peer(error)) = connection.split().0.read(&mut [0; 100]).await else {
            panic!("accepted")
        };
        let PeerError::Ring { side: Side::Left, corrupt } = error else { panic!("{error}") };
        assert_eq!((corrupt.field, corrupt.fault), (Field::Prod, Fault::Backwards { from: 600 }));
    });
    attack(0, async move |client, connection| {
        connection.split().1.write_all(&[0; 2000]).await.unwrap();
        client.page.store(RIGHT_CONS, 1000);
        connection.split().1.write_all(&[0; 1000]).await.unwrap();
        client.page.store(RIGHT_CONS, 999);
        let Err(Error::Peer(error)) = connection.split().1.drained().await else {
            panic!("accepted")
        };
        let PeerError::Ring { side: Side::Right, corrupt } = error else { panic!("{error}") };
        assert_eq!((corrupt.field, corrupt.fault), (Field::Cons, Fault::Backwards { from: 1000 }));
    });
}

#[test]
fn what_only_the_server_writes_is_never_read_back() {
    attack(0, async move |client, connection| {
        let (mut reader, mut writer) = connection.split();
        // The server's indices, the orders and the list of grants, all overwritten.
        client.page.store(LEFT_CONS, 0xdead_0001);
        client.page.store(RIGHT_PROD, 0xdead_0002);
        client.page.write(16, &[0xff; 4]);
        client.page.write(24, &[0xff; 400]);
        client.page.write(LEFT, b"hello");
        client.page.store(LEFT_PROD, 5);
        let mut got = [0; 9];
        assert_eq!(reader.read(&mut got).await, Ok(5));
        assert_eq!((&got[..5], client.page.load(LEFT_CONS)), (&b"hello"[..], 5));
        assert_eq!(writer.write(b"HELLO").await, Ok(5));
        assert_eq!(client.page.load(RIGHT_PROD), 5);
        let mut got = [0; 5];
        client.page.read(RIGHT, &mut got);
        assert_eq!(&got, b"HELLO");
        assert_eq!(connection.state(), Live::Connected);
        connection.close().await.unwrap();
    });
}

#[test]
fn a_live_byte_that_cannot_be_is_refused() {
    // Once connected, a client cannot be "not yet" there again.
    for value in [2, 3, 7, 0x80, 0xff] {
        attack(0, async move |client, connection| {
            let mut events = ReadySince::now(&client.channel);
            client.page.store_u8(CLI_LIVE, value);
            let error = PeerError::Live { who: Role::Client, value };
            assert_eq!(connection.split().1.write(b"x").await, Err(Error::Peer(error.clone())));
            assert_eq!(error.to_string(), format!("cli_live is {value}"));
            assert_over(&client, &mut events, &connection, &error).await;
        });
    }
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let mut offer = guest.publish(DOM0, (10, 11)).await;
        let client = RawClient::attach(&dom0.domain, &offer);
        client.page.store_u8(CLI_LIVE, 3);
        client.channel.notify();
        let error = Error::Peer(PeerError::Live { who: Role::Client, value: 3 });
        assert_eq!(offer.arrival().await, Err(error.clone()));
        assert_eq!(offer.arrival().await, Err(error));
        assert_eq!(client.page.load_u8(SRV_LIVE), 0);
        offer.withdraw().await.unwrap();
    });
}

#[test]
fn events_without_end_and_without_cause_change_nothing() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = common::pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, _) = server.split();
        let reading = spawner.spawn(&guest.domain, async move { reader.read(&mut [0; 9]).await });
        world.raise_spurious(GUEST, server.info().local_port, 100_000);
        xen_platform::sleep(&guest.domain, Duration::from_secs(10)).await;
        client.split().1.write_all(b"at last").await.unwrap();
        assert_eq!(reading.join().await, Ok(7));
        drop(client);
        server.close().await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the client writes anywhere in the head, at any time: each call of the server gives
    /// bytes, an error or nothing, and never more bytes than were asked for or than a ring holds.
    #[test]
    fn no_head_of_the_page_does_harm(
        writes in prop::collection::vec((0usize..24, any::<u8>(), any::<u8>()), 1..40),
        start: u32,
    ) {
        attack(start, async move |client, connection| {
            let (mut reader, mut writer) = connection.split();
            let mut got = [0; 1500];
            for (at, value, step) in writes {
                client.page.store_u8(at, value);
                match step % 3 {
                    0 => assert!(reader.try_read(&mut got).is_ok_and(|n| n.unwrap_or(0) <= 1024) || is_over(&connection)),
                    1 => assert!(writer.try_write(&got).is_ok_and(|n| n.unwrap_or(0) <= 1500) || is_over(&connection)),
                    _ => drop(connection.state()),
                }
            }
        });
    }
}

fn is_over(connection: &Connection<Domain>) -> bool {
    matches!(connection.state(), Live::Broken | Live::Left)
}

#[test]
fn a_client_that_never_reads_keeps_the_server_only_until_its_deadline() {
    attack(0, async move |client, connection| {
        let (_, mut writer) = connection.split();
        let until = Some(client.domain.now() + Duration::from_secs(30));
        assert!(deadline(&client.domain, until, writer.write_all(&[0; 5000])).await.is_err());
        assert_eq!(connection.state(), Live::Connected);
        connection.close().await.unwrap();
    });
}
