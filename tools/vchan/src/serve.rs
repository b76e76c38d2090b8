//! Serving clients: the common part of `vchan listen`, `vchan exec` and `vchan proxy --server`.

mod accept;
mod exec;
mod listener;

pub use exec::{Child, Client, Program, exec};

use crate::args::{ListenArguments, Place, RingSizes};
use crate::connect::find_domain;
use crate::relay::{EndPolicy, Relay, RelayConfig, Transfer};
use crate::{Failure, Session};
use embedded_io_async::{Read, Write};
use listener::Listener;
use std::cell::Cell;
use std::future::pending;
use std::time::Duration;
use tools_common::answered;
use xen_platform::Platform;
use xen_vchan::{Connection, ServerConfig};

/// Time limit for xenstore to find the client's domain.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The configuration of a server.
pub(crate) struct Service<'a> {
    pub place: &'a Place,
    pub sizes: RingSizes,
    /// End with the first client.
    pub once: bool,
    /// Number of clients that are served at a time.
    pub clients: usize,
    /// Seconds to wait for a client while there is none.
    pub timeout: Option<u64>,
    pub verbose: bool,
}

/// The end of one client's session.
pub(crate) struct SessionEnd {
    /// `None` if a request to stop ended it.
    pub result: Option<Result<(), Failure>>,
    /// The status to leave for the client.
    pub status: Option<u8>,
}

impl SessionEnd {
    /// The end of a session without a command.
    pub fn new(result: Option<Result<(), Failure>>) -> Self {
        SessionEnd { result, status: None }
    }
}

/// Offers a vchan, and joins it with `input` and `output` once a client is there. The keys are
/// removed at the end; a request to stop ends it well at any time.
pub async fn listen<P: Platform>(
    session: Session<'_, P>,
    args: &ListenArguments,
    streams: (impl Read, impl Write),
) -> Result<(), Failure> {
    let ListenArguments { place, sizes, timeout, verbose, .. } = args;
    let service = Service {
        place,
        sizes: *sizes,
        once: !args.keep,
        clients: 1,
        timeout: *timeout,
        verbose: *verbose,
    };
    let end = args
        .linger
        .map_or(EndPolicy::ByPeer, |linger| EndPolicy::Linger(Duration::from_millis(linger)));
    let config = RelayConfig::stdio(end, None);
    let streams = Cell::new(Some(streams));
    let serve_client = async |connection: &Connection<P>, transfer: &Transfer| {
        let (mut input, mut output) = streams.take().expect("one client is served at a time");
        let relay = Relay { platform: session.platform, connection, config: &config, transfer };
        let ended = session.stop.or(relay.run(&mut input, &mut output, pending())).await;
        streams.set(Some((input, output)));
        SessionEnd::new(ended)
    };
    serve(session, &service, serve_client).await
}

/// Offers a vchan, and runs `serve_client` for each client, unless the first is to be the only one.
/// A failure of one session is reported and ends that one; the end of the clients' domain ends all.
/// `serve_client` ends by itself once a request to stop has come.
pub(crate) async fn serve<P: Platform>(
    session: Session<'_, P>,
    service: &Service<'_>,
    serve_client: impl AsyncFn(&Connection<P>, &Transfer) -> SessionEnd,
) -> Result<(), Failure> {
    let Session { platform, store, .. } = session;
    let until = platform.now() + STORE_TIMEOUT;
    let peer = find_domain(platform, store, &service.place.domain, until).await?;
    let path = service.place.layout()?.server_path(peer)?;
    let orders = service.sizes.orders();
    let config = ServerConfig::new(peer, path).rings(orders.left(), orders.right());
    let opening = Listener::open(platform, store, &config, service.once);
    let mut listener = answered(platform, opening).await?;
    let server = accept::Server { session, service, serve_client: &serve_client };
    let ended = server.run(&mut listener).await;
    let closed = answered(platform, listener.close()).await;
    ended.and(closed)
}
