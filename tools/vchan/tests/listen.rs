//! Serving a guest from dom0: with standard streams, and with a program for each client.

mod common;

use common::{Bench, DOM0, GUEST, Step, letters, program};
use embedded_io_async::{Read, Write};
use std::cell::RefCell;
use std::time::Duration;
use vchan::{
    Child, Code, ExecArguments, Failure, ListenArguments, Program, RingSizes, Session, Stop,
};
use xen_platform::{Clock, deadline, sleep};
use xen_sim::{Domain, Task};
use xen_vchan::{ClientConfig, Connection};

const KEY: &str = "/local/domain/0/data/vchan/ring-ref";

fn listen_args() -> ListenArguments {
    let sizes = RingSizes { left: 4096, right: 1000 };
    ListenArguments {
        place: common::server_place(GUEST),
        sizes,
        once: false,
        keep: false,
        linger: None,
        timeout: None,
        verbose: false,
    }
}

fn exec_args() -> ExecArguments {
    let sizes = RingSizes { left: 4096, right: 4096 };
    ExecArguments {
        place: common::server_place(GUEST),
        sizes,
        once: false,
        timeout: None,
        pty: false,
        grace: 10,
        clients: 64,
        verbose: false,
        command: Vec::new(),
    }
}

/// A client in the guest that comes after `delay`.
async fn client(bench_client: (Domain, xen_store::Store), path: &str) -> Connection<Domain> {
    let (domain, store) = bench_client;
    let config =
        ClientConfig::new(DOM0, path).deadline(Some(domain.now() + Duration::from_secs(60)));
    xen_vchan::connect(&domain, &store, &config).await.unwrap()
}

/// Runs `vchan listen` in dom0 until it ends: its result, its output, and what it said.
fn listen(
    bench: &mut Bench,
    args: ListenArguments,
    steps: Vec<Step>,
    stop: &Stop,
) -> (Result<(), Failure>, Vec<u8>, Vec<String>) {
    let (dom0, store) = bench.host(DOM0);
    let (input, output) = common::streams(&dom0, steps);
    let (bytes, stop) = (output.bytes.clone(), stop.clone());
    let (result, said) = bench.sim.run(async move {
        let said = RefCell::new(Vec::new());
        let report = |text: &str| said.borrow_mut().push(text.to_string());
        let session = Session {
            platform: &dom0,
            store: &store,
            stop: &stop,
            report: &report,
            offered: &|| (),
        };
        let limit = Some(dom0.now() + Duration::from_secs(3600));
        let work = vchan::listen(session, &args, (input, output));
        let result = deadline(&dom0, limit, work).await.expect("it hangs");
        (result, said.into_inner())
    });
    (result, bytes.take(), said)
}

/// The client sends `text`, reads what there is to be read until the end or `want` bytes, and
/// leaves.
fn talk(bench: &Bench, text: Vec<u8>, want: usize) -> Task<Vec<u8>> {
    let host = bench.host(GUEST);
    bench.sim.spawn(&host.0.clone(), async move {
        let connection = client(host, "data/vchan").await;
        let (mut reader, mut writer) = connection.split();
        writer.write_all(&text).await.unwrap();
        let mut got = vec![0; want];
        reader.read_exact(&mut got).await.unwrap();
        writer.drained().await.unwrap();
        connection.close().await.unwrap();
        got
    })
}

#[test]
fn a_client_is_served_once_and_the_keys_are_removed() {
    let mut bench = Bench::new();
    let client = talk(&bench, letters(30_000), 20_000);
    let (result, output, said) =
        listen(&mut bench, listen_args(), vec![Step::Bytes(letters(20_000))], &Stop::new());
    assert_eq!((result, said), (Ok(()), Vec::new()));
    assert!(output == letters(30_000));
    assert!(bench.sim.run(client.outcome()).unwrap() == letters(20_000));
    assert_eq!(bench.xs.get(KEY), None);
}

#[test]
fn the_std_layout_names_the_client_and_the_port() {
    let mut bench = Bench::new();
    let mut args = listen_args();
    args.place.location.port = Some("log".into());
    args.verbose = true;
    let host = bench.host(GUEST);
    let xs = bench.xs.clone();
    let client = bench.sim.spawn(&host.0.clone(), async move {
        let connection = client(host, "data/vchan/1/log").await;
        assert_eq!(
            xs.permissions("/local/domain/0/data/vchan/1/log/ring-ref").as_deref(),
            Some("n0 r1")
        );
        connection.close().await.unwrap();
    });
    let (result, _, said) = listen(&mut bench, args, Vec::new(), &Stop::new());
    assert_eq!(result, Ok(()));
    bench.sim.run(client.outcome()).unwrap();
    assert!(said[0].starts_with("Server initializing: gntref = "), "{said:?}");
    assert!(said[0].ends_with("\nWaiting for a client of domain 1"), "{said:?}");
    // Orders 12 and 11: the smaller ring lies in the page. Nobody was there yet.
    assert!(
        said[1].starts_with("A client of domain 1 has come.")
            && said[1].contains("\n0c 00 0b 00 02 01 81 00 ")
    );
    let left = "The client of domain 1 has left: 0 bytes sent, 0 received; the client closed first";
    assert_eq!(said[2..], [left]);
}

#[test]
fn clients_come_one_after_another_until_a_signal_and_the_keys_go_with_it() {
    let mut bench = Bench::new();
    let mut args = listen_args();
    args.keep = true;
    let stop = Stop::new();
    let (first, second) =
        (talk(&bench, b"one ".into(), 0), (bench.host(GUEST), stop.clone(), bench.xs.clone()));
    let task = bench.sim.spawn(&second.0.0.clone(), async move {
        first.join().await;
        let (host, stop, xs) = second;
        let clock = host.0.clone();
        let connection = client(host, "data/vchan").await;
        let (_, mut writer) = connection.split();
        writer.write_all(b"two").await.unwrap();
        writer.drained().await.unwrap();
        connection.close().await.unwrap();
        sleep(&clock, Duration::from_secs(100)).await;
        assert!(xs.get(KEY).is_some(), "the next client is waited for");
        stop.request();
    });
    let (result, output, _) = listen(&mut bench, args, vec![Step::Forever], &stop);
    assert_eq!((result, output), (Ok(()), b"one two".to_vec()));
    bench.sim.run(task.outcome()).unwrap();
    assert_eq!(bench.xs.get(KEY), None);
}

#[test]
fn a_signal_in_the_middle_cuts_the_client_off() {
    let mut bench = Bench::new();
    let stop = Stop::new();
    let (host, request) = (bench.host(GUEST), stop.clone());
    let task = bench.sim.spawn(&host.0.clone(), async move {
        let connection = client(host, "data/vchan").await;
        request.request();
        let (mut reader, _) = connection.split();
        // What would have come is missing, and the client learns that.
        assert_eq!(reader.read(&mut [0; 1]).await, Err(xen_vchan::Error::Died(DOM0)));
    });
    let (result, ..) = listen(&mut bench, listen_args(), vec![Step::Forever], &stop);
    assert_eq!(result, Ok(()));
    bench.sim.run(task.outcome()).unwrap();
    assert_eq!(bench.xs.get(KEY), None);
}

#[test]
fn no_client_comes_in_time() {
    let mut bench = Bench::new();
    let mut args = listen_args();
    args.timeout = Some(5);
    let (result, ..) = listen(&mut bench, args, Vec::new(), &Stop::new());
    let failure = result.unwrap_err();
    assert_eq!(
        (failure.code, &*failure.text),
        (Code::Missing, "no client came in time: see --timeout")
    );
    assert_eq!(bench.xs.get(KEY), None);
}

#[test]
fn the_client_domain_ends() {
    for come in [false, true] {
        let mut bench = Bench::new();
        let mut args = listen_args();
        args.keep = true;
        let host = bench.host(GUEST);
        let (clock, world) = (bench.sim.domain(0), host.0.world().clone());
        if come {
            bench.sim.spawn(&host.0.clone(), async move {
                let _connection = client(host, "data/vchan").await;
                std::future::pending::<()>().await
            });
        }
        bench.sim.spawn(&bench.sim.domain(0), async move {
            sleep(&clock, Duration::from_secs(5)).await;
            world.destroy(GUEST);
        });
        let (result, ..) = listen(&mut bench, args, vec![Step::Forever], &Stop::new());
        assert_eq!(result.unwrap_err().code, Code::Gone, "come: {come}");
        assert_eq!(bench.xs.get(KEY), None);
    }
}

/// A program that ends with its streams, and then has this status.
struct Exits(u8);

impl Child for Exits {
    async fn wait(&mut self) -> Result<u8, Failure> {
        Ok(self.0)
    }
    fn terminate(&mut self) {}
    fn kill(&mut self) {}
}

/// Runs `vchan exec` with the program until it ends.
fn exec(
    bench: &mut Bench,
    args: ExecArguments,
    most: usize,
    stop: Stop,
) -> (Result<(), Failure>, Vec<String>) {
    let (dom0, store) = bench.host(DOM0);
    bench.sim.run(async move {
        let said = RefCell::new(Vec::new());
        let report = |text: &str| said.borrow_mut().push(text.to_string());
        let session = Session {
            platform: &dom0,
            store: &store,
            stop: &stop,
            report: &report,
            offered: &|| (),
        };
        let start = async |_: &_| {
            let (output, input) = program(most);
            Ok(Program { output, input, child: Exits(3) })
        };
        let result = vchan::exec(session, &args, start).await;
        (result, said.into_inner())
    })
}

#[test]
fn each_client_gets_a_program_of_its_own() {
    let mut bench = Bench::new();
    let stop = Stop::new();
    let request = stop.clone();
    let clients = ["abc", "defghi", "x"].map(|text| (text, bench.host(GUEST)));
    let clients = bench.sim.spawn(&bench.sim.domain(1), async move {
        let mut got = Vec::new();
        for (text, host) in clients {
            let clock = host.0.clone();
            let connection = client(host, "data/vchan").await;
            let (mut reader, mut writer) = connection.split();
            writer.write_all(text.as_bytes()).await.unwrap();
            let mut bytes = vec![0; text.len()];
            reader.read_exact(&mut bytes).await.unwrap();
            got.push(String::from_utf8(bytes).unwrap());
            connection.close().await.unwrap();
            sleep(&clock, Duration::from_secs(1)).await;
        }
        request.request();
        got
    });
    let (result, said) = exec(&mut bench, exec_args(), usize::MAX, stop);
    assert_eq!((result, said), (Ok(()), vec![" ended with exit status 3".to_string(); 3]));
    assert_eq!(bench.sim.run(clients.outcome()).unwrap(), ["ABC", "DEFGHI", "X"]);
    assert_eq!(bench.xs.get(KEY), None);
}

/// Lets `vchan exec` echo a text.
async fn echoed(connection: &Connection<Domain>, text: &str) -> String {
    let (mut reader, mut writer) = connection.split();
    writer.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = vec![0; text.len()];
    reader.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn clients_are_served_side_by_side_and_one_that_dies_disturbs_nobody() {
    let mut bench = Bench::new();
    let stop = Stop::new();
    let request = stop.clone();
    let [first, second, third] = [bench.host(GUEST), bench.host(GUEST), bench.host(GUEST)];
    let (clock, doomed) = (first.0.clone(), second.0.clone());
    bench.sim.spawn(&doomed.clone(), async move {
        let clock = second.0.clone();
        sleep(&clock, Duration::from_secs(1)).await;
        let dies = client(second, "data/vchan").await;
        assert_eq!(echoed(&dies, "two").await, "TWO");
        std::future::pending::<()>().await
    });
    let clients = bench.sim.spawn(&bench.sim.domain(1), async move {
        let stays = client(first, "data/vchan").await;
        assert_eq!(echoed(&stays, "one").await, "ONE");
        sleep(&clock, Duration::from_secs(2)).await;
        assert_eq!(echoed(&stays, "still").await, "STILL");
        doomed.kill_process();
        let comes = client(third, "data/vchan").await;
        assert_eq!(
            (echoed(&comes, "three").await, echoed(&stays, "again").await),
            ("THREE".into(), "AGAIN".into())
        );
        // Both are there when the server is asked to end: it closes their channels.
        request.request();
        for connection in [stays, comes] {
            let read = connection.split().0.read(&mut [0; 1]).await;
            assert_eq!(read, Err(xen_vchan::Error::Died(DOM0)));
        }
    });
    let (result, said) = exec(&mut bench, exec_args(), usize::MAX, stop);
    let died = "the vchan peer, domain 1, died: it did not close the channel".to_string();
    assert_eq!((result, said), (Ok(()), vec![died]));
    bench.sim.run(clients.outcome()).unwrap();
    assert_eq!(bench.xs.get(KEY), None);
}

#[test]
fn one_client_more_than_are_served_waits_until_another_has_left() {
    let mut bench = Bench::new();
    let stop = Stop::new();
    let request = stop.clone();
    let [first, second, third] = [bench.host(GUEST), bench.host(GUEST), bench.host(GUEST)];
    let clock = first.0.clone();
    let clients = bench.sim.spawn(&bench.sim.domain(1), async move {
        let first = client(first, "data/vchan").await;
        let second = client(second, "data/vchan").await;
        assert_eq!(
            (echoed(&first, "a").await, echoed(&second, "b").await),
            ("A".into(), "B".into())
        );
        let third = client(third, "data/vchan").await;
        let early =
            deadline(&clock, Some(clock.now() + Duration::from_secs(30)), echoed(&third, "c"))
                .await;
        assert!(early.is_err(), "two are served at a time");
        first.close().await.unwrap();
        let mut bytes = [0; 1];
        third.split().0.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"C");
        second.close().await.unwrap();
        third.close().await.unwrap();
        request.request();
    });
    let (result, _) =
        exec(&mut bench, ExecArguments { clients: 2, ..exec_args() }, usize::MAX, stop);
    assert_eq!(result, Ok(()));
    bench.sim.run(clients.outcome()).unwrap();
}

#[test]
fn the_timeout_runs_only_while_nobody_is_served() {
    let mut bench = Bench::new();
    let host = bench.host(GUEST);
    let clock = host.0.clone();
    let client = bench.sim.spawn(&host.0.clone(), async move {
        let connection = client(host, "data/vchan").await;
        sleep(&clock, Duration::from_secs(100)).await;
        let echo = echoed(&connection, "late").await;
        connection.close().await.unwrap();
        echo
    });
    let (result, _) = exec(
        &mut bench,
        ExecArguments { timeout: Some(5), ..exec_args() },
        usize::MAX,
        Stop::new(),
    );
    assert_eq!(result.unwrap_err().code, Code::Missing);
    assert_eq!(bench.sim.run(client.outcome()).unwrap(), "LATE");
}

#[test]
fn what_a_program_said_before_it_ended_is_delivered_whatever_the_client_goes_on_to_send() {
    let mut bench = Bench::new();
    let mut args = exec_args();
    args.once = true;
    let host = bench.host(GUEST);
    let client = bench.sim.spawn(&host.0.clone(), async move {
        let connection = client(host, "data/vchan").await;
        let (mut reader, mut writer) = connection.split();
        writer.write_all(&letters(20_000)).await.unwrap();
        let mut got = Vec::new();
        let mut chunk = [0; 100];
        while let Ok(count @ 1..) = reader.read(&mut chunk).await {
            got.extend_from_slice(&chunk[..count]);
        }
        connection.close().await.unwrap();
        got
    });
    let (result, _) = exec(&mut bench, args, 700, Stop::new());
    assert_eq!(result.unwrap_err().text, " ended with exit status 3");
    assert!(bench.sim.run(client.outcome()).unwrap() == letters(700).to_ascii_uppercase());
}
