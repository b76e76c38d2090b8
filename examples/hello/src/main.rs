//! Says hello on its console, reads its name in xenstore, and runs until `xl shutdown`.
#![no_std]
#![no_main]

use xen_rt::{Domain, Reason, control};

xen_rt::entry!(main);

async fn main(domain: Domain) -> Reason {
    match domain.store().read_string("name").await {
        Ok(name) => log::info!("hello from {name}"),
        Err(why) => log::warn!("hello from a domain without a name: {why}"),
    }
    control::wait(&domain).await
}
