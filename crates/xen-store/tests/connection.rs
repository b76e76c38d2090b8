//! A connection whose stream is replaced, as when a domain is saved and restored.

mod common;

use common::{Host, ONE, TWO, poll_once, settle};
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use xen_platform::EventCounter;
use xen_store::{Connection, Store, TransportError};

type Driver = Pin<Box<dyn Future<Output = TransportError>>>;

/// A client whose driver can be replaced.
struct Client {
    store: Store,
    connection: Rc<Connection>,
    driver: Rc<RefCell<Driver>>,
    replaced: Rc<EventCounter>,
}

impl Client {
    fn new(host: &Host) -> Client {
        let (store, connection) = Connection::new();
        let connection = Rc::new(connection);
        let driver = Rc::new(RefCell::new(drive(host, &connection, ONE)));
        let replaced = Rc::new(EventCounter::new());
        let (polled, woken, mut seen) = (driver.clone(), replaced.clone(), 0);
        let work = std::future::poll_fn(move |cx| {
            while woken.poll_after(&mut seen, cx).is_ready() {}
            polled.borrow_mut().as_mut().poll(cx)
        });
        host.sim.spawn(&host.sim.domain(ONE.0), work);
        Client { store, connection, driver, replaced }
    }
}

fn drive(host: &Host, connection: &Rc<Connection>, domain: xen_platform::DomId) -> Driver {
    let (reader, writer) = host.daemon.connect(domain);
    let connection = connection.clone();
    Box::pin(async move { connection.run(reader, writer).await })
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

#[test]
fn pause_waits_for_the_end_of_an_open_transaction() {
    let mut host = Host::new();
    let client = Client::new(&host);
    let daemon = host.daemon.clone();
    host.run(async move {
        let Client { store, connection, .. } = client;
        let go = EventCounter::new();
        let mut work = pin!(store.transaction(async |store| {
            store.write("data/a", b"1").await?;
            let mut seen = 0;
            std::future::poll_fn(|cx| go.poll_after(&mut seen, cx)).await;
            store.write("data/b", b"2").await
        }));
        for _ in 0..20 {
            assert!(poll_once(work.as_mut()).is_pending());
            xen_exec::yield_now().await;
        }
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
    let next = drive(&host, &client.connection, TWO);
    host.run(async move {
        let Client { store, connection, driver, replaced } = client;
        let mut watch = store.watch("control/shutdown").await.unwrap();
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
        connection.pause().await;
        let mut held = pin!(store.write("data/name", b"two"));
        assert!(poll_once(held.as_mut()).is_pending());

        *driver.borrow_mut() = next;
        replaced.signal();
        held.await.unwrap();
        assert_eq!(daemon.get("/local/domain/2/data/name"), Some(b"two".to_vec()));
        assert_eq!(watch.next().await.unwrap(), "control/shutdown", "look again");
        daemon.set("/local/domain/2/control/shutdown", "poweroff");
        assert_eq!(watch.next().await.unwrap(), "control/shutdown");
        assert!(matches!(poll_once(pin!(watch.next())), Poll::Pending));
        assert_eq!(daemon.watches(TWO), 1);
    });
}
