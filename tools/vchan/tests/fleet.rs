//! Servers of several domains, which come, get their names, change and go.

mod common;

use common::{Bench, DOM0, GUEST, program};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use vchan::{
    Child, Client, Domains, ExecArguments, Failure, Fleet, ListenArguments, Location, Offered,
    Program, RingSizes, ServerPlace, Session, Stop,
};
use xen_platform::{Clock, DomId, EventCounter, Platform, deadline, sleep};
use xen_sim::{Domain, Task};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection};

const OTHER: DomId = DomId(2);

/// Returns the place of the channel log for the clients of `domains`.
fn place(domains: &str) -> ServerPlace {
    let location = Location { port: Some("log".into()), ..Location::default() };
    ServerPlace { domains: domains.parse().unwrap(), location }
}

fn exec_args(domains: &str, once: bool) -> ExecArguments {
    ExecArguments {
        place: place(domains),
        sizes: RingSizes { left: 4096, right: 4096 },
        once,
        timeout: None,
        pty: false,
        grace: 10,
        clients: 64,
        verbose: false,
        command: Vec::new(),
    }
}

/// A program that ends with its streams.
struct Ends;

impl Child for Ends {
    async fn wait(&mut self) -> Result<u8, Failure> {
        Ok(0)
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {}
}

/// A client of dom0's channel `port`.
async fn connect(
    (domain, store): &(Domain, Store),
    port: &str,
) -> Result<Connection<Domain>, xen_vchan::Error<xen_sim::Error>> {
    let own = domain.domid().unwrap();
    let path = format!("data/vchan/{own}/{port}");
    let until = Some(domain.now() + Duration::from_secs(8));
    xen_vchan::connect(domain, store, &ClientConfig::new(DOM0, path).deadline(until)).await
}

/// Sends a line and returns the answer.
async fn ask(connection: &Connection<Domain>, text: &str) -> String {
    use embedded_io_async::{Read, Write};
    let (mut reader, mut writer) = connection.split();
    writer.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; text.len()];
    reader.read_exact(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// Serves in dom0 until `stop`; returns the clients that had a program.
fn exec(bench: &Bench, args: ExecArguments, stop: &Stop) -> Task<(Result<(), Failure>, Vec<u16>)> {
    let ((dom0, store), stop) = (bench.host(DOM0), stop.clone());
    bench.sim.spawn(&dom0.clone(), async move {
        let served = RefCell::new(Vec::new());
        let start = async |client: &Client| {
            served.borrow_mut().push(client.domain.0);
            let (output, input) = program(usize::MAX);
            Ok(Program { output, input, child: Ends })
        };
        let result = vchan::exec(common::quiet(&dom0, &store, &stop), &args, start).await;
        (result, served.into_inner())
    })
}

/// Makes a second guest, whose name comes a second later.
fn introduce_other(bench: &Bench) {
    let (xs, clock) = (bench.xs.clone(), bench.sim.domain(0));
    xs.introduce(OTHER);
    bench.sim.spawn(&clock.clone(), async move {
        sleep(&clock, Duration::from_secs(1)).await;
        xs.set("/local/domain/2/name", "other");
    });
}

#[test]
fn named_domains_are_served_once_they_are_there() {
    for domains in ["echo,other", "all"] {
        let mut bench = Bench::new();
        let stop = Stop::new();
        let server = exec(&bench, exec_args(domains, false), &stop);
        let guest = bench.host(GUEST);
        bench.sim.run(async move {
            let connection = connect(&guest, "log").await.unwrap();
            assert_eq!(ask(&connection, "one").await, "ONE");
            connection.close().await.unwrap();
        });
        introduce_other(&bench);
        let other = bench.host(OTHER);
        let (result, served) = bench.sim.run(async move {
            let connection = connect(&other, "log").await.unwrap();
            assert_eq!(ask(&connection, "two").await, "TWO");
            stop.request();
            connection.over().await;
            server.join().await
        });
        assert_eq!((result, served), (Ok(()), vec![1, 2]), "{domains}");
        for path in ["/local/domain/0/data/vchan/1/log", "/local/domain/0/data/vchan/2/log"] {
            assert_eq!(bench.xs.get(&format!("{path}/ring-ref")), None, "{domains}");
        }
    }
}

#[test]
fn domain_that_is_not_named_is_not_served() {
    let mut bench = Bench::new();
    introduce_other(&bench);
    let stop = Stop::new();
    let server = exec(&bench, exec_args("echo,third", false), &stop);
    let other = bench.host(OTHER);
    let served = bench.sim.run(async move {
        assert!(connect(&other, "log").await.is_err());
        stop.request();
        server.join().await
    });
    assert_eq!(served, (Ok(()), vec![]));
}

#[test]
fn first_client_of_any_domain_is_the_only_one_with_once() {
    let mut bench = Bench::new();
    introduce_other(&bench);
    let server = exec(&bench, exec_args("all", true), &Stop::new());
    let other = bench.host(OTHER);
    let served = bench.sim.run(async move {
        let connection = connect(&other, "log").await.unwrap();
        assert_eq!(ask(&connection, "x").await, "X");
        connection.close().await.unwrap();
        server.join().await
    });
    assert_eq!(served, (Ok(()), vec![2]));
    assert_eq!(bench.xs.get("/local/domain/0/data/vchan/1/log/ring-ref"), None);
}

/// The one output belongs to one client at a time, whatever its domain.
#[test]
fn listen_takes_the_clients_of_all_domains_one_after_another() {
    let mut bench = Bench::new();
    introduce_other(&bench);
    let ((dom0, store), stop) = (bench.host(DOM0), Stop::new());
    let (input, output) = common::streams(&dom0, vec![common::Step::Forever]);
    let (bytes, asked) = (output.bytes.clone(), stop.clone());
    let server = bench.sim.spawn(&dom0.clone(), async move {
        let args = ListenArguments {
            place: place("all"),
            sizes: RingSizes { left: 4096, right: 4096 },
            once: false,
            keep: true,
            linger: None,
            timeout: None,
            verbose: false,
        };
        vchan::listen(common::quiet(&dom0, &store, &asked), &args, (input, output)).await
    });
    let (guest, other) = (bench.host(GUEST), bench.host(OTHER));
    let result = bench.sim.run(async move {
        use embedded_io_async::Write;
        let first = connect(&guest, "log").await.unwrap();
        first.split().1.write_all(b"first ").await.unwrap();
        let second = connect(&other, "log").await.unwrap();
        second.split().1.write_all(b"second").await.unwrap();
        sleep(&guest.0, Duration::from_secs(2)).await;
        first.split().1.write_all(b"again ").await.unwrap();
        first.split().1.drained().await.unwrap();
        first.close().await.unwrap();
        second.split().1.drained().await.unwrap();
        stop.request();
        server.join().await
    });
    assert_eq!((result, &**bytes.borrow()), (Ok(()), &b"first again second"[..]));
}

/// A service of a daemon, with its version.
struct Named(&'static str, Domains, u32);

impl Offered for Named {
    fn name(&self) -> &str {
        self.0
    }
    fn domains(&self) -> &Domains {
        &self.1
    }
    fn is_like(&self, other: &Self) -> bool {
        self.2 == other.2
    }
}

/// A change of the services ends those that changed, and leaves the clients of the others alone.
#[test]
fn reload_leaves_services_alone_that_did_not_change() {
    let mut bench = Bench::new();
    let (dom0, store) = bench.host(DOM0);
    let (guest, stop, changes) = (bench.host(GUEST), Stop::new(), Rc::new(EventCounter::new()));
    let version = Rc::new(Cell::new(1));
    let ready = Rc::new(Cell::new(0));
    let server = bench.sim.spawn(&dom0.clone(), {
        let (stop, changes) = (stop.clone(), changes.clone());
        let (version, ready) = (version.clone(), ready.clone());
        async move {
            let services = || {
                let service = |name, domains: &str, version| {
                    Rc::new(Named(name, domains.parse().unwrap(), version))
                };
                // With the version, the domains of the other one change.
                let more = if version.get() > 1 { "echo,other" } else { "echo" };
                vec![service("stays", more, 0), service("changes", "echo", version.get())]
            };
            let session = common::quiet(&dom0, &store, &stop);
            let fleet = Fleet {
                services: &services,
                changes: &changes,
                ready: &|| ready.set(ready.get() + 1),
                once: false,
            };
            let serve_one = async |session: Session<'_, Domain>, service: &Named, _: DomId| {
                let mut args = exec_args("echo", false);
                args.place.location.port = Some(service.0.to_string());
                let start = async |_: &_| {
                    let (output, input) = program(usize::MAX);
                    Ok(Program { output, input, child: Ends })
                };
                vchan::exec(session, &args, start).await
            };
            vchan::serve_fleet(session, &fleet, serve_one).await
        }
    });
    let result = bench.sim.run(async move {
        let stays = connect(&guest, "stays").await.unwrap();
        let goes = connect(&guest, "changes").await.unwrap();
        assert_eq!((ask(&stays, "a").await, ask(&goes, "b").await), ("A".into(), "B".into()));
        assert_eq!(ready.get(), 1);
        version.set(2);
        changes.signal();
        let soon = Some(guest.0.now() + Duration::from_secs(1));
        deadline(&guest.0, soon, goes.over()).await.expect("a changed service ends its clients");
        assert_eq!(ask(&stays, "still").await, "STILL");
        let comes = connect(&guest, "changes").await.unwrap();
        assert_eq!(ask(&comes, "c").await, "C");
        stop.request();
        comes.over().await;
        server.join().await
    });
    assert_eq!(result, Ok(()));
}
