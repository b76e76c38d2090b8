//! Opens an end on Linux.

use crate::{End, Fault};
use std::time::Duration;
use xen_exec::Executor;
use xen_linux::{Linux, open_store_with};
use xen_platform::{Clock, DomId, Platform, deadline};
use xen_store::{Store, path};
use xen_vchan::{ClientConfig, Connection, Offer, Orders, ServerConfig};

/// Time limit for everything that xenstore has to do.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes a channel for `client` under `path`, with rings of at least these sizes, and returns
/// its server.
pub fn serve(client: DomId, path: &str, left: usize, right: usize) -> Result<End<Linux>, Fault> {
    let orders = Orders::for_sizes(left, right).ok_or_else(|| {
        let text = format!("rings of {left} and {right} bytes: a ring has at most 1 MiB");
        Fault::new(libc::EINVAL, text)
    })?;
    let config =
        ServerConfig::new(client, path).rings(orders.left(), orders.right()).without_half_close();
    open(async move |linux: Linux, store: Store| {
        let offer = Offer::publish(&linux, &store, &config).await?;
        Ok(offer.into_connection())
    })
}

/// Connects to the server that `server` has published under `path`, if there is one now.
pub fn connect(server: DomId, path: &str) -> Result<End<Linux>, Fault> {
    let name = path.to_string();
    open(async move |linux: Linux, store: Store| {
        // As for Xen's library, a relative path is below the folder of this domain.
        let dir = match linux.domid() {
            Some(own) if !name.starts_with('/') => format!("{}/{name}", path::of_domain(own)),
            _ => name,
        };
        let until = linux.now() + TIMEOUT;
        let config = ClientConfig::new(server, dir)
            .deadline(Some(until))
            .without_waiting()
            .without_half_close();
        Ok(xen_vchan::connect(&linux, &store, &config).await?)
    })
}

/// Connects to xenstore, and opens an end with it by `work`.
fn open(
    work: impl AsyncFnOnce(Linux, Store) -> Result<Connection<Linux>, Fault> + 'static,
) -> Result<End<Linux>, Fault> {
    let (linux, mut executor) = (Linux::new(), Executor::new());
    let (host, spawner) = (linux.clone(), executor.spawner());
    let opening = async move {
        let store = open_store_with(&host, |driver| drop(spawner.spawn(driver))).await?;
        let clock = host.clone();
        let until = Some(clock.now() + 2 * TIMEOUT);
        let opened = deadline(&clock, until, work(host, store)).await;
        opened.unwrap_or_else(|_| Err(Fault::new(libc::ETIMEDOUT, "xenstore does not answer")))
    };
    let connection = executor.run(opening, |turn| linux.turn(turn))?;
    // Made here, where it can fail.
    linux.descriptor()?;
    let platform = linux.clone();
    let yields = linux.clone();
    Ok(End::new(
        linux,
        executor,
        connection,
        move || platform.dispatch(),
        move || yields.yield_processor(),
    ))
}
