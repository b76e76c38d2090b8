//! An echo server in a guest, and a client's connection to it, in a world in memory.

use embedded_io_async::{Read, Write};
use std::future::Future;
use xen_platform::DomId;
use xen_sim::xenstore::Xenstored;
use xen_sim::{Domain, World};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Offer, Order, ServerConfig, connect};

pub const GUEST: DomId = DomId(1);

pub struct Bench {
    pub world: World,
    pub xs: Xenstored,
}

/// A domain with its xenstore; the driver of that is to be spawned.
pub fn host(bench: &Bench, domid: u16) -> (Domain, Store, impl Future<Output = ()> + use<>) {
    let (from, to) = bench.xs.connect(DomId(domid));
    let (store, driver) = xen_store::connect(from, to);
    (bench.world.domain(DomId(domid)), store, async move { drop(driver.await) })
}

pub fn bench() -> Bench {
    let bench = Bench { world: World::new(), xs: Xenstored::new() };
    bench.xs.introduce(GUEST);
    bench
}

/// Serves one client, in capitals, through rings of 4 KiB, until it is gone.
pub async fn serve(domain: Domain, store: Store) {
    let order = Order::for_size(4096).unwrap();
    let path = "data/vchan";
    let config = ServerConfig::new(DomId(0), path).rings(order, order);
    let offer = Offer::publish(&domain, &store, &config).await.unwrap();
    let connection = offer.accept().await.unwrap();
    let (mut reader, mut writer) = connection.split();
    let mut buffer = [0; 512];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        buffer[..n].make_ascii_uppercase();
        if writer.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    // Fails in a domain that was destroyed.
    let _ = connection.close().await;
}

pub async fn dial(domain: &Domain, store: &Store) -> Connection<Domain> {
    let config = ClientConfig::new(GUEST, "data/vchan");
    connect(domain, store, &config).await.unwrap()
}
