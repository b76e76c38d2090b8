//! Ends of libxenvchan's kind against each other and against ends of this project's own, in a world
//! in memory.

use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use xen_exec::{Executor, Turn};
use xen_platform::{Clock, DomId, IndexMemory, Platform};
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, World};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Error, Offer, Orders, ServerConfig, connect};
use xenvchan::{End, errno};

const GUEST: DomId = DomId(1);
const PATH: &str = "data/vchan";

type Failure = Error<xen_sim::Error>;

/// Offsets in the shared page.
const LEFT_PROD: usize = 4;
const SRV_LIVE: usize = 21;

/// The world, with a server in a guest and its clients in dom0.
struct Place {
    world: World,
    xs: Xenstored,
}

impl Place {
    fn new() -> Self {
        let place = Place { world: World::new(), xs: Xenstored::new() };
        place.xs.introduce(GUEST);
        place
    }

    /// A process of a domain, with the executor that has its tasks.
    fn process(&self, domid: u16) -> (Domain, Store, Executor) {
        let (from, to) = self.xs.connect(DomId(domid));
        let (store, driver) = xen_store::connect(from, to);
        let executor = Executor::new();
        executor.spawner().spawn(driver);
        (self.world.domain(DomId(domid)), store, executor)
    }

    fn end(
        &self,
        (domain, store, mut executor): (Domain, Store, Executor),
        open: impl AsyncFnOnce(Domain, Store) -> Result<Connection<Domain>, Failure> + 'static,
    ) -> Result<End<Domain>, Failure> {
        let (host, turning) = (domain.clone(), self.world.clone());
        let connection = executor.run(open(host, store), |turn| turning.turn(turn))?;
        let (looks, yields) = (self.world.clone(), domain.clone());
        let look = move || looks.turn(Turn::Busy);
        let end = End::new(domain, executor, connection, look, move || yields.yields().signal());
        Ok(end)
    }

    fn server(&self) -> End<Domain> {
        let orders = Orders::for_sizes(4096, 4096).unwrap();
        let config = ServerConfig::new(DomId(0), PATH)
            .rings(orders.left(), orders.right())
            .without_half_close();
        let open = async move |domain: Domain, store: Store| {
            Ok(Offer::publish(&domain, &store, &config).await?.into_connection())
        };
        self.end(self.process(1), open).unwrap()
    }

    fn client(&self) -> Result<End<Domain>, Failure> {
        let config = ClientConfig::new(GUEST, PATH).without_waiting().without_half_close();
        self.end(self.process(0), async move |domain: Domain, store: Store| {
            connect(&domain, &store, &config).await
        })
    }

    /// Lets time pass until something happens, and both ends look.
    fn pass(&self, ends: &mut [&mut End<Domain>]) {
        for _ in 0..4 {
            ends.iter_mut().for_each(|end| end.step());
        }
        self.world.turn(Turn::Idle);
        ends.iter_mut().for_each(|end| end.step());
    }
}

#[test]
fn c_ends_stream_both_ways_through_full_rings() {
    let place = Place::new();
    let (mut server, mut client) = (place.server(), place.client().unwrap());
    let sent: Vec<u8> = (0..50_000u32).map(|i| (i * 7 + i / 256) as u8).collect();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let (mut up, mut down) = (0, 0);
    let mut buffer = [0; 3000];
    while back.len() < sent.len() {
        up += client.write(&sent[up..(up + 1777).min(sent.len())], true).unwrap().unwrap_or(0);
        if let Some(n) = server.read(&mut buffer, true).unwrap() {
            there.extend_from_slice(&buffer[..n]);
        }
        down += server.write(&there[down..], true).unwrap().unwrap_or(0);
        if let Some(n) = client.read(&mut buffer, true).unwrap() {
            back.extend_from_slice(&buffer[..n]);
        }
    }
    assert_eq!(back, sent);
    assert_eq!((server.is_open(), client.is_open()), (1, 1));
}

#[test]
fn reading_less_than_asked_for_requests_an_event() {
    let place = Place::new();
    let (mut server, mut client) = (place.server(), place.client().unwrap());
    let mut buffer = [0; 100];
    place.pass(&mut [&mut server, &mut client]);
    client.write(b"hello", true).unwrap();
    assert_eq!(server.read(&mut buffer, true).unwrap(), Some(5));
    server.step();
    server.take_events();
    client.write(b"more", true).unwrap();
    server.step();
    assert!(server.take_events(), "a program that looks at the descriptor would sleep for ever");
    assert!(!server.take_events());
}

#[test]
fn packets_come_whole_and_too_large_ones_are_refused() {
    let place = Place::new();
    let (mut server, mut client) = (place.server(), place.client().unwrap());
    assert_eq!(client.send(&[1; 3000], true).unwrap(), Some(3000));
    assert_eq!(client.send(&[2; 3000], true).unwrap(), None);
    assert_eq!(client.buffer_space().unwrap(), 1096);
    let mut buffer = [0; 3000];
    assert_eq!(server.data_ready().unwrap(), 3000);
    assert_eq!(server.recv(&mut buffer, true).unwrap(), Some(3000));
    assert_eq!(server.recv(&mut buffer, true).unwrap(), None);
    assert_eq!(client.send(&[2; 3000], true).unwrap(), Some(3000));
    let error = client.send(&[0; 5000], true).unwrap_err();
    assert_eq!(errno(&error), libc::EMSGSIZE, "{error}");
    let error = server.recv(&mut [0; 5000], true).unwrap_err();
    assert_eq!(errno(&error), libc::EMSGSIZE, "{error}");
}

#[test]
fn server_writes_before_its_client_comes_and_serves_the_next_with_the_same_pages() {
    let place = Place::new();
    let mut server = place.server();
    assert_eq!(server.is_open(), 2);
    assert_eq!(server.write(b"welcome", true).unwrap(), Some(7));
    for round in 0..3u8 {
        let mut client = place.client().unwrap();
        server.step();
        assert_eq!((server.is_open(), client.is_open()), (1, 1), "round {round}");
        let mut buffer = [0; 64];
        if round == 0 {
            assert_eq!(client.recv(&mut buffer[..7], true).unwrap(), Some(7));
        }
        client.write(&[round; 9], true).unwrap();
        assert_eq!(server.read(&mut buffer, true).unwrap(), Some(9));
        client.write(b"left over", true).unwrap();
        let turning = place.world.clone();
        client.close(|turn| turning.turn(turn)).unwrap();
        server.step();
        // What it wrote is there, and then the end.
        assert_eq!(server.is_open(), 0);
        assert!(!server.is_over(), "the next client may come");
        assert_eq!(server.read(&mut buffer, true).unwrap(), Some(9));
        assert_eq!(errno(&server.read(&mut buffer, true).unwrap_err()), libc::EPIPE);
        assert_eq!(errno(&server.write(b"x", true).unwrap_err()), libc::EPIPE);
        assert_eq!(server.data_ready().unwrap(), 0);
        assert_eq!(server.buffer_space().unwrap(), 4096);
    }
}

#[test]
fn persistent_server_is_open_without_a_client_and_keeps_what_it_writes() {
    let place = Place::new();
    let mut server = place.server();
    server.persist(true);
    assert_eq!(server.is_open(), 1);
    let client = place.client().unwrap();
    server.step();
    assert_eq!(server.is_open(), 1);
    let turning = place.world.clone();
    client.close(|turn| turning.turn(turn)).unwrap();
    // Some seconds, in which the port is looked at.
    (0..8).for_each(|_| place.pass(&mut [&mut server]));
    assert_eq!(server.is_open(), 1);
    assert_eq!(server.read(&mut [0; 8], true).unwrap(), None);
    assert_eq!(server.write(b"for the next", true).unwrap(), Some(12));
    let mut client = place.client().unwrap();
    let mut buffer = [0; 12];
    assert_eq!(client.recv(&mut buffer, true).unwrap(), Some(12));
    assert_eq!(&buffer, b"for the next");
}

#[test]
fn client_fails_at_once_without_a_server_or_with_another_client() {
    let place = Place::new();
    let begun = place.world.domain(DomId(0)).now();
    assert_eq!(errno(&place.client().err().unwrap()), libc::ENOENT);
    let _server = place.server();
    let _first = place.client().unwrap();
    assert_eq!(errno(&place.client().err().unwrap()), libc::EBUSY);
    let waited = place.world.domain(DomId(0)).now().0 - begun.0;
    assert!(Duration::from_nanos(waited) < Duration::from_secs(1), "it waited {waited} ns");
}

#[test]
fn destroyed_domain_ends_a_client_that_only_looks() {
    let place = Place::new();
    let (_server, mut client) = (place.server(), place.client().unwrap());
    assert_eq!(client.is_open(), 1);
    place.world.destroy(GUEST);
    while client.is_open() != 0 {
        place.pass(&mut [&mut client]);
    }
    assert!(client.is_over());
    let error = client.read(&mut [0; 8], true).unwrap_err();
    assert_eq!(errno(&error), libc::ECONNRESET, "{error}");
}

#[test]
fn closed_server_ends_a_client() {
    let place = Place::new();
    let (server, mut client) = (place.server(), place.client().unwrap());
    drop(server);
    client.step();
    assert_eq!(errno(&client.read(&mut [0; 8], true).unwrap_err()), libc::EPIPE);
    assert!(client.is_over());
}

#[test]
fn hostile_page_is_a_protocol_error_for_every_call() {
    let place = Place::new();
    let (mut server, mut client) = (place.server(), place.client().unwrap());
    let page = place.world.page_of(GUEST, server.connection().info().control_ref);
    page.store(LEFT_PROD, 0x8000_0000);
    let error = server.read(&mut [0; 8], true).unwrap_err();
    assert_eq!(errno(&error), libc::EPROTO, "{error}");
    assert_eq!(server.is_open(), 0);
    assert!(server.is_over());
    assert_eq!(errno(&server.why_over()), libc::EPROTO);
    assert_eq!(errno(&server.write(b"x", true).unwrap_err()), libc::EPROTO);
    assert_eq!(errno(&server.data_ready().unwrap_err()), libc::EPROTO);
    assert!(server.connection().places().is_none(), "its pages were given back");
    // The client only learns that the server has gone.
    client.step();
    assert_eq!(client.is_open(), 0);
}

#[test]
fn live_byte_that_cannot_be_is_a_protocol_error() {
    let place = Place::new();
    let (server, mut client) = (place.server(), place.client().unwrap());
    let page = place.world.page_of(GUEST, server.connection().info().control_ref);
    page.store_u8(SRV_LIVE, 7);
    assert_eq!(client.is_open(), 0);
    assert_eq!(errno(&client.read(&mut [0; 8], true).unwrap_err()), libc::EPROTO);
}

#[test]
fn own_ends_see_an_end_that_cannot_half_close() {
    let place = Place::new();
    let server = place.server();
    let (dom0, store, mut executor) = place.process(0);
    let said = Rc::new(RefCell::new(Vec::new()));
    let heard = said.clone();
    let client = async move {
        let connection = connect(&dom0, &store, &ClientConfig::new(GUEST, PATH)).await.unwrap();
        assert!(!connection.can_half_close());
        let (mut reader, mut writer) = connection.split();
        writer.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        reader.read_exact(&mut answer).await.unwrap();
        heard.borrow_mut().extend(answer);
        assert_eq!(reader.read(&mut answer).await.unwrap(), 0);
        connection.close().await.unwrap();
    };
    let turning = place.world.clone();
    let server = RefCell::new(Some(server));
    executor.run(client, |turn| {
        let mut held = server.borrow_mut();
        let mut buffer = [0; 4];
        if let Some(end) = &mut *held {
            end.step();
            if let Some(4) = end.recv(&mut buffer, true).unwrap() {
                end.send(&buffer.to_ascii_uppercase(), true).unwrap();
                let closing = held.take().unwrap();
                closing.close(|turn| turning.turn(turn)).unwrap();
                return;
            }
        }
        turning.turn(turn);
    });
    assert_eq!(*said.borrow(), b"PING");
}
