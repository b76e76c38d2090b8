//! Serving clients: what `vchan listen`, `vchan exec` and `vchan proxy --server` have in common.

mod attend;
mod door;

use crate::args::{ListenArguments, Place, RingSizes};
use crate::ask::answered;
use crate::connect::find_domain;
use crate::relay::{Between, Ending, relay};
use crate::{ExecArguments, Failure, Stop};
use door::Door;
use embedded_io_async::{Read, Write};
use std::cell::Cell;
use std::future::Future;
use std::time::Duration;
use xen_platform::Platform;
use xen_store::Store;
use xen_vchan::{Connection, ServerConfig};

/// How long xenstore may take to tell which domain is meant.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// What is served, and for how long.
pub(crate) struct Service<'a> {
    pub place: &'a Place,
    pub sizes: RingSizes,
    /// End with the first client.
    pub once: bool,
    /// How many clients are served at a time.
    pub clients: usize,
    /// How long to wait for a client while there is none, in seconds.
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
    let service = Service { place, sizes: *sizes, once: !args.keep, clients: 1, timeout: *timeout, verbose: *verbose };
    let streams = Cell::new(Some(streams));
    let ending = args.linger.map_or(Ending::ByPeer, |linger| Ending::Quiet(Duration::from_millis(linger)));
    let between = Between { ending, ..Between::STDIO };
    serve(platform, store, &service, stop, say, async |connection: &Connection<P>| {
        let (mut input, mut output) = streams.take().expect("one client is served at a time");
        let ended = relay(platform, connection, &mut input, &mut output, &between).await;
        streams.set(Some((input, output)));
        ended
    })
    .await
}

/// Offers a vchan, and starts a program for each client with `start`, which gives the program's output and its input,
/// and its end to wait for after both were dropped. Many clients are served at a time. The rest is as for [`listen`].
pub async fn exec<P: Platform, O: Read, I: Write, E: Future<Output = Result<(), Failure>>>(
    platform: &P,
    store: &Store,
    args: &ExecArguments,
    stop: &Stop,
    say: impl FnMut(&str),
    start: impl AsyncFn() -> Result<(O, I, E), Failure>,
) -> Result<(), Failure> {
    let &ExecArguments { ref place, sizes, timeout, verbose, once, clients, .. } = args;
    let service = Service { place, sizes, once, clients, timeout, verbose };
    let ending = Ending::Drained { stuck: Duration::from_secs(args.grace) };
    let between = Between { ending, reaction: None, input: "the command's output", output: "the command" };
    serve(platform, store, &service, stop, say, async |connection: &Connection<P>| {
        let (output, input, end) = start().await?;
        let relayed = relay(platform, connection, output, input, &between).await;
        let ended = end.await;
        relayed.and(ended)
    })
    .await
}

/// Offers a vchan, and runs `session` for each client, unless the first is to be the only one. What goes wrong in one
/// session is told and ends that one; the end of the clients' domain ends all.
pub(crate) async fn serve<P: Platform>(
    platform: &P,
    store: &Store,
    service: &Service<'_>,
    stop: &Stop,
    mut say: impl FnMut(&str),
    session: impl AsyncFn(&Connection<P>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let until = platform.now() + STORE_PATIENCE;
    let peer = find_domain(platform, store, &service.place.domain, until).await?;
    let path = service.place.layout()?.server_path(peer)?;
    let orders = service.sizes.orders();
    let config = ServerConfig { peer, path, left: orders.left(), right: orders.right() };
    let mut door = answered(platform, Door::open(platform, store, &config, service.once)).await?;
    let ended = attend::attend((platform, store), &mut door, service, stop, &mut say, &session).await;
    let closed = answered(platform, door.close()).await;
    ended.and(closed)
}
