//! A server and a client of one message, in a world in memory.

use embedded_io_async::Write;
use std::process::ExitCode;
use xen_platform::{DomId, Platform};
use xen_sim::{Sim, xenstore::Xenstored};
use xen_store::Store;
use xen_vchan::{ClientConfig, Error, Offer, Order, ServerConfig, connect};

async fn serve<P: Platform>(platform: P, store: Store) -> Result<(), Error<P::Error>> {
    let order = Order::for_size(4096).expect("a ring can have 4 KiB");
    let path = "data/vchan";
    let config = ServerConfig::new(DomId(0), path).rings(order, order);
    let connection = Offer::publish(&platform, &store, &config).await?.accept().await?;
    let (_, mut writer) = connection.split();
    writer.write_all(b"hello").await?;
    connection.close().await
}

async fn listen<P: Platform>(platform: P, store: Store) -> Result<[u8; 5], Error<P::Error>> {
    let config = ClientConfig::new(DomId(1), "data/vchan");
    let connection = connect(&platform, &store, &config).await?;
    let mut message = [0; 5];
    connection.split().0.recv(&mut message).await?;
    connection.close().await?;
    Ok(message)
}

fn main() -> ExitCode {
    let (mut sim, daemon) = (Sim::new(), Xenstored::new());
    daemon.introduce(DomId(1));
    let [(dom0, ours), (guest, theirs)] = [0, 1].map(|domid| {
        let domain = sim.domain(domid);
        let (from, to) = daemon.connect(DomId(domid));
        let (store, driver) = xen_store::connect(from, to);
        sim.spawn(&domain, driver);
        (domain, store)
    });
    let server = sim.spawn(&guest.clone(), serve(guest, theirs));
    let outcome = sim.run(async move {
        let message = listen(dom0, ours).await?;
        server.join().await?;
        Ok::<_, Error<xen_sim::Error>>(message)
    });
    match outcome {
        Ok(message) => println!("{}", String::from_utf8_lossy(&message)),
        Err(error) => {
            eprintln!("vchan: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
