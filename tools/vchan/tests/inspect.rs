//! Looking at vchans without touching them.

mod common;

use common::{Bench, DOM0, GUEST, place};
use embedded_io_async::Write;
use std::time::Duration;
use vchan::{Code, DumpArguments, Failure, ListArguments};
use xen_platform::{DomId, Platform, sleep};
use xen_store::Store;
use xen_vchan::{ClientConfig, Offer, Order, ServerConfig};

/// Runs `vchan ls` in dom0 now.
fn list(bench: &mut Bench, json: bool) -> String {
    let (dom0, store) = bench.host(DOM0);
    bench.sim.run(async move { vchan::list(&dom0, &store, &ListArguments { json }).await.unwrap() })
}

fn dump(bench: &mut Bench, path: Option<&str>, json: bool) -> Result<String, Failure> {
    let (dom0, store) = bench.host(DOM0);
    let mut place = place();
    place.location.path = path.map(Into::into);
    bench.sim.run(async move { vchan::dump(&dom0, &store, &DumpArguments { place, json }).await })
}

async fn publish<P: Platform>(
    platform: &P,
    store: &Store,
    peer: DomId,
    path: &str,
    orders: (u16, u16),
) -> Offer<P> {
    let order = |order| Order::new(order).unwrap();
    let config = ServerConfig::new(peer, path).rings(order(orders.0), order(orders.1));
    Offer::publish(platform, store, &config).await.unwrap()
}

/// The guest serves dom0, has a client there that sent four bytes, and waits for another and for
/// domain 2.
fn with_channels(test: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new();
    bench.xs.introduce(DomId(2));
    let (guest, store) = bench.host(GUEST);
    let (dom0, of_dom0) = bench.host(DOM0);
    let keep = bench.sim.run(async move {
        let offer = publish(&guest, &store, DOM0, "data/vchan", (13, 12)).await;
        let config = ClientConfig::new(GUEST, "data/vchan");
        let client = xen_vchan::connect(&dom0, &of_dom0, &config).await.unwrap();
        let server = offer.accept().await.unwrap();
        client.split().1.write_all(b"four").await.unwrap();
        let waiting = publish(&guest, &store, DOM0, "data/vchan/0/echo", (11, 10)).await;
        let other = publish(&guest, &store, DomId(2), "data/vchan/2/log", (12, 12)).await;
        (client, server, waiting, other)
    });
    test(&mut bench);
    bench.sim.run(async move {
        let (client, server, waiting, other) = keep;
        // Nobody has noticed anything.
        assert_eq!(server.state(), xen_vchan::Live::Connected);
        client.close().await.unwrap();
        server.close().await.unwrap();
        waiting.withdraw().await.unwrap();
        other.withdraw().await.unwrap();
    });
}

#[test]
fn a_table_of_all_channels_in_both_layouts() {
    with_channels(|bench| {
        let before = (bench.xs.dump(), bench.sim.world().notifies(DOM0));
        let text = list(bench, false);
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[0],
            ["SERVER", "CLIENT", "PATH", "RING-REF", "PORT", "STATE", "LEFT", "RIGHT"]
        );
        assert_eq!(rows.len(), 4, "{text}");
        assert_eq!(rows[1][..3], ["1", "0", "/local/domain/1/data/vchan"]);
        assert_eq!(rows[1][5..], ["connected", "4/8192", "0/4096"]);
        assert_eq!(
            (rows[2][2], &rows[2][5..]),
            ("/local/domain/1/data/vchan/0/echo", &["waiting", "0/2048", "0/1024"][..])
        );
        assert_eq!((rows[3][1], rows[3][2]), ("2", "/local/domain/1/data/vchan/2/log"));
        assert_eq!(rows[3][5..], ["-", "-", "-"], "what is granted to others cannot be seen");
        assert_eq!((bench.xs.dump(), bench.sim.world().notifies(DOM0)), before);
    });
}

#[test]
fn the_list_for_scripts() {
    with_channels(|bench| {
        let text = list(bench, true);
        assert!(
            text.starts_with(
                r#"[{"server":1,"client":0,"path":"/local/domain/1/data/vchan","ring_ref":"#
            ),
            "{text}"
        );
        assert!(
            text.contains(
                r#""state":"connected","left":{"order":13,"size":8192,"used":4,"prod":4,"cons":0}"#
            ),
            "{text}"
        );
        assert!(
            text.contains(r#""state":null,"left":null,"right":null,"reason":"its page is granted to domain 2,"#),
            "{text}"
        );
    });
}

#[test]
fn keys_that_lead_nowhere_are_listed_as_such() {
    let mut bench = Bench::new();
    assert_eq!(list(&mut bench, true), "[]\n");
    bench.xs.set("/local/domain/1/data/vchan/ring-ref", "8");
    assert_eq!(list(&mut bench, true), "[]\n", "half of the keys are none");
    bench.xs.set("/local/domain/1/data/vchan/event-channel", "none");
    bench.xs.set("/local/domain/1/data/vchan/0/a/ring-ref", "many");
    bench.xs.set("/local/domain/1/data/vchan/0/a/event-channel", "5");
    let text = list(&mut bench, false);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][2..], ["/local/domain/1/data/vchan", "8", "-", "-", "-", "-"]);
    assert_eq!(rows[2][2..], ["/local/domain/1/data/vchan/0/a", "-", "5", "-", "-", "-"]);
    assert!(list(&mut bench, true).contains("ring-ref is not a number"));
}

#[test]
fn channels_are_found_wherever_they_are_below_data() {
    let mut bench = Bench::new();
    let paths = ["data/mine", "data/a/b/c/d/e/f", "data", "data/too/deep/for/anyone/to/look/there"];
    let (guest, store) = bench.host(GUEST);
    let offers = bench.sim.run(async move {
        let mut offers = Vec::new();
        for path in paths {
            offers.push(publish(&guest, &store, DOM0, path, (10, 11)).await);
        }
        offers
    });
    let text = list(&mut bench, false);
    let found: Vec<_> =
        text.lines().skip(1).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(
        found,
        ["/local/domain/1/data", "/local/domain/1/data/a/b/c/d/e/f", "/local/domain/1/data/mine"]
    );
    assert_eq!(text.matches("waiting").count(), 3, "{text}");
    bench.sim.run(async move {
        for offer in offers {
            offer.withdraw().await.unwrap();
        }
    });
}

#[test]
fn only_dom0_sees_them_all() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    let listed = bench
        .sim
        .run(async move { vchan::list(&guest, &store, &ListArguments { json: false }).await });
    let failure = listed.unwrap_err();
    assert_eq!(
        (failure.code, failure.text.contains("run this there")),
        (Code::Usage, true),
        "{failure}"
    );
}

#[test]
fn the_page_of_a_channel_decoded() {
    with_channels(|bench| {
        let text = dump(bench, None, false).unwrap();
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_string()
        };
        assert_eq!(line("path"), "/local/domain/1/data/vchan");
        assert_eq!((line("client"), line("state")), ("there".into(), "connected".into()));
        assert_eq!(line("left"), "to the server: order 13, 4/8192 bytes used, prod 4, cons 0");
        assert_eq!(line("right"), "to the client: order 12, 0/4096 bytes used, prod 0, cons 0");
        assert!(
            text.contains(
                "\n\n00 00 00 00 04 00 00 00 00 00 00 00 00 00 00 00\n0d 00 0c 00 01 01 "
            ),
            "{text}"
        );
        let json = dump(bench, None, true).unwrap();
        assert!(json.contains(r#""state":"connected","cli_live":1,"srv_live":1,"#), "{json}");
    });
}

#[test]
fn nothing_is_there_to_be_dumped() {
    with_channels(|bench| {
        let failure = dump(bench, Some("data/other"), false).unwrap_err();
        assert_eq!(failure.code, Code::Missing);
        let text = "no vchan is published at /local/domain/1/data/other/ring-ref: see vchan ls for those there are";
        assert_eq!(failure.text, text);
        let failure = dump(bench, Some("data/vchan/2/log"), false).unwrap_err();
        assert_eq!(failure.code, Code::Other, "{failure}");
    });
}

#[test]
fn a_channel_that_is_closed_meanwhile_is_not_held_open() {
    let mut bench = Bench::new();
    let (guest, store) = bench.host(GUEST);
    let serving = bench.sim.spawn(&guest.clone(), async move {
        let offer = publish(&guest, &store, DOM0, "data/vchan", (10, 11)).await;
        sleep(&guest, Duration::from_secs(1)).await;
        offer.withdraw().await.unwrap();
    });
    let (dom0, _) = bench.host(DOM0);
    bench.sim.run(async move { sleep(&dom0, Duration::from_millis(500)).await });
    assert!(list(&mut bench, false).contains("waiting"));
    bench.sim.run(serving.outcome()).unwrap();
    assert_eq!(list(&mut bench, true), "[]\n");
}
