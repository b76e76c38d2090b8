//! A connection whose stream is replaced, as when a domain is saved and restored.

mod common;

use common::{Host, ONE, TWO, poll_once, settle};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use xen_exec::Boxed;
use xen_platform::{EventCounter, sleep};
use xen_store::{Connection, Error, Store, TransportError};

const PATIENCE: Duration = Duration::from_secs(10);

/// The reports of a driver.
type Reports = Rc<RefCell<Vec<bool>>>;

type Driver = Pin<Box<dyn Future<Output = TransportError>>>;

/// A client whose driver can be replaced.
struct Client {
    store: Store,
    connection: Rc<Connection>,
    driver: Rc<RefCell<Driver>>,
    replaced: Rc<EventCounter>,
    reports: Reports,
}

impl Client {
    fn new(host: &Host) -> Client {
        let (store, connection) = Connection::new();
        let connection = Rc::new(connection);
        let reports = Reports::default();
        let driver = Rc::new(RefCell::new(drive(host, &connection, ONE, &reports)));
        let replaced = Rc::new(EventCounter::new());
        let (polled, woken, mut seen) = (driver.clone(), replaced.clone(), 0);
        let work = std::future::poll_fn(move |cx| {
            while woken.poll_after(&mut seen, cx).is_ready() {}
            polled.borrow_mut().as_mut().poll(cx)
        });
        host.sim.spawn(&host.sim.domain(ONE.0), work);
        Client { store, connection, driver, replaced, reports }
    }

    /// Gives the connection another stream.
    fn replace(&self, next: Driver) {
        *self.driver.borrow_mut() = next;
        self.replaced.signal();
    }
}

fn drive(
    host: &Host,
    connection: &Rc<Connection>,
    domain: xen_platform::DomId,
    reports: &Reports,
) -> Driver {
    let (reader, writer) = host.daemon.connect(domain);
    let connection = connection.clone();
    let clock = host.sim.domain(domain.0);
    let reports = reports.clone();
    Box::pin(async move {
        let report = |stalled| reports.borrow_mut().push(stalled);
        connection.run(reader, writer, &clock, PATIENCE, report).await
    })
}

#[test]
fn paused_connection_holds_requests_until_unpaused() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    host.run(async move {
        let Client { store, connection, .. } = client;
        store.write("data/a", b"1").await.unwrap();
        connection.pause().await;
        let mut write = pin!(store.write("data/b", b"2"));
        assert!(poll_once(write.as_mut()).is_pending());
        settle().await;
        assert_eq!(daemon.get("/local/domain/1/data/b"), None, "it is held");
        connection.unpause();
        write.await.unwrap();
        assert_eq!(daemon.get("/local/domain/1/data/b"), Some(b"2".to_vec()));
    });
}

/// Begins a transaction that writes a key now, and another one after `go` has counted an event;
/// counts how often it begins.
async fn begin<'a>(
    store: &'a Store,
    go: &'a EventCounter,
    begun: &'a Cell<u32>,
) -> Boxed<'a, Result<(), Error>> {
    let mut work: Boxed<'a, _> = Box::pin(store.transaction(async |store| {
        begun.set(begun.get() + 1);
        store.write("data/a", b"1").await?;
        let mut seen = 0;
        std::future::poll_fn(|cx| go.poll_after(&mut seen, cx)).await;
        store.write("data/b", b"2").await
    }));
    for _ in 0..20 {
        assert!(poll_once(work.as_mut()).is_pending());
        xen_exec::yield_now().await;
    }
    work
}

#[test]
fn pause_waits_for_the_end_of_an_open_transaction() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    host.run(async move {
        let Client { store, connection, .. } = client;
        let (go, begun) = (EventCounter::new(), Cell::new(0));
        let work = begin(&store, &go, &begun).await;
        let mut pause = pin!(connection.pause());
        assert!(poll_once(pause.as_mut()).is_pending(), "a transaction is open");
        go.signal();
        // The transaction's own requests go on.
        work.await.unwrap();
        pause.await;
        assert_eq!(daemon.get("/local/domain/1/data/b"), Some(b"2".to_vec()));
        assert_eq!(daemon.transactions(ONE), 0);
    });
}

#[test]
fn new_stream_sets_watches_again_and_serves_the_same_store() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    let next = drive(&host, &client.connection, TWO, &client.reports);
    host.run(async move {
        let Client { store, connection, .. } = &client;
        let mut watch = store.watch("control/shutdown").await.unwrap();
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
        connection.pause().await;
        let mut held = pin!(store.write("data/name", b"two"));
        assert!(poll_once(held.as_mut()).is_pending());

        client.replace(next);
        held.await.unwrap();
        assert_eq!(daemon.get("/local/domain/2/data/name"), Some(b"two".to_vec()));
        assert_eq!(watch.next().await.unwrap(), "control/shutdown", "look again");
        daemon.set("/local/domain/2/control/shutdown", "poweroff");
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
        assert!(matches!(poll_once(pin!(watch.next())), Poll::Pending));
        assert_eq!(daemon.watches(TWO), 1);
    });
}

#[test]
fn what_was_under_way_is_made_again_over_the_next_stream() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    let next = drive(&host, &client.connection, TWO, &client.reports);
    host.run(async move {
        let store = &client.store;
        // Nobody takes these from here on.
        *client.driver.borrow_mut() = Box::pin(std::future::pending());
        let mut write = pin!(store.write("data/a", b"1"));
        let mut watch = pin!(store.watch("data/a"));
        let mut start = pin!(store.transaction(async |store| store.write("data/b", b"2").await));
        assert!(poll_once(write.as_mut()).is_pending());
        assert!(poll_once(watch.as_mut()).is_pending());
        assert!(poll_once(start.as_mut()).is_pending());
        settle().await;
        client.replace(next);
        write.await.unwrap();
        assert_eq!(watch.await.unwrap().next().await.unwrap(), "data/a");
        start.await.unwrap();
        for (path, value) in [("data/a", b"1"), ("data/b", b"2")] {
            assert_eq!(daemon.get(&format!("/local/domain/2/{path}")), Some(value.to_vec()));
        }
        assert_eq!(daemon.transactions(TWO), 0);
    });
}

#[test]
fn transaction_of_an_earlier_stream_touches_none_of_the_next() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    let next = drive(&host, &client.connection, TWO, &client.reports);
    host.run(async move {
        let store = &client.store;
        let (go, begun) = (EventCounter::new(), Cell::new(0));
        let old = begin(store, &go, &begun).await;
        client.replace(next);
        settle().await;
        // The next stream's first transaction has the number that the other had.
        let mut other: Boxed<'_, _> = Box::pin(store.transaction(async |store| {
            store.write("data/c", b"3").await?;
            settle().await;
            store.write("data/d", b"4").await
        }));
        assert!(poll_once(other.as_mut()).is_pending());
        go.signal();
        for done in xen_exec::join_all(vec![old, other]).await {
            done.unwrap();
        }
        assert_eq!(begun.get(), 2, "it began again");
        for (path, value) in [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")] {
            assert_eq!(daemon.get(&format!("/local/domain/2/data/{path}")), Some(value.to_vec()));
        }
        assert_eq!(daemon.transactions(TWO), 0);
    });
}

#[test]
fn daemon_that_owes_an_answer_is_reported_once() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let clock = host.sim.domain(ONE.0);
    let next = drive(&host, &client.connection, ONE, &client.reports);
    let (from, to) = (Silent, Silent);
    let connection = client.connection.clone();
    let (reports, watched) = (client.reports.clone(), clock.clone());
    let silent: Driver = Box::pin(async move {
        let report = |stalled| reports.borrow_mut().push(stalled);
        connection.run(from, to, &watched, PATIENCE, report).await
    });
    host.run(async move {
        let store = &client.store;
        sleep(&clock, 3 * PATIENCE).await;
        store.write("data/a", b"1").await.unwrap();
        assert_eq!(*client.reports.borrow(), [], "it owed nothing for long");
        client.replace(silent);
        settle().await;
        let mut write = pin!(store.write("data/b", b"2"));
        assert!(poll_once(write.as_mut()).is_pending());
        sleep(&clock, 5 * PATIENCE).await;
        assert_eq!(*client.reports.borrow(), [true]);
        client.replace(next);
        write.await.unwrap();
        assert_eq!(*client.reports.borrow(), [true]);
    });
}

/// A daemon that takes everything and answers nothing.
struct Silent;

impl embedded_io_async::ErrorType for Silent {
    type Error = std::convert::Infallible;
}

impl embedded_io_async::Read for Silent {
    async fn read(&mut self, _: &mut [u8]) -> Result<usize, Self::Error> {
        std::future::pending().await
    }
}

impl embedded_io_async::Write for Silent {
    async fn write(&mut self, from: &[u8]) -> Result<usize, Self::Error> {
        Ok(from.len())
    }
    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
