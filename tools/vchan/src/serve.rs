//! Serving clients: the common part of `vchan listen`, `vchan exec` and `vchan proxy --server`.

mod accept;
mod exec;
mod fleet;
mod listener;

pub use exec::{Child, Client, Program, exec};
pub use fleet::{Fleet, Offered, serve_fleet};

use crate::args::{Domains, ListenArguments, Location, RingSizes, ServerPlace};
use crate::connect::find_domain;
use crate::relay::{EndPolicy, Relay, RelayConfig, Transfer};
use crate::{Failure, Session};
use embedded_io_async::{Read, Write};
use listener::Listener;
use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::time::Duration;
use tools_common::answered;
use xen_platform::{DomId, EventCounter, Platform};
use xen_vchan::{Connection, ServerConfig};

/// Time limit for xenstore to find the client's domain.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// The configuration of a server.
pub(crate) struct Service<'a> {
    pub location: &'a Location,
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
    let streams = Lent::new(streams);
    let listen_one =
        async |session: Session<'_, P>, domain| listen_for(session, args, domain, &streams).await;
    for_each_domain(session, &args.place, !args.keep, listen_one).await
}

/// Offers a vchan to one domain, whose clients get `streams` when they are free.
async fn listen_for<P: Platform, I: Read, O: Write>(
    session: Session<'_, P>,
    args: &ListenArguments,
    domain: DomId,
    streams: &Lent<(I, O)>,
) -> Result<(), Failure> {
    let ListenArguments { place, sizes, timeout, verbose, .. } = args;
    let service = Service {
        location: &place.location,
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
    let serve_client = async |connection: &Connection<P>, transfer: &Transfer| {
        let Some((mut input, mut output)) = session.stop.or(streams.borrow()).await else {
            return SessionEnd::new(None);
        };
        let relay = Relay { platform: session.platform, connection, config: &config, transfer };
        let ended = session.stop.or(relay.run(&mut input, &mut output, pending())).await;
        streams.give_back((input, output));
        SessionEnd::new(ended)
    };
    serve(session, &service, domain, serve_client).await
}

/// Runs `serve_one` for the domain of `place`; for several, for each of them whenever it is there.
/// With `once`, the first client of any is the only one.
pub(crate) async fn for_each_domain<P: Platform>(
    session: Session<'_, P>,
    place: &ServerPlace,
    once: bool,
    serve_one: impl AsyncFn(Session<'_, P>, DomId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if let Some(domain) = place.domains.single() {
        let until = session.platform.now() + STORE_TIMEOUT;
        let domain = find_domain(session.platform, session.store, domain, until).await?;
        return serve_one(session, domain).await;
    }
    let service = Rc::new(Only(place.domains.clone()));
    let changes = EventCounter::new();
    let services = || vec![service.clone()];
    let fleet = Fleet { services: &services, changes: &changes, ready: &|| (), once };
    serve_fleet(session, &fleet, async |session: Session<'_, P>, _: &Only, domain| {
        serve_one(session, domain).await
    })
    .await
}

/// The only service of a command.
struct Only(Domains);

impl Offered for Only {
    fn name(&self) -> &str {
        ""
    }

    fn domains(&self) -> &Domains {
        &self.0
    }

    fn is_like(&self, _: &Self) -> bool {
        true
    }
}

/// A value that one borrower has at a time.
struct Lent<T> {
    value: Cell<Option<T>>,
    returned: EventCounter,
}

impl<T> Lent<T> {
    fn new(value: T) -> Self {
        Lent { value: Cell::new(Some(value)), returned: EventCounter::new() }
    }

    /// Waits until it is free, and takes it.
    async fn borrow(&self) -> T {
        loop {
            let mut seen = self.returned.count();
            match self.value.take() {
                Some(value) => return value,
                None => poll_fn(|cx| self.returned.poll_after(&mut seen, cx)).await,
            }
        }
    }

    fn give_back(&self, value: T) {
        self.value.set(Some(value));
        self.returned.signal();
    }
}

/// Offers a vchan to the domain `peer`, and runs `serve_client` for each client, unless the first
/// is to be the only one. A failure of one session is reported and ends that one; the end of the
/// clients' domain ends all. `serve_client` ends by itself once a request to stop has come.
pub(crate) async fn serve<P: Platform>(
    session: Session<'_, P>,
    service: &Service<'_>,
    peer: DomId,
    serve_client: impl AsyncFn(&Connection<P>, &Transfer) -> SessionEnd,
) -> Result<(), Failure> {
    let Session { platform, store, .. } = session;
    let path = service.location.layout()?.server_path(peer)?;
    let orders = service.sizes.orders();
    let config = ServerConfig::new(peer, path).rings(orders.left(), orders.right());
    let opening = Listener::open(platform, store, &config, service.once);
    let mut listener = answered(platform, opening).await?;
    (session.offered)();
    let server = accept::Server { session, service, serve_client: &serve_client };
    let ended = server.run(&mut listener).await;
    let closed = answered(platform, listener.close()).await;
    ended.and(closed)
}
