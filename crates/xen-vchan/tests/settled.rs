//! The moment at which the peer is done with what it has read.

mod common;

use common::{
    Bench, CLI_LIVE, CLI_NOTIFY, DOM0, Error, GUEST, LEFT_CONS, LEFT_PROD, RawClient, RawServer,
    good_head,
};
use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_platform::{Clock, IndexMemory, ReadySince, deadline, sleep};
use xen_sim::Domain;
use xen_vchan::Connection;

/// Time for which the servers here work on each message.
const WORK: Duration = Duration::from_secs(10);

/// Answers each message after some work, until the client leaves.
async fn slow_echo(domain: Domain, connection: Connection<Domain>) {
    let (mut reader, mut writer) = connection.split();
    let mut buffer = [0; 100];
    while let n @ 1.. = reader.read(&mut buffer).await.unwrap() {
        sleep(&domain, WORK).await;
        writer.write_all(&buffer[..n]).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[test]
fn a_server_that_asked_for_data_before_it_found_some_is_not_taken_to_be_done() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let (spawner, world) = (bench.sim.spawner(), bench.sim.world().clone());
    bench.run(async move {
        let (server, client) = common::pair(&guest, &dom0, (12, 12)).await;
        let (mut reader, writer) = client.split();
        let writer = Rc::new(RefCell::new(writer));
        // The server's first look finds nothing; the message comes before it asks for an event; its
        // second look finds it.
        server.busy_poll(0);
        let (mut early, mut before) = (Some(writer.clone()), 0);
        let hook = world.on_access(move |access| {
            let found_nothing = access.by == GUEST && (before, access.at) == (LEFT_PROD, CLI_LIVE);
            before = access.at;
            if let Some(writer) = early.take_if(|_| found_nothing) {
                assert_eq!(writer.borrow_mut().try_write(b"slow"), Ok(Some(4)));
            }
        });
        // The request that stands in a fresh page is used up first.
        client.split().1.write_all(b"first").await.unwrap();
        let serving = spawner.spawn(&guest.domain, slow_echo(guest.domain.clone(), server));
        let begin = dom0.domain.now();
        sleep(&dom0.domain, WORK + WORK / 2).await;
        drop(hook);
        let mut writer = Rc::into_inner(writer).unwrap().into_inner();
        assert_eq!(writer.idle(), Ok(true), "the server is at work, and yet its request stands");
        writer.settled().await.unwrap();
        let waited = dom0.domain.now().since(begin);
        assert!((2 * WORK..2 * WORK + Duration::from_millis(200)).contains(&waited), "{waited:?}");
        let mut answer = [0; 20];
        assert_eq!(reader.try_read(&mut answer), Ok(Some(9)));
        assert_eq!(&answer[..9], b"firstslow");
        client.close().await.unwrap();
        drop((reader, writer));
        serving.join().await;
    });
}

#[test]
fn a_server_that_waits_has_settled_within_a_moment() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let (server, client) = common::pair(&guest, &dom0, (12, 12)).await;
        let serving = spawner.spawn(&guest.domain, slow_echo(guest.domain.clone(), server));
        let (_, mut writer) = client.split();
        for message in ["", "and again"] {
            writer.write_all(message.as_bytes()).await.unwrap();
            sleep(&dom0.domain, 2 * WORK).await;
            let begin = dom0.domain.now();
            writer.settled().await.unwrap();
            assert!(dom0.domain.now().since(begin) <= Duration::from_millis(2));
        }
        client.close().await.unwrap();
        drop(writer);
        serving.join().await;
    });
}

/// libxenvchan asks whenever it finds less than it was asked for, so its request stands from before
/// it reads.
#[test]
fn a_server_of_libxenvchan_settles_too() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    let server = RawServer::publish(&bench, &guest, good_head(12, 10));
    bench.run(async move {
        let client = dom0.connect().await.unwrap();
        let process = guest.clone();
        let serving = spawner.spawn(&guest, async move {
            let mut events = ReadySince::now(&server.channel);
            while server.page.load_u8(CLI_LIVE) == 1 {
                server.page.fetch_or(CLI_NOTIFY, 1);
                let prod = server.page.load(LEFT_PROD);
                if prod == server.page.load(LEFT_CONS) {
                    events.wait(&server.channel).await;
                    continue;
                }
                server.page.store(LEFT_CONS, prod);
                sleep(&process, WORK).await;
            }
        });
        let (_, mut writer) = client.split();
        writer.write_all(b"work").await.unwrap();
        sleep(&dom0.domain, WORK / 2).await;
        let begin = dom0.domain.now();
        writer.settled().await.unwrap();
        assert!(dom0.domain.now().since(begin) >= WORK / 2);
        client.close().await.unwrap();
        serving.join().await;
    });
    common::unpublish(&bench);
}

#[test]
fn a_peer_that_leaves_dies_or_never_waits_again_does_not_settle() {
    let mut bench = Bench::new();
    let (guest, dom0, victim) = (bench.host(GUEST), bench.host(DOM0), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = common::pair(&guest, &dom0, (12, 12)).await;
        client.close().await.unwrap();
        assert_eq!(server.split().1.settled().await, Err(Error::Closed));

        let offer = guest.publish(DOM0, (12, 12)).await;
        let client = RawClient::attach(&victim.domain, &offer);
        client.join();
        let server = offer.accept().await.unwrap();
        let (_, mut writer) = server.split();
        let soon = guest.in_secs(100);
        assert!(deadline(&guest.domain, soon, writer.settled()).await.is_err());
        assert_eq!(client.page.load_u8(common::SRV_NOTIFY), 0, "the request was taken back");
        victim.domain.kill_process();
        assert_eq!(writer.settled().await, Err(Error::Died(DOM0)));
        server.close().await.unwrap();
    });
}
