//! Many clients at a time.

mod common;

use common::{
    Bench, CLI_LIVE, DOM0, Error, GUEST, Host, LEFT_PROD, RIGHT_CONS, RING_REF, RawClient, pattern,
    server,
};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::{Channel, IndexMemory, SharedMem, deadline};
use xen_sim::{Domain, Operation, Spawner};
use xen_vchan::{Connection, Listener, Live, PeerError, Role};

async fn listener(guest: &Host) -> Listener<Domain> {
    Listener::open(&guest.domain, &guest.store, &server(DOM0, (12, 11))).await.unwrap()
}

/// Sends back what comes until the client leaves, however that happens.
async fn echo(connection: Connection<Domain>) -> Result<(), Error> {
    let (mut reader, mut writer) = connection.split();
    let mut buffer = [0; 700];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(n) => writer.write_all(&buffer[..n]).await?,
            Err(error) => {
                connection.close().await?;
                return Err(error);
            }
        }
    }
    connection.close().await
}

/// Accepts `count` clients, each with a task of its own, and then no more; gives what became of
/// them.
async fn serve(guest: Host, spawner: Spawner, clients: usize) -> Vec<Result<(), Error>> {
    let mut listener = listener(&guest).await;
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let connection = listener.accept().await.unwrap();
        tasks.push(spawner.spawn(&guest.domain, echo(connection)));
    }
    listener.close().await.unwrap();
    let mut ends = Vec::new();
    for task in tasks {
        ends.push(task.join().await);
    }
    ends
}

/// Returns true if everything comes back that is sent in pieces of this size.
async fn is_served(client: &Connection<Domain>, piece: usize) {
    let (mut reader, mut writer) = client.split();
    let sent = pattern(20 * piece);
    for piece in sent.chunks(piece) {
        let mut got = vec![0; piece.len()];
        writer.write_all(piece).await.unwrap();
        reader.read_exact(&mut got).await.unwrap();
        assert!(got == piece);
    }
}

#[test]
fn clients_are_served_beside_each_other() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
        let (spawner, xs) = (bench.sim.spawner(), bench.xs.clone());
        bench.run(async move {
            let serving = spawner.spawn(&guest.domain.clone(), serve(guest, spawner.clone(), 4));
            let mut tasks = Vec::new();
            for piece in [100, 300, 500, 700] {
                let host = dom0.clone();
                tasks.push(spawner.spawn(&dom0.domain, async move {
                    let client = host.connect().await.unwrap();
                    is_served(&client, piece).await;
                    client
                }));
            }
            let mut clients = Vec::new();
            for task in tasks {
                clients.push(task.join().await);
            }
            assert_eq!(
                xs.get(RING_REF),
                None,
                "all four are connected, and the listener is closed"
            );
            // In another order than they came.
            for n in [2, 0, 1, 0] {
                clients.swap_remove(n).close().await.unwrap();
            }
            assert_eq!(serving.join().await, [Ok(()), Ok(()), Ok(()), Ok(())]);
        });
    }
}

#[test]
fn a_taken_channel_is_replaced_before_its_client_is_handed_out() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let mut listener = listener(&guest).await;
        let first = dom0.connect().await.unwrap();
        let server = listener.accept().await.unwrap();
        let fresh = listener.info().unwrap().clone();
        assert_ne!(
            (fresh.control_ref, fresh.port),
            (server.info().control_ref, server.info().port)
        );
        // Closing the older connection leaves the newer offer's keys alone.
        first.close().await.unwrap();
        server.close().await.unwrap();
        let second = dom0.connect().await.unwrap();
        assert_eq!(second.info().control_ref, fresh.control_ref);
        drop(listener.accept().await.unwrap());
        listener.close().await.unwrap();
    });
}

#[test]
fn one_bad_client_hurts_no_other() {
    let mut bench = Bench::new();
    let (guest, dom0, bad) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let serving = spawner.spawn(&guest.domain.clone(), serve(guest, spawner.clone(), 2));
        let hostile = bad.connect().await.unwrap();
        let page = world.page_of(GUEST, hostile.info().control_ref);
        let honest = dom0.connect().await.unwrap();
        is_served(&honest, 600).await;
        // It asks for events without end, overwrites all of its page, and claims what cannot be.
        world.raise_spurious(GUEST, hostile.info().port, 1000);
        is_served(&honest, 600).await;
        page.write(0, &[0xff; 4096]);
        page.store(LEFT_PROD, 0x8000_0000);
        page.store(RIGHT_CONS, 0x8000_0000);
        page.store_u8(CLI_LIVE, 1);
        hostile.split().0.try_read(&mut [0; 9]).unwrap_err();
        is_served(&honest, 600).await;
        honest.close().await.unwrap();
        let ends = serving.join().await;
        assert!(matches!(ends[0], Err(Error::Peer(_))), "{:?}", ends[0]);
        assert_eq!(ends[1], Ok(()));
    });
}

#[test]
fn a_client_that_breaks_the_protocol_before_it_is_there_costs_its_own_channel_only() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let mut listener = listener(&guest).await;
        let client = RawClient::of_info(&dom0.domain, listener.info().unwrap());
        client.page.store_u8(CLI_LIVE, 77);
        client.channel.notify();
        let error = listener.accept().await.err();
        assert_eq!(error, Some(Error::Peer(PeerError::Live { who: Role::Client, value: 77 })));
        let honest = dom0.connect().await.unwrap();
        let server = listener.accept().await.unwrap();
        assert_eq!(honest.state(), Live::Connected);
        listener.close().await.unwrap();
        drop(honest);
        server.close().await.unwrap();
    });
}

#[test]
fn a_lack_of_pages_loses_no_client() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let mut listener = listener(&guest).await;
        let client = dom0.connect().await.unwrap();
        world.fail_nth(GUEST, Operation::Share, 1);
        let server = listener.accept().await.unwrap();
        assert!(listener.info().is_none());
        world.fail_nth(GUEST, Operation::Share, 1);
        assert!(matches!(listener.accept().await.err(), Some(Error::Platform(_))));
        assert!(deadline(&guest.domain, guest.in_secs(1), listener.accept()).await.is_err());
        drop(client);
        let client = dom0.connect().await.unwrap();
        server.close().await.unwrap();
        listener.accept().await.unwrap().close().await.unwrap();
        drop(client);
        listener.close().await.unwrap();
    });
}

#[test]
fn giving_up_an_accept_loses_no_client() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let xs = bench.xs.clone();
    bench.run(async move {
        let mut listener = listener(&guest).await;
        let client = dom0.connect().await.unwrap();
        xs.hold_replies(GUEST);
        let soon = guest.in_secs(1);
        assert!(
            deadline(&guest.domain, soon, listener.accept()).await.is_err(),
            "no fresh channel without xenstore"
        );
        xs.send_held(GUEST, |_| ());
        let server = listener.accept().await.unwrap();
        assert_eq!(server.info().control_ref, client.info().control_ref);
        drop(client);
        server.close().await.unwrap();
        listener.close().await.unwrap();
    });
}

#[test]
fn a_listener_starts_over_the_keys_of_one_that_was_dropped() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        drop(listener(&guest).await);
        let process = dom0.domain.clone();
        let connecting = spawner.spawn(&process, async move { dom0.connect().await.unwrap() });
        xen_platform::sleep(&guest.domain, Duration::from_secs(5)).await;
        let mut listener = listener(&guest).await;
        drop(connecting.join().await);
        listener.accept().await.unwrap().close().await.unwrap();
        listener.close().await.unwrap();
    });
}

#[test]
fn when_the_clients_domain_is_gone_no_more_are_waited_for() {
    let mut bench = Bench::new();
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let mut listener =
            Listener::open(&dom0.domain, &dom0.store, &server(GUEST, (12, 12))).await.unwrap();
        world.destroy(GUEST);
        for _ in 0..2 {
            assert_eq!(listener.accept().await.err(), Some(Error::Died(GUEST)));
        }
        listener.close().await.unwrap();
        drop(guest);
    });
}
