//! The capitalizing echo server: serves clients for as long as the domain runs, many at a time.
//!
//! Each client has a channel of its own, so one that breaks the protocol, or never reads, is nobody
//! else's trouble.

use crate::capitals::move_in_capitals;
use crate::options::Options;
use alloc::rc::{Rc, Weak};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::pin::pin;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use embassy_futures::select::{Either, Either3, select, select3};
use log::{error, info, warn};
use xen_platform::{Clock, EventCounter, Platform, deadline, sleep};
use xen_rt::xen::{self, Xen};
use xen_rt::{Domain, Reason};
use xen_store::Store;
use xen_vchan::{Connection, Info, Live, Offer, Order, ServerConfig};

type Error = xen_vchan::Error<xen::Error>;

/// Maximum number of bytes that are sent back to a client at a time: it goes on meanwhile.
const CHUNK: usize = 64 * 1024;
/// Maximum number of clients at a time, so that their memory has a limit.
const MAX_SESSIONS: usize = 64;
/// Pause before a failed attempt is repeated.
const RETRY: Duration = Duration::from_secs(1);

/// Time for the clients' channels to be closed before the domain ends; those that are still open
/// then are cut off (`xen_rt::xen::death`).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The sessions: the reference count tells how many there are.
#[derive(Default)]
struct Sessions {
    /// Counts those that ended.
    ended: EventCounter,
    /// The order to end, of each session: with one for all, the wakers of those that ended would
    /// stay.
    stops: RefCell<Vec<Weak<EventCounter>>>,
}

impl Sessions {
    /// Returns the order to end for a new session.
    fn add(&self) -> Rc<EventCounter> {
        let stop = Rc::new(EventCounter::new());
        self.stops.borrow_mut().push(Rc::downgrade(&stop));
        stop
    }

    /// Forgets the orders of sessions that have ended.
    fn prune(&self) {
        self.stops.borrow_mut().retain(|stop| stop.strong_count() > 0);
    }
}

/// Serves clients until `stop` is ready, and returns its value; the keys are gone by then. The
/// channels are closed in good order if the domain is powered off. Before a reboot they are cut off
/// with the domain, for that is no end: a client may follow it (`vchan connect --reconnect`).
/// `ready` is called once the first client can come. Panics if even the first channel cannot be
/// published.
pub async fn serve(
    domain: &Domain,
    options: &Options,
    ready: impl FnOnce(),
    stop: impl Future<Output = Reason>,
) -> Reason {
    let (xen, store) = (domain.xen(), domain.store());
    let config = config(options);
    info!("initializing server: domid={} xs_path={}", config.peer, config.path);
    let mut stop = pin!(stop);
    let mut resumes = xen.resumes().count();
    let mut offer = match Offer::publish(xen, store, &config).await {
        Ok(offer) => offer,
        Err(why) => panic!("the echo server cannot start: {why}"),
    };
    describe(&offer);
    info!("ready: out/vchan connect {}", xen.domid().map_or(0, |own| own.0));
    ready();
    let sessions = Rc::new(Sessions::default());
    let mut number = 0;
    let stopped = loop {
        number += 1;
        let event = select3(offer.arrival(), restored(xen, resumes), &mut stop).await;
        let was_restored = matches!(event, Either3::Second(()));
        match event {
            Either3::First(Ok(())) => {
                domain.spawn(session(offer, number, sessions.clone()));
            }
            Either3::First(Err(why)) => {
                warn!("no client: {why}");
                closed(offer.withdraw().await);
            }
            // Its keys went with the old domain.
            Either3::Second(()) => drop(offer),
            Either3::Third(stopped) => {
                closed(offer.withdraw().await);
                break stopped;
            }
        }
        resumes = xen.resumes().count();
        offer = match select(next_offer(xen, store, &config, &sessions), &mut stop).await {
            Either::First(offer) => offer,
            Either::Second(stopped) => break stopped,
        };
        if was_restored {
            let own = xen.domid().map_or(0, |own| own.0);
            info!("published again: out/vchan connect {own}");
        }
    };
    if stopped == Reason::Poweroff {
        close_all(xen, &sessions).await;
    }
    stopped
}

/// Closes all channels in good order: their clients see an end, and not a cut.
async fn close_all(xen: &Xen, sessions: &Rc<Sessions>) {
    sessions.stops.borrow().iter().filter_map(Weak::upgrade).for_each(|stop| stop.signal());
    // A client that takes too long is cut off.
    let _ = deadline(xen, Some(xen.now() + CLOSE_TIMEOUT), until_left(sessions, 1)).await;
}

/// Waits until no more than `references` to the sessions are left.
async fn until_left(sessions: &Rc<Sessions>, references: usize) {
    let mut ended = sessions.ended.count();
    while Rc::strong_count(sessions) > references {
        core::future::poll_fn(|cx| sessions.ended.poll_after(&mut ended, cx)).await;
    }
}

/// Waits until the domain was restored once more than `resumes` times.
async fn restored(xen: &Xen, mut resumes: u32) {
    core::future::poll_fn(|cx| xen.resumes().poll_after(&mut resumes, cx)).await
}

/// Publishes the channel for the next client, once there is room for one more, however long the
/// lack of something lasts.
async fn next_offer(
    xen: &Xen,
    store: &Store,
    config: &ServerConfig,
    sessions: &Rc<Sessions>,
) -> Offer<Xen> {
    until_left(sessions, MAX_SESSIONS).await;
    let mut logged = String::new();
    loop {
        match Offer::publish(xen, store, config).await.map_err(|why| why.to_string()) {
            Ok(offer) => return offer,
            Err(why) if why == logged => {}
            Err(why) => {
                error!("no channel for the next client, trying again until there is: {why}");
                logged = why;
            }
        }
        sleep(xen, RETRY).await;
    }
}

/// Number of connected clients.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// Returns the number of clients that are connected now.
pub fn clients() -> u32 {
    CLIENTS.load(Ordering::Relaxed)
}

/// Serves the client that has come.
async fn session(offer: Offer<Xen>, number: u64, sessions: Rc<Sessions>) {
    CLIENTS.fetch_add(1, Ordering::Relaxed);
    let stop = sessions.add();
    match offer.accept().await {
        Ok(connection) => {
            info!("client connected: number {number}, from domain {}", connection.info().peer);
            let mut bytes = 0;
            match echo(&connection, &stop, &mut bytes).await {
                Ok(()) => info!("client left: number {number}, {bytes} bytes echoed"),
                Err(why) => warn!("client left: number {number}, {bytes} bytes echoed: {why}"),
            }
            closed(connection.close().await);
        }
        Err(why) => warn!("client {number} could not be accepted: {why}"),
    }
    CLIENTS.fetch_sub(1, Ordering::Relaxed);
    drop(stop);
    sessions.prune();
    sessions.ended.signal();
}

fn config(options: &Options) -> ServerConfig {
    let order = |size: u32| {
        Order::for_size(size as usize).expect("the options allow only sizes that a ring can have")
    };
    let Options { domid, ref path, left, right, .. } = *options;
    ServerConfig::new(domid, path.clone()).rings(order(left), order(right))
}

/// Sends everything back in capitals until the client leaves, or `stop` counts an order to end and
/// nothing is left to be sent back. Counts the bytes sent back.
async fn echo(
    connection: &Connection<Xen>,
    stop: &EventCounter,
    echoed: &mut u64,
) -> Result<(), Error> {
    let mut seen = 0;
    loop {
        let stopped = core::future::poll_fn(|cx| stop.poll_after(&mut seen, cx));
        let some = match select(connection.readable(), stopped).await {
            Either::First(readable) => readable? > 0,
            Either::Second(()) => false,
        };
        if !some {
            return Ok(());
        }
        match connection.echo(CHUNK, move_in_capitals).await {
            Ok(n) => *echoed += n as u64,
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
pub struct Hexdump<'a>(pub &'a [u8]);

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
        assert_eq!(
            Hexdump(&bytes).to_string(),
            "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f\n10 11"
        );
        assert_eq!(Hexdump(&[]).to_string(), "");
    }
}
