//! Many requests at once, answers in any order, requests given up.

mod common;

use common::{Host, ONE, poll_once, settle};
use std::pin::{Pin, pin};
use xen_store::ErrorKind;
use xen_store::TransportError;

#[test]
fn answers_find_their_requests_in_any_order() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    for n in 0..50 {
        daemon.set(&format!("/local/domain/1/data/{n}"), n.to_string());
    }
    daemon.hold_replies(ONE);
    let process = host.sim.domain(1);
    let reads: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            host.sim.spawn(&process, async move {
                store.read_number::<usize>(&format!("data/{n}")).await
            })
        })
        .collect();
    host.run(async move {
        settle().await;
        daemon.send_held(ONE, |held| {
            assert_eq!(held.len(), 50);
            held.reverse();
        });
        for (n, read) in reads.into_iter().enumerate() {
            assert_eq!(read.join().await.unwrap(), n);
        }
    });
}

#[test]
fn no_more_than_a_bounded_number_is_under_way() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    daemon.hold_replies(ONE);
    let process = host.sim.domain(1);
    let reads: Vec<_> = (0..300)
        .map(|_| {
            let store = store.clone();
            host.sim.spawn(&process, async move { store.read("domid").await })
        })
        .collect();
    host.run(async move {
        settle().await;
        daemon.send_held(ONE, |held| assert_eq!(held.len(), 64));
        for read in reads {
            assert_eq!(read.join().await.unwrap(), b"1");
        }
    });
}

#[test]
fn a_request_given_up_keeps_its_number_until_the_late_answer() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        daemon.hold_replies(ONE);
        let mut given_up: Vec<Pin<Box<_>>> =
            (0..64).map(|_| Box::pin(store.read("domid"))).collect();
        for read in &mut given_up {
            assert!(poll_once(read.as_mut()).is_pending());
        }
        drop(given_up);
        // All places are taken by answers that still have to come.
        let mut next = pin!(store.read_string("domid"));
        assert!(poll_once(next.as_mut()).is_pending());
        settle().await;
        daemon.send_held(ONE, |held| assert_eq!(held.len(), 64));
        assert_eq!(next.await.unwrap(), "1");
    });
}

#[test]
fn when_the_connection_is_cut_everybody_learns() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    daemon.hold_replies(ONE);
    let process = host.sim.domain(1);
    let reads: Vec<_> = (0..100)
        .map(|_| {
            let store = store.clone();
            host.sim.spawn(&process, async move { store.read("domid").await })
        })
        .collect();
    host.run(async move {
        settle().await;
        daemon.disconnect(ONE);
        for read in reads {
            assert_eq!(
                read.join().await.unwrap_err().kind,
                ErrorKind::Closed(TransportError::Ended)
            );
        }
        let late = store.transaction(async |tx| tx.read("domid").await).await.unwrap_err();
        assert_eq!(
            late.to_string(),
            "xenstore: cannot start a transaction: xenstored ended the connection"
        );
    });
}

#[test]
fn without_its_driver_nobody_waits() {
    let host = Host::new();
    let (reader, writer) = host.daemon.connect(ONE);
    let (store, driver) = xen_store::connect(reader, writer);
    let mut read = pin!(store.read("domid"));
    assert!(poll_once(read.as_mut()).is_pending());
    drop(driver);
    let std::task::Poll::Ready(Err(error)) = poll_once(read) else { panic!("it still waits") };
    assert_eq!(error.kind, ErrorKind::Closed(TransportError::Dropped));
}
