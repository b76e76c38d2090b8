//! The capitalizing echo server: serves clients for as long as the domain runs, many at a time.
//!
//! Each client has a channel of its own, so one that breaks the protocol, or never reads, is nobody else's trouble.

use super::capitals::capitalize;
use crate::options::Options;
use crate::xen::{self, Xen};
use alloc::rc::Rc;
use alloc::{format, vec};
use core::fmt;
use core::pin::pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};
use log::{error, info, warn};
use xen_exec::Spawner;
use xen_platform::{Clock, DomId, EventCounter, Platform, deadline, sleep};
use xen_store::{Access, Store};
use xen_vchan::{Connection, Info, Live, Offer, Order, ServerConfig};

type Error = xen_vchan::Error<xen::Error>;

/// Most bytes that are taken from a client at a time.
const CHUNK: usize = 64 * 1024;
/// Most clients at a time: what they take of the domain's memory has a limit.
const MAX_SESSIONS: usize = 64;
/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Serves clients until `stop` is ready, and returns its value; the keys are gone by then, and the channels that are
/// still open are closed with the domain ([`xen::death`]). `ready` is called once the first client can come. Panics if
/// even the first channel cannot be published.
pub async fn serve<T>(
    (xen, store, spawner): (&Xen, &Store, &Spawner),
    options: &Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = T>,
) -> T {
    let config = config(options);
    info!("initializing server: domid={} xs_path={}", config.peer, config.path);
    let mut stop = pin!(stop);
    let mut offer = match Offer::publish(xen, store, &config).await {
        Ok(offer) => offer,
        Err(why) => panic!("the echo server cannot start: {why}"),
    };
    describe(&offer);
    info!("ready: out/vchan connect {}", xen.domid().map_or(0, |own| own.0));
    ready();
    // Counts the sessions that ended; its reference count tells how many there are.
    let sessions = Rc::new(EventCounter::new());
    for number in 1u64.. {
        match select(arrival(xen, store, &config, &mut offer), &mut stop).await {
            Either::First(Ok(())) => {
                let session = session(offer, number, sessions.clone());
                spawner.spawn(session);
            }
            Either::First(Err(why)) => {
                warn!("no client: {why}");
                closed(offer.withdraw().await);
            }
            Either::Second(stopped) => {
                closed(offer.withdraw().await);
                return stopped;
            }
        }
        offer = match select(next_offer(xen, store, &config, &sessions), &mut stop).await {
            Either::First(offer) => offer,
            Either::Second(stopped) => return stopped,
        };
    }
    unreachable!("2^64 clients")
}

/// Publishes the channel for the next client, once there is room for one more, however long the lack of something lasts.
async fn next_offer(xen: &Xen, store: &Store, config: &ServerConfig, sessions: &Rc<EventCounter>) -> Offer<Xen> {
    let mut ended = sessions.count();
    while Rc::strong_count(sessions) > MAX_SESSIONS {
        core::future::poll_fn(|cx| sessions.poll_after(&mut ended, cx)).await;
    }
    loop {
        match Offer::publish(xen, store, config).await {
            Ok(offer) => return offer,
            Err(why) => error!("no channel for the next client, trying again: {why}"),
        }
        sleep(xen, RETRY).await;
    }
}

/// How many clients there are.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// How many clients are connected now.
pub fn clients() -> u32 {
    CLIENTS.load(Ordering::Relaxed)
}

/// Serves the client that has come.
async fn session(offer: Offer<Xen>, number: u64, sessions: Rc<EventCounter>) {
    CLIENTS.fetch_add(1, Ordering::Relaxed);
    match offer.accept().await {
        Ok(connection) => {
            info!("client connected: number {number}, from domain {}", connection.info().peer);
            let mut bytes = 0;
            match echo(&connection, &mut bytes).await {
                Ok(()) => info!("client left: number {number}, {bytes} bytes echoed"),
                Err(why) => warn!("client left: number {number}, {bytes} bytes echoed: {why}"),
            }
            closed(connection.close().await);
        }
        Err(why) => warn!("client {number} could not be accepted: {why}"),
    }
    CLIENTS.fetch_sub(1, Ordering::Relaxed);
    sessions.signal();
}

fn config(options: &Options) -> ServerConfig {
    let order = |size: u32| Order::for_size(size as usize).expect("the options allow only sizes that a ring can have");
    let Options { domid, ref path, left, right, .. } = *options;
    ServerConfig { peer: domid, path: path.clone(), left: order(left), right: order(right) }
}

/// Waits for a client.
///
/// What xenstore was told to permit to a domain that did not exist yet is not permitted to it later (XSA-322), and no
/// guest can learn that another has come. So the permissions are given again every now and then, unless the peer is the
/// one domain that is always there.
async fn arrival(xen: &Xen, store: &Store, config: &ServerConfig, offer: &mut Offer<Xen>) -> Result<(), Error> {
    const DOM0: DomId = DomId(0);
    if config.peer == DOM0 {
        return offer.arrival().await;
    }
    loop {
        if let Ok(came) = deadline(xen, Some(xen.now() + RETRY), offer.arrival()).await {
            return came;
        }
        for key in ["ring-ref", "event-channel"] {
            let key = format!("{}/{key}", config.path);
            let mut permissions = store.permissions(&key).await?;
            permissions.others = vec![(config.peer, Access::Read)];
            store.set_permissions(&key, &permissions).await?;
        }
    }
}

/// Sends everything back in capitals until the client leaves. Counts the bytes sent back.
async fn echo(connection: &Connection<Xen>, echoed: &mut u64) -> Result<(), Error> {
    connection.hold_events(true);
    let (mut reader, mut writer) = connection.split();
    let mut buffer = vec![0; CHUNK.min(connection.info().orders.left().bytes() as usize)];
    loop {
        let n = reader.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        capitalize(&mut buffer[..n]);
        match writer.write_all(&buffer[..n]).await {
            Ok(()) => *echoed += n as u64,
            // It left without waiting for the answer.
            Err(_) if connection.state() == Live::Left => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

fn closed(done: Result<(), Error>) {
    if let Err(why) = done {
        error!("{why}");
    }
}

/// Logs what the seed's server logged.
fn describe(offer: &Offer<Xen>) {
    let Info { control_ref, left_refs, right_refs, port, orders, .. } = offer.info();
    info!("left_order = {}, right_order = {}", orders.left().get(), orders.right().get());
    info!("ring-ref = {control_ref}, event-channel = {port}");
    for gref in left_refs.iter().chain(right_refs) {
        info!("buffer: gntref = {gref}");
    }
    info!("shared page is:\n\n{}\n", Hexdump(&offer.page()));
}

/// Sixteen bytes to a line.
pub(super) struct Hexdump<'a>(pub &'a [u8]);

impl fmt::Display for Hexdump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let before = match i % 16 {
                0 if i == 0 => "",
                0 => "\n",
                _ => " ",
            };
            write!(f, "{before}{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Hexdump;
    use std::string::ToString;

    #[test]
    fn a_dump_breaks_lines_after_sixteen_bytes() {
        let bytes: std::vec::Vec<u8> = (0..18).collect();
        assert_eq!(Hexdump(&bytes).to_string(), "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n10 11");
        assert_eq!(Hexdump(&[]).to_string(), "");
    }
}
