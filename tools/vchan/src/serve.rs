//! Serving clients: what `vchan listen`, `vchan exec` and `vchan proxy --server` have in common.

use crate::args::{ListenArguments, Place, RingSizes};
use crate::connect::find_domain;
use crate::hexdump::hexdump;
use crate::relay::{Between, Ending, relay};
use crate::{Code, ExecArguments, Failure, Stop};
use embedded_io_async::{Read, Write};
use std::future::Future;
use std::time::Duration;
use xen_platform::{DomId, Platform, deadline};
use xen_store::Store;
use xen_vchan::{Connection, Offer, ServerConfig};

/// How long xenstore may take to tell which domain is meant.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// What is served, and for how long.
pub(crate) struct Service<'a> {
    pub place: &'a Place,
    pub sizes: RingSizes,
    /// End with the first client.
    pub once: bool,
    /// How long to wait for each client, in seconds.
    pub timeout: Option<u64>,
    pub verbose: bool,
}

/// Offers a vchan, and joins it with `input` and `output` once a client is there. The keys are removed at the end; a
/// request through `stop` ends it well at any time. `say` gets lines for standard error.
pub async fn listen<P: Platform>(
    platform: &P,
    store: &Store,
    args: &ListenArguments,
    streams: (impl Read, impl Write),
    stop: &Stop,
    say: impl FnMut(&str),
) -> Result<(), Failure> {
    let ListenArguments { place, sizes, timeout, verbose, .. } = args;
    let service = Service { place, sizes: *sizes, once: !args.keep, timeout: *timeout, verbose: *verbose };
    let (mut input, mut output) = streams;
    let ending = args.linger.map_or(Ending::ByPeer, |linger| Ending::Quiet(Duration::from_millis(linger)));
    let between = Between { ending, ..Between::STDIO };
    serve(platform, store, &service, stop, say, async |connection: &Connection<P>| {
        relay(platform, connection, &mut input, &mut output, &between).await
    })
    .await
}

/// Offers a vchan, and starts a program for each client with `start`, which gives the program's output and its input,
/// and its end to wait for after both were dropped. The rest is as for [`listen`].
pub async fn exec<P: Platform, O: Read, I: Write, E: Future<Output = Result<(), Failure>>>(
    platform: &P,
    store: &Store,
    args: &ExecArguments,
    stop: &Stop,
    say: impl FnMut(&str),
    mut start: impl AsyncFnMut() -> Result<(O, I, E), Failure>,
) -> Result<(), Failure> {
    let ExecArguments { place, sizes, timeout, verbose, once, .. } = args;
    let service = Service { place, sizes: *sizes, once: *once, timeout: *timeout, verbose: *verbose };
    let between = Between { ending: Ending::Drained, input: "the command's output", output: "the command" };
    serve(platform, store, &service, stop, say, async |connection: &Connection<P>| {
        let (output, input, end) = start().await?;
        let relayed = relay(platform, connection, output, input, &between).await;
        let ended = end.await;
        relayed.and(ended)
    })
    .await
}

/// Offers a vchan, runs `session` for its client, and offers the next unless it is to be the only one. What goes wrong
/// in one session is told and ends that one; the end of the client's domain ends all.
pub(crate) async fn serve<P: Platform>(
    platform: &P,
    store: &Store,
    service: &Service<'_>,
    stop: &Stop,
    mut say: impl FnMut(&str),
    mut session: impl AsyncFnMut(&Connection<P>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let until = platform.now() + STORE_PATIENCE;
    let peer = find_domain(platform, store, &service.place.domain, until).await?;
    let orders = service.sizes.orders();
    let config = ServerConfig { peer, path: service.place.path(peer)?, left: orders.left(), right: orders.right() };
    loop {
        let Some(connection) = accept(platform, store, &config, service, stop, &mut say).await? else { return Ok(()) };
        if service.verbose {
            say(&format!("A client of domain {peer} has come"));
        }
        let ended = stop.or(session(&connection)).await;
        let closed = connection.close().await;
        let Some(ended) = ended else { return Ok(closed?) };
        if service.verbose {
            say(&format!("The client of domain {peer} has left"));
        }
        if service.once {
            return ended.and(closed.map_err(Failure::from));
        }
        closed?;
        if let Err(failure) = ended {
            survive(store, peer, &failure).await?;
            say(&failure.to_string());
        }
    }
}

/// Publishes the channel and waits for its client; `None` if it is to stop. The keys are gone unless a client has come.
async fn accept<P: Platform>(
    platform: &P,
    store: &Store,
    config: &ServerConfig,
    service: &Service<'_>,
    stop: &Stop,
    say: &mut impl FnMut(&str),
) -> Result<Option<Connection<P>>, Failure> {
    let mut offer = Offer::publish(platform, store, config).await?;
    if service.verbose {
        say(&describe(&offer));
    }
    let until = service.timeout.map(|seconds| platform.now() + Duration::from_secs(seconds));
    let came = match stop.or(deadline(platform, until, offer.arrival())).await {
        Some(Ok(Ok(()))) => return Ok(Some(offer.accept().await?)),
        Some(Ok(Err(error))) => Err(error.into()),
        Some(Err(_)) => {
            let text = format!("no client in domain {} came to {} in time", config.peer, config.path);
            Err(Failure::new(Code::NoServer, text))
        }
        None => Ok(None),
    };
    let withdrawn = offer.withdraw().await;
    came.and_then(|none| withdrawn.map(|()| none).map_err(Failure::from))
}

/// Whether there can be another client: not if the domain is gone.
async fn survive(store: &Store, peer: DomId, failure: &Failure) -> Result<(), Failure> {
    match failure.code == Code::Died && !store.is_domain_introduced(peer).await? {
        true => Err(failure.clone()),
        false => Ok(()),
    }
}

/// How the channel was made.
fn describe<P: Platform>(offer: &Offer<P>) -> String {
    let info = offer.info();
    format!(
        "Server initializing: gntref = {}, evtchn = {}\nThe shared page:\n\n{}\nWaiting for a client of domain {}",
        info.control_ref,
        info.port,
        hexdump(&offer.page()),
        info.peer,
    )
}
