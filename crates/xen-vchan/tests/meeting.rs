//! Meetings of a server's offer and a client, and the rest when they fail.

mod common;

use common::{Bench, DOM0, EVENT_CHANNEL, Error, GUEST, PATH, RING_REF, client, pair, server};
use std::time::Duration;
use xen_platform::{Clock, DomId};
use xen_sim::{Operation, Reason};
use xen_vchan::{ClientConfig, ConfigError, Offer, OrderClash, ServerConfig, Stale, connect};

#[test]
fn stale_keys_go_even_if_no_new_offer_comes_of_it() {
    let mut bench = Bench::new();
    let guest = bench.host(GUEST);
    let (world, xs) = (bench.sim.world().clone(), bench.xs.clone());
    bench.run(async move {
        drop(guest.publish(DOM0, (12, 12)).await);
        world.fail_nth(GUEST, Operation::Share, 1);
        let failed = Offer::publish(&guest.domain, &guest.store, &server(DOM0, (12, 12))).await;
        assert!(matches!(failed.err(), Some(Error::Platform(_))));
        assert_eq!((xs.get(RING_REF), xs.get(EVENT_CHANNEL)), (None, None));
        guest.publish(DOM0, (12, 12)).await.withdraw().await.unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_offer_without_a_client_sets_no_timer() {
    let mut bench = Bench::new();
    let guest = bench.host(GUEST);
    // With a timer the time would pass for ever; without, the world has nothing left to do and says
    // so.
    bench.sim.run(async move { guest.publish(DOM0, (12, 12)).await.accept().await.is_ok() });
}

/// xenstore forgets what a domain was permitted before it existed (XSA-322).
#[test]
fn client_whose_domain_comes_after_the_offer_connects() {
    const LATE: DomId = DomId(9);
    let mut bench = Bench::new();
    let (guest, xs, spawner) = (bench.host(GUEST), bench.xs.clone(), bench.sim.spawner());
    let late = bench.sim.domain(LATE.0);
    bench.run(async move {
        let offer = guest.publish(LATE, (12, 12)).await;
        let accepting = spawner.spawn(&guest.domain, async move { offer.accept().await });
        xen_platform::sleep(&guest.domain, Duration::from_secs(100)).await;
        xs.introduce(LATE);
        let (from, to) = xs.connect(LATE);
        let (store, driver) = xen_store::connect(from, to);
        spawner.spawn(&late, driver);
        let connected = connect(&late, &store, &client(Some(late.now() + Duration::from_secs(60))))
            .await
            .unwrap();
        connected.close().await.unwrap();
        accepting.join().await.unwrap().close().await.unwrap();
        drop(store);
        xs.release(LATE);
        xs.remove("/local/domain/9");
    });
}

#[test]
fn a_client_waits_for_its_server() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let spawner = bench.sim.spawner();
    bench.run(async move {
        let process = dom0.domain.clone();
        let connecting = spawner.spawn(&process, async move { dom0.connect().await });
        xen_platform::sleep(&guest.domain, Duration::from_secs(20)).await;
        // A dropped offer leaves its keys; what they lead to is of no use, and the client goes on
        // waiting.
        drop(guest.publish(DOM0, (12, 12)).await);
        xen_platform::sleep(&guest.domain, Duration::from_secs(20)).await;
        let at = guest.domain.now();
        let offer = guest.publish(DOM0, (12, 12)).await;
        let client = connecting.join().await.unwrap();
        assert_eq!(guest.domain.now(), at, "it connects at once");
        assert_eq!(client.info().control_ref, offer.info().control_ref);
        let server = offer.accept().await.unwrap();
        drop(client);
        server.close().await.unwrap();
    });
}

#[test]
fn at_the_deadline_the_client_says_what_it_waited_for() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let xs = bench.xs.clone();
    bench.run(async move {
        let path = format!("/local/domain/1/{PATH}");
        let begin = dom0.domain.now();
        assert_eq!(dom0.connect().await.err(), Some(Error::NoServer { path: path.clone() }));
        assert_eq!(dom0.domain.now(), begin + Duration::from_secs(60));

        let (server, client) = pair(&guest, &dom0, (12, 12)).await;
        assert_eq!(dom0.connect().await.err(), Some(Error::Busy { path: path.clone() }));
        drop(client);
        assert_eq!(dom0.connect().await.err(), Some(Error::Stale { path: path.clone(), why: Stale::Used }));
        drop(server);
        let stale = dom0.connect().await.err().unwrap();
        assert!(matches!(&stale, Error::Stale { why: Stale::Map(_), .. }), "{stale}");
        assert_eq!(
            stale.to_string(),
            "the vchan at /local/domain/1/data/vchan cannot be used: domain 0 cannot map 1 pages of domain 1: grant 8 \
             does not exist; if its server is gone, start it again"
        );
        guest.publish(DOM0, (12, 12)).await.withdraw().await.unwrap();

        xs.hold_replies(DOM0);
        assert_eq!(dom0.connect().await.err(), Some(Error::Timeout));
        xs.send_held(DOM0, |_| ());
    });
}

#[test]
fn local_failure_ends_connect_at_once() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let offer = guest.publish(DOM0, (12, 12)).await;
        let begin = dom0.domain.now();
        for (kind, nth) in
            [(Operation::Map, 1), (Operation::Map, 2), (Operation::Map, 3), (Operation::Connect, 1)]
        {
            world.fail_nth_for(DOM0, kind, nth, Reason::OutOfMemory);
            let failed = dom0.connect().await.err();
            assert!(
                matches!(&failed, Some(Error::Platform(error)) if error.reason == Reason::OutOfMemory),
                "{kind:?} {nth}: {failed:?}"
            );
            assert_eq!(dom0.domain.now(), begin, "it was waited out");
        }
        offer.withdraw().await.unwrap();
    });
}

#[test]
fn a_withdrawn_offer_leaves_nothing_and_never_takes_a_later_one_with_it() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let xs = bench.xs.clone();
    bench.run(async move {
        let first = guest.publish(DOM0, (12, 12)).await;
        let second = guest.publish(DOM0, (12, 12)).await;
        first.withdraw().await.unwrap();
        assert!(xs.get(RING_REF).is_some(), "the second's keys");
        let client = dom0.connect().await.unwrap();
        assert_eq!(client.info().control_ref, second.info().control_ref);
        drop(client);
        // What shares the folder stays.
        xs.set("/local/domain/1/data/vchan/other", "here");
        second.withdraw().await.unwrap();
        assert_eq!((xs.get(RING_REF), xs.get(EVENT_CHANNEL)), (None, None));
        xs.remove("/local/domain/1/data/vchan");
    });
}

#[test]
fn folders_made_for_the_keys_go_with_them() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        // The last one was there before, and stays.
        for path in ["data/vchan/0/echo", "/local/domain/1/data/vchan/0/echo", "data"] {
            let config = ServerConfig::new(DOM0, path);
            let offer = Offer::publish(&guest.domain, &guest.store, &config).await.unwrap();
            let config = ClientConfig::new(GUEST, path).deadline(dom0.in_secs(1));
            drop(connect(&dom0.domain, &dom0.store, &config).await.unwrap());
            offer.accept().await.unwrap().close().await.unwrap();
        }
    });
}

#[test]
fn what_makes_no_vchan_is_refused_before_anything_is_done() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let publish = async |config: ServerConfig| {
            Offer::publish(&guest.domain, &guest.store, &config).await.err().unwrap()
        };
        let both = publish(server(DOM0, (11, 11))).await;
        assert!(
            matches!(both, Error::Config(ConfigError::Orders(OrderClash::SamePlace(_)))),
            "{both}"
        );
        let list = publish(server(DOM0, (20, 10))).await;
        assert!(
            matches!(list, Error::Config(ConfigError::Orders(OrderClash::ListTooLong { .. }))),
            "{list}"
        );
        assert_eq!(
            publish(server(GUEST, (12, 12))).await,
            Error::Config(ConfigError::OwnDomain(GUEST))
        );
        let bad_path = publish(ServerConfig::new(DOM0, "data/vchan/")).await;
        assert!(matches!(bad_path, Error::Store(_)), "{bad_path}");
        let config = ClientConfig::new(DOM0, common::PATH);
        let own = connect(&dom0.domain, &dom0.store, &config).await.err();
        assert_eq!(own, Some(Error::Config(ConfigError::OwnDomain(DOM0))));
    });
}

#[test]
fn a_busy_xenstore_only_delays() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    let xs = bench.xs.clone();
    bench.run(async move {
        xs.fail_commits(3);
        let offer = guest.publish(DOM0, (12, 12)).await;
        xs.fail_commits(3);
        let client = dom0.connect().await.unwrap();
        drop(client);
        xs.fail_commits(3);
        offer.accept().await.unwrap().close().await.unwrap();
        assert_eq!((xs.watches(DOM0), xs.transactions(DOM0), xs.transactions(GUEST)), (0, 0, 0));
    });
}
