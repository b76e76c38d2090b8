//! Attacks of a server on a client by writing what it likes, and the client's reaction.

mod common;

use common::{
    Bench, CLI_LIVE, DOM0, EVENT_CHANNEL, Error, GUEST, LEFT_CONS, LEFT_PROD, PATH, RIGHT_CONS,
    RIGHT_PROD, RING_REF, RawServer, SRV_LIVE, SRV_NOTIFY, good_head, unpublish,
};
use embedded_io_async::{Read, Write};
use proptest::prelude::*;
use xen_abi::vchan::{Interface, Live as LiveByte};
use xen_platform::{DomId, IndexMemory, SharedMem};
use xen_ring::bytes::{Fault, Field};
use xen_sim::Reason;
use xen_vchan::{Live, OrderClash, PeerError, Role, Side, Stale};

/// Connects to a server with this head, until the deadline; the server must not have seen a client
/// come and go.
fn refused(head: Interface) -> Error {
    refused_after(head, |_, _| ())
}

/// The same, with something more made wrong before the client looks.
fn refused_after(head: Interface, spoil: impl FnOnce(&Bench, &RawServer)) -> Error {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let server = RawServer::publish(&bench, &guest, head);
    spoil(&bench, &server);
    let page = bench.sim.world().page_of(GUEST, xen_platform::Granted::refs(&server.page)[0]);
    let before = [page.load(16), page.load(20)];
    let error = bench.run(async move { dom0.connect().await.err().expect("it connected") });
    assert_eq!([page.load(16), page.load(20)], before, "it left a trace");
    unpublish(&bench);
    error
}

#[test]
fn orders_that_cannot_be_are_refused() {
    for order in [0, 9, 21, 0x8000, u16::MAX] {
        let error = Error::Peer(PeerError::Order { side: Side::Left, order });
        assert_eq!(refused(good_head(order, 12)), error);
        let error = Error::Peer(PeerError::Order { side: Side::Right, order });
        assert_eq!(refused(good_head(12, order)), error);
    }
    for (left, right) in [(10, 10), (11, 11), (10, 20), (20, 10)] {
        let error = refused(good_head(left, right));
        assert!(matches!(error, Error::Peer(PeerError::Orders(_))), "{error}");
    }
    let Error::Peer(PeerError::Orders(clash)) = refused(good_head(20, 10)) else { panic!() };
    assert!(matches!(clash, OrderClash::ListTooLong { .. }), "{clash}");
}

#[test]
fn a_server_that_is_not_there_is_waited_for_and_nonsense_is_refused() {
    let with = |srv_live, cli_live| {
        refused(Interface {
            srv_live: LiveByte(srv_live),
            cli_live: LiveByte(cli_live),
            // One that offers each client a page of its own.
            cli_notify: 0x81,
            ..good_head(12, 12)
        })
    };
    let path = || format!("/local/domain/1/{PATH}");
    for absent in [0, 2] {
        assert_eq!(with(absent, 2), Error::Stale { path: path(), why: Stale::NoServer });
    }
    assert_eq!(with(1, 0), Error::Stale { path: path(), why: Stale::Used });
    assert_eq!(with(1, 1), Error::Busy { path: path() });
    for value in [3, 0x81, 0xff] {
        assert_eq!(with(value, 2), Error::Peer(PeerError::Live { who: Role::Server, value }));
        assert_eq!(with(1, value), Error::Peer(PeerError::Live { who: Role::Client, value }));
    }
}

#[test]
fn indices_that_cannot_be_are_refused_before_anything_is_bound() {
    for (field, side, to_blame) in [
        (LEFT_CONS, Side::Left, Field::Cons),
        (LEFT_PROD, Side::Left, Field::Cons),
        (RIGHT_CONS, Side::Right, Field::Prod),
    ] {
        let error =
            refused_after(good_head(12, 13), |_, server| server.page.store(field, 0x8000_0000));
        let Error::Peer(PeerError::Ring { side: found, corrupt }) = error else {
            panic!("{error}")
        };
        assert_eq!((found, corrupt.fault, corrupt.field), (side, Fault::Overfull, to_blame));
    }
}

#[test]
fn references_and_ports_that_lead_nowhere_are_waited_out() {
    let stale = |error| match error {
        Error::Stale { why: Stale::Map(error) | Stale::Bind(error), .. } => error.reason,
        other => panic!("{other}"),
    };
    let nowhere = refused_after(good_head(12, 12), |bench, _| bench.xs.set(RING_REF, "4000"));
    assert_eq!(stale(nowhere), Reason::NoGrant(xen_platform::GrantRef(4000)));
    let in_list = refused_after(good_head(12, 15), |_, server| server.page.store(24 + 4 * 8, 4000));
    assert_eq!(stale(in_list), Reason::NoGrant(xen_platform::GrantRef(4000)));
    let port = refused_after(good_head(12, 12), |bench, _| bench.xs.set(EVENT_CHANNEL, "4000"));
    assert_eq!(stale(port), Reason::NoPort(xen_platform::Port(4000)));
}

#[test]
fn keys_that_are_no_numbers_are_refused() {
    for value in
        ["", "x", "-1", "+5", "0x8", " 8", "8\n", "8.0", "4294967296", "99999999999999999999999"]
    {
        for key in [RING_REF, EVENT_CHANNEL] {
            let error = refused_after(good_head(12, 12), |bench, _| bench.xs.set(key, value));
            assert_eq!(
                error,
                Error::Peer(PeerError::Key { path: key.into(), value: value.into() })
            );
        }
    }
    let error = refused_after(good_head(12, 12), |bench, _| bench.xs.set(RING_REF, [0xff, 0xfe]));
    assert!(matches!(error, Error::Peer(PeerError::Key { .. })), "{error}");
}

#[test]
fn keys_of_another_domain_are_refused() {
    for key in [RING_REF, EVENT_CHANNEL] {
        let error =
            refused_after(good_head(12, 12), |bench, _| bench.xs.set_permissions(key, "n2 r0 b1"));
        let owner = DomId(2);
        assert_eq!(error, Error::Peer(PeerError::Owner { path: key.into(), owner, server: GUEST }));
    }
}

#[test]
fn half_of_the_keys_are_none() {
    for key in [RING_REF, EVENT_CHANNEL] {
        let error = refused_after(good_head(12, 12), |bench, _| bench.xs.remove(key));
        assert_eq!(error, Error::NoServer { path: format!("/local/domain/1/{PATH}") });
    }
}

/// A client connected to a server that then does what it likes; rings of 4 KiB and 1 KiB, indices
/// as in the head.
fn attack<T: 'static>(
    head: Interface,
    play: impl AsyncFnOnce(RawServer, xen_vchan::Connection<xen_sim::Domain>) -> T + 'static,
) -> T {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let server = RawServer::publish(&bench, &guest, head);
    let result = bench.run(async move {
        let connection = dom0.connect().await.unwrap();
        assert_eq!(server.page.load_u8(CLI_LIVE), 1);
        assert_eq!(server.page.load_u8(SRV_NOTIFY), 1, "the client wants to hear of data");
        play(server, connection).await
    });
    unpublish(&bench);
    result
}

#[test]
fn indices_that_stop_being_true_end_the_connection() {
    for (field, value, side) in [
        (RIGHT_PROD, 1025, Side::Right),
        (RIGHT_PROD, 0x8000_0000, Side::Right),
        (LEFT_CONS, 11, Side::Left),
        (LEFT_CONS, u32::MAX - 4086, Side::Left),
    ] {
        attack(good_head(12, 10), async move |server, connection| {
            let (mut reader, mut writer) = connection.split();
            writer.write_all(&[1; 10]).await.unwrap();
            server.page.store(field, value);
            let error = match side {
                Side::Right => reader.read(&mut [0; 9]).await.unwrap_err(),
                Side::Left => writer.write(b"x").await.unwrap_err(),
            };
            let Error::Peer(PeerError::Ring { side: found, .. }) = &error else {
                panic!("{error}")
            };
            assert_eq!(*found, side);
            assert_eq!(server.page.load_u8(CLI_LIVE), 0, "the server is told");
            assert_eq!(
                (reader.read(&mut [0; 9]).await, writer.write(b"x").await),
                (Err(error.clone()), Err(error))
            );
            assert_eq!(connection.state(), Live::Broken);
        });
    }
}

#[test]
fn a_live_byte_that_stops_making_sense_ends_the_connection() {
    for value in [2, 9, 0xff] {
        attack(good_head(12, 10), async move |server, connection| {
            server.page.store_u8(SRV_LIVE, value);
            let error = Error::Peer(PeerError::Live { who: Role::Server, value });
            assert_eq!(connection.split().0.read(&mut [0; 9]).await, Err(error));
        });
    }
}

#[test]
fn what_was_read_at_the_beginning_is_not_read_again() {
    attack(good_head(12, 10), async move |server, connection| {
        let (mut reader, mut writer) = connection.split();
        // The client's indices, the orders and the list of grants.
        server.page.store(LEFT_PROD, 0xdead_0001);
        server.page.store(RIGHT_CONS, 0xdead_0002);
        server.page.write(16, &[0xff; 4]);
        server.page.write(24, &[0xff; 40]);
        writer.write_all(b"to the ring's page").await.unwrap();
        let mut got = [0; 18];
        server.ring.read(0, &mut got);
        assert_eq!((&got, server.page.load(LEFT_PROD)), (b"to the ring's page", 18));
        server.page.write(1024, b"back");
        server.page.store(RIGHT_PROD, 4);
        assert_eq!(reader.read(&mut got).await, Ok(4));
        assert_eq!((&got[..4], server.page.load(RIGHT_CONS)), (&b"back"[..], 4));
        connection.close().await.unwrap();
    });
}

#[test]
fn a_client_goes_on_from_the_indices_it_finds() {
    let mut head = good_head(12, 10);
    head.left = xen_abi::vchan::Indices { cons: u32::MAX - 4, prod: u32::MAX - 4 };
    // The server has written before the client came.
    head.right = xen_abi::vchan::Indices { cons: u32::MAX - 1, prod: 3 };
    attack(head, async move |server, connection| {
        let (mut reader, mut writer) = connection.split();
        server.page.write(1024 + 1022, b"ea");
        server.page.write(1024, b"rly");
        let mut got = [0; 5];
        reader.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"early");
        writer.write_all(b"0123456789").await.unwrap();
        assert_eq!(server.page.load(LEFT_PROD), 5);
        connection.close().await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the page and the keys say: the client connects or gives an error, and leaves
    /// nothing behind.
    #[test]
    fn no_offer_does_harm(
        writes in prop::collection::vec((0usize..40, any::<u8>()), 0..6),
        values in prop::collection::vec("[0-9]{1,3}|[ -~]{0,12}", 2),
        good_keys in prop::bool::weighted(0.8),
    ) {
        let mut bench = Bench::new();
        let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
        let server = RawServer::publish(&bench, &guest, good_head(12, 11));
        for (at, value) in writes {
            server.page.store_u8(at, value);
        }
        if !good_keys {
            bench.xs.set(RING_REF, &values[0]);
            bench.xs.set(EVENT_CHANNEL, &values[1]);
        }
        bench.run(async move {
            if let Ok(connection) = dom0.connect().await {
                let (mut reader, mut writer) = connection.split();
                let _ = (reader.try_read(&mut [0; 5000]), writer.try_write(&[0; 5000]));
                connection.close().await.unwrap();
            }
            drop(server);
        });
        unpublish(&bench);
    }
}
