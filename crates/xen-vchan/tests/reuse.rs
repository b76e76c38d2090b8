//! Servers of libxenvchan's kind: one page for client after client, and no half-close.

mod common;

use common::{Bench, DOM0, GUEST, PATH, client, server, works};
use xen_platform::DomId;
use xen_vchan::{ClientConfig, Connection, Departure, Error, Live, Offer};

async fn publish(host: &common::Host) -> Connection<xen_sim::Domain> {
    let config = server(DOM0, (12, 12)).without_half_close();
    Offer::publish(&host.domain, &host.store, &config).await.unwrap().into_connection()
}

#[test]
fn paused_server_serves_the_next_client_with_the_same_pages() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let server = publish(&guest).await;
        server.on_departure(Departure::Pauses);
        assert!(!server.has_met());
        for _ in 0..3 {
            let client = dom0.connect().await.unwrap();
            assert!(!client.can_half_close() && !server.can_half_close());
            assert!(server.has_met());
            works(&server, &client).await;
            client.close().await.unwrap();
            assert_eq!(server.known_state(), Live::Left);
            assert!(matches!(server.split().1.try_write(b"x"), Err(Error::Closed)));
        }
        server.close().await.unwrap();
    });
}

#[test]
fn departed_client_of_an_unseeing_server_is_no_end_but_its_domain_is() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DomId(2)));
    let world = bench.sim.world().clone();
    bench.run(async move {
        let config = server(DomId(2), (12, 12)).without_half_close();
        let offer = Offer::publish(&guest.domain, &guest.store, &config).await.unwrap();
        let server = offer.into_connection();
        server.on_departure(Departure::Unseen);
        let client = dom0.connect().await.unwrap();
        assert!(server.has_met());
        client.close().await.unwrap();
        assert_eq!(server.state(), Live::Connected);
        assert_eq!(server.split().1.try_write(b"for the next").unwrap(), Some(12));
        let next = dom0.connect().await.unwrap();
        assert_eq!(next.split().0.try_read(&mut [0; 20]).unwrap(), Some(12));
        world.destroy(DomId(2));
        server.watcher().await;
        assert_eq!(server.known_state(), Live::Died);
        server.close().await.unwrap();
    });
}

#[test]
fn client_without_waiting_fails_at_once() {
    let mut bench = Bench::new();
    let (guest, dom0) = (bench.host(GUEST), bench.host(DOM0));
    bench.run(async move {
        let at_once: ClientConfig = client(None).without_waiting();
        let try_now = async || xen_vchan::connect(&dom0.domain, &dom0.store, &at_once).await;
        assert!(matches!(try_now().await, Err(Error::NoServer { .. })));
        let server = publish(&guest).await;
        let first = try_now().await.unwrap();
        let path = format!("/local/domain/1/{PATH}");
        assert_eq!(try_now().await.err().unwrap(), Error::Busy { path });
        first.close().await.unwrap();
        server.close().await.unwrap();
    });
}
