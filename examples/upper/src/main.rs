//! Sends back in capitals what comes over a vchan: `vchan connect upper`.
#![no_std]
#![no_main]
use embedded_io_async::{Read, Write};
use xen_rt::{DomId, Domain, Reason, control};
use xen_vchan::{Listener, ServerConfig};
xen_rt::entry!(main);
async fn main(domain: Domain) -> Reason {
    domain.spawn(serve(domain.clone()));
    control::wait(&domain).await
}
async fn serve(domain: Domain) {
    let config = ServerConfig::new(DomId(0), "data/vchan");
    let mut listener = Listener::open(domain.xen(), domain.store(), &config).await.unwrap();
    log::info!("ready");
    while let Ok(client) = listener.accept().await {
        let (mut reader, mut writer) = client.split();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            buffer[..n].make_ascii_uppercase();
            writer.write_all(&buffer[..n]).await.unwrap_or_else(|why| log::warn!("{why}"));
        }
        client.close().await.unwrap_or_else(|why| log::warn!("{why}"));
    }
}
