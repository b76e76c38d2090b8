//! `vchan connect --reconnect`.

mod common;

use common::{Bench, DOM0, GUEST, Step, args, capitalize};
use embedded_io_async::Read;
use std::time::Duration;
use vchan::{Code, ConnectArguments, DomainArgument};
use xen_platform::{DomId, sleep};
use xen_vchan::{Offer, ServerConfig};

/// The number that the domain has after its reboot.
const AGAIN: DomId = DomId(2);

/// The arguments of `vchan connect echo --reconnect=60`.
fn follow() -> ConnectArguments {
    let mut args = ConnectArguments { reconnect: Some(60), ..args() };
    args.dial.place.domain = DomainArgument::Name("echo".into());
    args
}

/// Destroys the guest after three seconds, and builds it anew after twenty more; it serves five
/// seconds later.
fn reboot(bench: &Bench) {
    let (clock, _) = bench.host(DOM0);
    let (world, xs, spawner) = (clock.world().clone(), bench.xs.clone(), bench.sim.spawner());
    let (guest, process) = (bench.sim.domain(AGAIN.0), clock.clone());
    bench.sim.spawn(&process, async move {
        sleep(&clock, Duration::from_secs(3)).await;
        world.destroy(GUEST);
        sleep(&clock, Duration::from_secs(20)).await;
        xs.introduce(AGAIN);
        xs.set("/local/domain/2/name", "echo");
        let (from, to) = xs.connect(AGAIN);
        let (store, driver) = xen_store::connect(from, to);
        spawner.spawn(&guest, driver);
        sleep(&clock, Duration::from_secs(5)).await;
        let offer = Offer::publish(&guest, &store, &ServerConfig::new(DOM0, "data/vchan")).await;
        let connection = offer.unwrap().accept().await.unwrap();
        let (reader, writer) = connection.split();
        capitalize(guest, reader, writer, Duration::ZERO).await;
        connection.close().await.unwrap();
    });
}

/// Input of the user: a line before the reboot, one while there is no server, and one after it.
fn typed() -> Vec<Step> {
    let pause = |secs| Step::Pause(Duration::from_secs(secs));
    let line = |text: &str| Step::Bytes(text.into());
    vec![line("one\n"), pause(10), line("two\n"), pause(60), line("three\n")]
}

#[test]
fn domain_is_followed_through_its_reboot() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    reboot(&bench);
    let ended = bench.connect(follow(), typed());
    assert_eq!(ended.output, b"ONE\nTWO\nTHREE\n");
    assert_eq!(ended.result, Ok(()));
    let said = ended.said.join("\n");
    assert!(said.contains("0 bytes not taken; looking for it again"), "{said}");
    assert!(said.contains("Connected again to domain 2"), "{said}");
}

#[test]
fn lost_bytes_are_counted_and_told_by_the_exit_code() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |domain, mut reader, _| async move {
        // Of the first line it takes two bytes, and answers nothing.
        reader.read_exact(&mut [0; 2]).await.unwrap();
        sleep(&domain, Duration::from_secs(1000)).await;
    });
    reboot(&bench);
    let ended = bench.connect(follow(), typed());
    assert_eq!(ended.output, b"TWO\nTHREE\n");
    let failure = ended.result.unwrap_err();
    assert_eq!(failure.code, Code::Gone);
    assert_eq!(failure.text, "2 bytes were lost when the channel was cut off before");
}

#[test]
fn domain_that_does_not_come_back_is_waited_for_no_longer_than_asked() {
    let mut bench = Bench::new();
    let (guest, _) = bench.serve(Duration::ZERO, |domain, reader, writer| {
        capitalize(domain, reader, writer, Duration::ZERO)
    });
    let (clock, world) = (bench.sim.domain(0), guest.world().clone());
    bench.sim.spawn(&clock.clone(), async move {
        sleep(&clock, Duration::from_secs(3)).await;
        world.destroy(GUEST);
    });
    let ended = bench.connect(follow(), vec![Step::Forever]);
    assert_eq!(ended.result.unwrap_err().code, Code::Missing);
    assert!(ended.took >= Duration::from_secs(60) && ended.took < Duration::from_secs(80));
}

#[test]
fn end_in_good_order_is_the_end() {
    let mut bench = Bench::new();
    bench.serve(Duration::ZERO, |_, _, _| async {});
    let ended = bench.connect(follow(), vec![Step::Forever]);
    assert_eq!(ended.result, Ok(()));
}
