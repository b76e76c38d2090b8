//! Joining a vchan and local connections, in both roles.

mod common;

use common::{Bench, DOM0, GUEST, Step, capitalize, letters, place, program};
use embedded_io_async::{Read, Write};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;
use vchan::{Code, Failure, LocalAddress, ProxyArguments, RingSizes, Session, Stop};
use xen_platform::{Clock, deadline, sleep};
use xen_vchan::ClientConfig;

fn args(server: bool, once: bool) -> ProxyArguments {
    let sizes = RingSizes { left: 4096, right: 4096 };
    let local = LocalAddress { unix: None, tcp: None, pty: false };
    ProxyArguments {
        place: place(),
        local,
        server,
        sizes,
        clients: 64,
        once,
        timeout: Some(5),
        mode: None,
        owner: None,
        linger: None,
        verbose: false,
    }
}

/// A server of the guest.
fn server_config() -> xen_vchan::ServerConfig {
    let order = xen_vchan::Order::new(12).unwrap();
    xen_vchan::ServerConfig::new(DOM0, "data/vchan").rings(order, order)
}

/// Runs `vchan proxy` as a client, with these local connections: how it ended, what each got, and
/// what was said.
fn forward(
    bench: &mut Bench,
    args: ProxyArguments,
    locals: Vec<Vec<Step>>,
) -> (Failure, Vec<Vec<u8>>, Vec<String>) {
    let (dom0, store) = bench.host(DOM0);
    let streams: Vec<_> = locals.into_iter().map(|steps| common::streams(&dom0, steps)).collect();
    let outputs: Vec<_> = streams.iter().map(|(_, output)| output.bytes.clone()).collect();
    let streams = RefCell::new(VecDeque::from(streams));
    let (result, said) = bench.sim.run(async move {
        let said = RefCell::new(Vec::new());
        let report = |text: &str| said.borrow_mut().push(text.to_string());
        let (stop, clock) = (Stop::new(), dom0.clone());
        let session = Session {
            platform: &dom0,
            store: &store,
            stop: &stop,
            report: &report,
            offered: &|| (),
        };
        let open = async || {
            let next = streams.borrow_mut().pop_front();
            next.ok_or_else(|| Failure::new(Code::Other, "no more"))
        };
        // A client of many local connections goes on when one cannot be accepted.
        let until = Some(clock.now() + Duration::from_secs(30));
        let result = deadline(&clock, until, vchan::proxy(session, &args, open)).await;
        (result, said.into_inner())
    });
    let failure = match result {
        Ok(Err(failure)) => failure,
        Ok(Ok(())) => Failure::new(Code::Other, "it ended well"),
        Err(_) => Failure::new(Code::Other, "it goes on"),
    };
    (failure, outputs.iter().map(|bytes| bytes.take()).collect(), said)
}

#[test]
fn local_connections_get_a_channel_each_and_a_failed_accept_ends_none() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    bench.sim.spawn(&guest.clone(), async move {
        loop {
            let config = server_config();
            let offer = xen_vchan::Offer::publish(&guest, &store, &config).await.unwrap();
            let connection = offer.accept().await.unwrap();
            let (reader, writer) = connection.split();
            capitalize(guest.clone(), reader, writer, Duration::ZERO).await;
            connection.close().await.unwrap();
        }
    });
    let mut args = args(false, false);
    args.verbose = true;
    let locals = vec![vec![Step::Bytes(letters(20_000))], vec![], vec![Step::Bytes(b"x".into())]];
    let (end, outputs, said) = forward(&mut bench, args, locals);
    assert_eq!(end.text, "it goes on");
    assert!(outputs == [letters(20_000).to_ascii_uppercase(), vec![], b"X".to_vec()]);
    for (text, times) in [("A local connection has come", 3), ("The local connection has ended", 3)]
    {
        assert_eq!(said.iter().filter(|line| *line == text).count(), times, "{text}: {said:?}");
    }
    bench.sim.world().destroy(GUEST);
}

#[test]
fn a_server_that_is_not_there_ends_one_connection_or_the_only_one() {
    let (end, outputs, said) =
        forward(&mut Bench::new(), args(false, false), vec![vec![Step::Forever], vec![]]);
    assert_eq!((&*end.text, outputs), ("it goes on", vec![vec![]; 2]));
    let missing = "no vchan is offered at /local/domain/1/data/vchan";
    assert_eq!(said.iter().filter(|text| text.starts_with(missing)).count(), 2, "{said:?}");
    let (end, ..) = forward(&mut Bench::new(), args(false, true), vec![vec![Step::Forever]]);
    assert_eq!(end.code, Code::Missing);
}

#[test]
fn a_server_that_does_nothing_costs_one_connection() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    bench.sim.spawn(&guest.clone(), async move {
        let config = server_config();
        let mut listener = xen_vchan::Listener::open(&guest, &store, &config).await.unwrap();
        let stuck = listener.accept().await.unwrap();
        let works = listener.accept().await.unwrap();
        let (reader, writer) = works.split();
        capitalize(guest.clone(), reader, writer, Duration::ZERO).await;
        works.close().await.unwrap();
        while stuck.state() == xen_vchan::Live::Connected {
            sleep(&guest, Duration::from_secs(1)).await;
        }
        stuck.close().await.unwrap();
        listener.close().await.unwrap();
    });
    let locals =
        vec![vec![Step::Bytes(letters(9000)), Step::Forever], vec![Step::Bytes(letters(9000))]];
    let (_, outputs, mut said) = forward(&mut bench, args(false, false), locals);
    said.sort();
    said.dedup();
    assert!(outputs == [vec![], letters(9000).to_ascii_uppercase()]);
    assert!(said.len() == 2 && said[0] == "no more", "{said:?}");
    assert!(said[1].contains("no sign of life for 5s"), "{said:?}");
}

#[test]
fn the_server_joins_each_client_with_a_local_connection_of_its_own() {
    let mut bench = Bench::new();
    let stop = Stop::new();
    let request = stop.clone();
    let hosts = [bench.host(GUEST), bench.host(GUEST), bench.host(GUEST)];
    let clients = bench.sim.spawn(&bench.sim.domain(1), async move {
        let mut got = Vec::new();
        for ((domain, store), text) in hosts.into_iter().zip(["a", "refused", "bc"]) {
            let until = Some(domain.now() + Duration::from_secs(60));
            let config = ClientConfig::new(DOM0, "data/vchan").deadline(until);
            let connection = xen_vchan::connect(&domain, &store, &config).await.unwrap();
            let (mut reader, mut writer) = connection.split();
            // The one that is refused finds the channel closed, sooner or later.
            let _ = writer.write_all(text.as_bytes()).await;
            let mut bytes = vec![0; text.len()];
            if reader.read_exact(&mut bytes).await.is_ok() {
                got.push(String::from_utf8(bytes).unwrap());
            }
            connection.close().await.unwrap();
        }
        request.request();
        got
    });
    let (dom0, store) = bench.host(DOM0);
    let (result, said) = bench.sim.run(async move {
        let (said, count) = (RefCell::new(Vec::new()), Cell::new(0));
        let report = |text: &str| said.borrow_mut().push(text.to_string());
        let session = Session {
            platform: &dom0,
            store: &store,
            stop: &stop,
            report: &report,
            offered: &|| (),
        };
        let open = async || {
            count.set(count.get() + 1);
            if count.get() == 2 {
                Err(Failure::new(Code::Other, "nobody listens"))
            } else {
                Ok(program(100))
            }
        };
        let args = ProxyArguments { timeout: None, ..args(true, false) };
        let result = vchan::proxy(session, &args, open).await;
        (result, said.into_inner())
    });
    assert_eq!((result, said), (Ok(()), vec!["nobody listens".to_string()]));
    assert_eq!(bench.sim.run(clients.outcome()).unwrap(), ["A", "BC"]);
    assert_eq!(bench.xs.get("/local/domain/0/data/vchan/ring-ref"), None);
}
