//! The connection to xenstored, over the ring that the toolstack gave the domain: kept when the
//! domain is restored, and begun anew where xenstored has given it up.

use crate::domain::{Domain, Inner};
use alloc::rc::Rc;
use core::future::poll_fn;
use core::mem::offset_of;
use core::time::Duration;
use embassy_futures::select::{Either3, select3};
use log::{error, info, warn};
use xen_abi::xs_wire::{
    CONNECTED, DomainInterface, RECONNECT, RING_SIZE, SERVER_FEATURE_ERROR,
    SERVER_FEATURE_RECONNECTION,
};
use xen_platform::{Channel, EventCounter, IndexMemory, Platform, RawShared, sleep};
use xen_ring::bytes::Layout;
use xen_ring::stream;
use xen_store::TransportError;

/// Bytes in each of the two rings with xenstored.
const SIZE: u32 = RING_SIZE as u32;
/// The ring to xenstored.
const REQUESTS: Layout = Layout {
    prod: offset_of!(DomainInterface, req_prod),
    cons: offset_of!(DomainInterface, req_cons),
    data: offset_of!(DomainInterface, req),
    size: SIZE,
};
/// The ring from xenstored.
const REPLIES: Layout = Layout {
    prod: offset_of!(DomainInterface, rsp_prod),
    cons: offset_of!(DomainInterface, rsp_cons),
    data: offset_of!(DomainInterface, rsp),
    size: SIZE,
};

/// Time without an owed answer before that is worth a line on the console.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interval between two looks whether xenstored has made a reconnection.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the connection to xenstore: over a new stream whenever the domain was restored or xenstored
/// has made a reconnection.
pub async fn drive(domain: Domain) {
    let Inner { xen, connection, rings, store_channel, store_given_up, .. } = &*domain.0;
    let (mut seen, mut given_up) = (xen.resumes().count(), store_given_up.count());
    loop {
        let page = Rc::new(rings.get().xenstore.page.shared());
        let report = |stalled| stalls(stalled, &page, store_given_up);
        // The restore comes first: what the old stream still would do must not reach the new ring.
        let restored = poll_fn(|cx| xen.resumes().poll_after(&mut seen, cx));
        let noticed = poll_fn(|cx| store_given_up.poll_after(&mut given_up, cx));
        let work = async {
            match stream::split(page.clone(), store_channel.clone(), REPLIES, REQUESTS) {
                Ok((reader, writer)) => connection.run(reader, writer, xen, PATIENCE, report).await,
                Err(corrupt) => TransportError::Read(alloc::format!("{corrupt}")),
            }
        };
        let end = match select3(restored, noticed, work).await {
            Either3::First(()) => continue,
            Either3::Second(()) => TransportError::Ended,
            Either3::Third(end) => end,
        };
        if !can_reconnect(&domain.0) {
            error!("the connection to xenstore ended: {end}");
            return connection.end(end);
        }
        warn!("asking xenstored to begin the connection anew");
        page.store(CONNECTION, RECONNECT);
        store_channel.notify();
        // Nobody promises an event for it.
        while page.load(CONNECTION) != CONNECTED {
            sleep(xen, LOOK).await;
        }
        info!("xenstored has begun the connection anew");
    }
}

/// Returns true if xenstored offers to begin the connection anew.
pub fn can_reconnect(domain: &Inner) -> bool {
    let page = domain.rings.get().xenstore.page.shared();
    page.load(FEATURES) & SERVER_FEATURE_RECONNECTION != 0
}

const FEATURES: usize = offset_of!(DomainInterface, server_features);
const CONNECTION: usize = offset_of!(DomainInterface, connection);
const ERROR: usize = offset_of!(DomainInterface, error);

/// Reports that answers stay out, or come again. Where the page says that xenstored has given the
/// connection up, there is nothing to wait for.
fn stalls(stalled: bool, page: &RawShared, given_up: &EventCounter) {
    let has_error = page.load(FEATURES) & SERVER_FEATURE_ERROR != 0;
    match page.load(ERROR) {
        _ if !stalled => info!("xenstored answers again"),
        error @ 1.. if has_error => {
            warn!("xenstored has given this connection up (XENSTORE_ERROR_* {error}, xs_wire.h)");
            given_up.signal();
        }
        _ => {
            warn!("xenstored has not answered for {} s; waiting until it does", PATIENCE.as_secs())
        }
    }
}
