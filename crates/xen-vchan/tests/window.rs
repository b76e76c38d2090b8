//! The size of the client's terminal travels beside the bytes.

mod common;

use common::{Bench, CLI_LIVE, CLI_NOTIFY, DOM0, GUEST, RawClient, SRV_NOTIFY, client, pair};
use std::time::Duration;
use xen_platform::{Channel as _, Clock, IndexMemory, SharedMem, deadline, sleep};
use xen_vchan::{Order, Orders, WindowSize};

/// Offset of the word in a page with rings of orders 10 and 12, of which one has a page.
const WINDOW_AT: usize = 24 + 4 + 4;

fn size(columns: u16, rows: u16) -> Option<WindowSize> {
    WindowSize::new(columns, rows)
}

#[test]
fn size_is_there_with_the_client_and_each_change_wakes_the_server() {
    for seed in 0..20 {
        let mut bench = Bench::with_seed(seed);
        let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
        let spawner = bench.sim.spawner();
        bench.run(async move {
            let offer = guest.publish(DOM0, (12, 12)).await;
            let config = client(dom0.in_secs(60)).window(size(80, 24));
            let client = xen_vchan::connect(&dom0.domain, &dom0.store, &config).await.unwrap();
            let server = offer.accept().await.unwrap();
            assert_eq!((server.peer_window(), client.peer_window()), (size(80, 24), None));
            let clock = guest.domain.clone();
            let waiting = spawner.spawn(&guest.domain, async move {
                let changed = server.peer_window_changed(size(80, 24)).await;
                (server, changed, clock.now())
            });
            sleep(&dom0.domain, Duration::from_millis(1500)).await;
            let at = dom0.domain.now();
            client.set_window(size(132, 50).unwrap());
            let (server, changed, seen) = waiting.join().await;
            assert_eq!(Some(changed), size(132, 50));
            assert!(seen.since(at) < Duration::from_millis(500), "woken by a timer");
            // The bytes have not noticed.
            common::works(&server, &client).await;
            client.close().await.unwrap();
            server.close().await.unwrap();
        });
    }
}

#[test]
fn server_passes_no_size_and_a_client_without_one_has_none() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let (server, client) = pair(&guest, &dom0, (10, 12)).await;
        server.set_window(size(80, 24).unwrap());
        assert_eq!((server.peer_window(), client.peer_window()), (None, None));
        client.close().await.unwrap();
        let over = deadline(&guest.domain, guest.in_secs(9), server.peer_window_changed(None));
        assert!(over.await.is_err(), "it stays pending once the connection is over");
        server.close().await.unwrap();
    });
}

/// The word of a client that does not half-close is not looked at, and a size that cannot be is
/// none.
#[test]
fn size_of_a_foreign_client_is_checked() {
    for (half_close, word, expected) in [
        (true, 24 << 16 | 80, size(80, 24)),
        (true, 24 << 16, None),
        (true, 80, None),
        (true, u32::MAX, None),
        (false, 24 << 16 | 80, None),
    ] {
        let mut bench = Bench::new();
        let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
        bench.run(async move {
            let offer = guest.publish(DOM0, (10, 12)).await;
            let raw = RawClient::attach(&dom0.domain, &offer);
            raw.page.store(WINDOW_AT, word);
            raw.page.store_u8(SRV_NOTIFY, if half_close { 0x81 } else { 0x01 });
            raw.page.store_u8(CLI_LIVE, 1);
            raw.channel.notify();
            let server = offer.accept().await.unwrap();
            assert_eq!(server.peer_window(), expected, "{half_close} {word:#x}");
            drop(raw);
            server.close().await.unwrap();
        });
    }
}

/// libxenvchan's server did not announce that it can half-close: its page stays as it is.
#[test]
fn page_of_libxenvchan_gets_no_size() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.sim.domain(1), bench.host(DOM0));
    let server = common::RawServer::publish(&bench, &guest, common::good_head(10, 11));
    bench.run(async move {
        let config = client(dom0.in_secs(60)).window(size(80, 24));
        let client = xen_vchan::connect(&dom0.domain, &dom0.store, &config).await.unwrap();
        client.set_window(size(80, 25).unwrap());
        let mut page = [0; 1000];
        server.page.read(24 + 4 * 8, &mut page[..900]);
        assert_eq!(page, [0; 1000]);
        assert_eq!(server.page.load_u8(CLI_NOTIFY) & 0xfc, 0);
        client.close().await.unwrap();
    });
    common::unpublish(&bench);
}

#[test]
fn no_ring_lies_on_the_words_behind_the_grants() {
    for (left, right) in (10..=20).flat_map(|left| (10..=20).map(move |right| (left, right))) {
        let [left, right] = [left, right].map(|order| Order::new(order).unwrap());
        let Ok(_) = Orders::new(left, right) else { continue };
        let end = 24 + 4 * (left.pages() + right.pages()) + 8;
        let ring = match left.min(right).get() {
            10 => 1024,
            11 => 2048,
            _ => 4096,
        };
        assert!(end <= ring, "rings of orders {left} and {right}");
    }
}
