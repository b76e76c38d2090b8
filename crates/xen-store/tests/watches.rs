//! Watches: what is told, how much of it is kept, and that dropping ends them.

mod common;

use common::{Counting, DOM0, Host, ONE, TWO, poll_once, settle};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use xen_store::{ErrorKind, TransportError, Watch};

/// The events that are there now.
fn drain(watch: &mut Watch) -> Vec<String> {
    std::iter::from_fn(|| match poll_once(pin!(watch.next())) {
        Poll::Ready(event) => Some(event.unwrap()),
        Poll::Pending => None,
    })
    .collect()
}

#[test]
fn the_first_event_comes_at_once_and_then_changes_do() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut watch = store.watch("/local/domain/1/data/x").await.unwrap();
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/x");
        daemon.set("/local/domain/1/data/x", "1");
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/x");
        daemon.set("/local/domain/1/data/x/below", "1");
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/x/below");
        daemon.set_permissions("/local/domain/1/data/x", "n1 r2");
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/x");
        daemon.set("/local/domain/1/data/xy", "beside");
        daemon.remove("/local/domain/1/data");
        settle().await;
        assert_eq!(drain(&mut watch), ["/local/domain/1/data/x"]);
    });
}

#[test]
fn relative_watches_get_relative_paths() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut watch = store.watch("control/shutdown").await.unwrap();
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
        daemon.set("/local/domain/1/control/shutdown", "poweroff");
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
    });
}

#[test]
fn repeated_events_come_once_and_too_many_become_one() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut watch = store.watch("data").await.unwrap();
        for round in 0..1000 {
            daemon.set(&format!("/local/domain/1/data/{}", round % 3), round.to_string());
        }
        settle().await;
        assert_eq!(drain(&mut watch), ["data", "data/0", "data/1", "data/2"]);
        for n in 0..33 {
            daemon.set(&format!("/local/domain/1/data/many-{n}"), "");
        }
        settle().await;
        assert_eq!(drain(&mut watch), ["data"]);
    });
}

#[test]
fn two_watches_on_one_path_are_two() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut first = store.watch("data").await.unwrap();
        let mut second = store.watch("data").await.unwrap();
        settle().await;
        assert_eq!((drain(&mut first).len(), drain(&mut second).len()), (1, 1));
        drop(first);
        settle().await;
        assert_eq!(daemon.watches(ONE), 1);
        daemon.set("/local/domain/1/data", "");
        assert_eq!(second.next().await.unwrap(), "data");
    });
}

#[test]
fn dropping_unwatches_and_events_still_under_way_do_no_harm() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let watch = store.watch("data").await.unwrap();
        daemon.hold_replies(ONE);
        daemon.set("/local/domain/1/data", "");
        drop(watch);
        settle().await;
        assert_eq!(daemon.watches(ONE), 0);
        daemon.send_held(ONE, |_| {});
        assert_eq!(store.read("domid").await.unwrap(), b"1");
    });
}

#[test]
fn a_watch_given_up_before_its_answer_is_unwatched() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        daemon.hold_replies(ONE);
        {
            let mut work = pin!(store.watch("data"));
            assert!(poll_once(work.as_mut()).is_pending());
            settle().await;
            assert_eq!(daemon.watches(ONE), 1);
        }
        settle().await;
        assert_eq!(daemon.watches(ONE), 0);
        daemon.send_held(ONE, |_| {});
        assert_eq!(store.read("domid").await.unwrap(), b"1");
    });
}

#[test]
fn a_refused_watch_says_so_and_asks_for_nothing_more() {
    let mut host = Host::new();
    let daemon = host.daemon.clone();
    let (reader, inner) = daemon.connect(ONE);
    let messages = Rc::new(Cell::new(0));
    let count = messages.clone();
    let (store, driver) = xen_store::connect(
        reader,
        Counting { inner, messages: 0, before: move |number| count.set(number) },
    );
    host.sim.spawn(&host.sim.domain(1), driver);
    host.run(async move {
        let mut watches = Vec::new();
        for _ in 0..128 {
            watches.push(store.watch("data").await.unwrap());
        }
        assert_eq!(store.watch("data").await.err().unwrap().kind, ErrorKind::TooBig);
        settle().await;
        assert_eq!(messages.get(), 129);
        drop(watches);
        settle().await;
        assert_eq!((messages.get(), daemon.watches(ONE)), (129 + 128, 0));
    });
}

#[test]
fn domains_that_come_and_go_are_told_to_dom0_only() {
    let mut host = Host::new();
    let (dom0, guest, daemon) = (host.client(DOM0), host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut gone = dom0.watch("@releaseDomain").await.unwrap();
        let mut come = dom0.watch("@introduceDomain").await.unwrap();
        let mut deaf = guest.watch("@releaseDomain").await.unwrap();
        settle().await;
        assert_eq!(
            (drain(&mut gone).len(), drain(&mut come).len(), drain(&mut deaf).len()),
            (1, 1, 1)
        );
        daemon.release(TWO);
        assert_eq!(gone.next().await.unwrap(), "@releaseDomain");
        daemon.introduce(TWO);
        assert_eq!(come.next().await.unwrap(), "@introduceDomain");
        settle().await;
        assert_eq!((drain(&mut gone).len(), drain(&mut deaf).len()), (0, 0));
    });
}

#[test]
fn nobody_hears_of_what_it_cannot_read() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(TWO), host.daemon.clone());
    host.run(async move {
        let mut watch = store.watch("/local/domain/1/data").await.unwrap();
        watch.next().await.unwrap();
        daemon.set("/local/domain/1/data/secret", "x");
        settle().await;
        assert_eq!(drain(&mut watch), [""; 0]);
        daemon.set_permissions("/local/domain/1/data/secret", "n1 r2");
        assert_eq!(watch.next().await.unwrap(), "/local/domain/1/data/secret");
    });
}

#[test]
fn who_waits_for_an_event_learns_that_none_will_come() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    let waiter = host.sim.spawn(&host.sim.domain(1), async move {
        let mut watch = store.watch("data").await?;
        watch.next().await?;
        watch.next().await
    });
    host.run(async move {
        settle().await;
        daemon.disconnect(ONE);
        assert!(waiter.join().await.unwrap_err().is_closed());
    });
}

#[test]
fn a_released_domain_learns_that_it_is_over() {
    let mut host = Host::new();
    let (store, daemon) = (host.client(ONE), host.daemon.clone());
    host.run(async move {
        let mut watch = store.watch("data").await.unwrap();
        watch.next().await.unwrap();
        daemon.set("/local/domain/1/data/last", "");
        daemon.release(ONE);
        assert_eq!(watch.next().await.unwrap(), "data/last");
        let end = watch.next().await.unwrap_err();
        assert_eq!(
            (end.path.as_str(), &end.kind),
            ("data", &ErrorKind::Closed(TransportError::Ended))
        );
        assert!(store.read("domid").await.unwrap_err().is_closed());
    });
}
