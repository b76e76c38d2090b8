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
use xen_vchan::{Connection, Error, Info, Listener, Offer, ServerConfig};

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
    let path = service.place.layout()?.server_path(peer)?;
    let orders = service.sizes.orders();
    let config = ServerConfig { peer, path, left: orders.left(), right: orders.right() };
    let mut door = Door::open(platform, store, &config, service.once).await?;
    let ended = attend(platform, store, &mut door, service, stop, &mut say, &mut session).await;
    let closed = door.close().await;
    ended.and(closed)
}

/// Lets clients in, one after another.
async fn attend<P: Platform>(
    platform: &P,
    store: &Store,
    door: &mut Door<P>,
    service: &Service<'_>,
    stop: &Stop,
    say: &mut impl FnMut(&str),
    session: &mut impl AsyncFnMut(&Connection<P>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    loop {
        if service.verbose {
            say(&door.describe());
        }
        let until = service.timeout.map(|seconds| platform.now() + Duration::from_secs(seconds));
        let connection = match stop.or(deadline(platform, until, door.accept())).await {
            Some(Ok(Ok(connection))) => connection,
            Some(Ok(Err(Error::Peer(error)))) if !service.once => {
                say(&error.to_string());
                continue;
            }
            Some(Ok(Err(error))) => return Err(error.into()),
            Some(Err(_)) => return Err(Failure::new(Code::NoServer, "no client came in time: see --timeout")),
            None => return Ok(()),
        };
        let peer = connection.info().peer;
        if service.verbose {
            say(&format!(
                "A client of domain {peer} has come. The shared page was:\n\n{}",
                hexdump(connection.first_page())
            ));
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

/// Whether there can be another client: not if the domain is gone.
async fn survive(store: &Store, peer: DomId, failure: &Failure) -> Result<(), Failure> {
    match failure.code == Code::Died && !store.is_domain_introduced(peer).await? {
        true => Err(failure.clone()),
        false => Ok(()),
    }
}

/// Where clients come in.
enum Door<P: Platform> {
    /// For one client; empty once it has come.
    Once(Option<Offer<P>>),
    /// For any number. While one is served the next can connect already, and waits.
    Keep(Listener<P>),
}

impl<P: Platform> Door<P> {
    async fn open(platform: &P, store: &Store, config: &ServerConfig, once: bool) -> Result<Self, Error<P::Error>> {
        Ok(match once {
            true => Door::Once(Some(Offer::publish(platform, store, config).await?)),
            false => Door::Keep(Listener::open(platform, store, config).await?),
        })
    }

    /// Waits for the next client. Dropping the future loses none.
    async fn accept(&mut self) -> Result<Connection<P>, Error<P::Error>> {
        match self {
            Door::Once(offer) => {
                offer.as_mut().expect("one client is let in, once").arrival().await?;
                offer.take().expect("it was there").accept().await
            }
            Door::Keep(listener) => listener.accept().await,
        }
    }

    /// What clients find.
    fn describe(&self) -> String {
        let info = match self {
            Door::Once(offer) => offer.as_ref().map(Offer::info),
            Door::Keep(listener) => listener.info(),
        };
        info.map_or_else(|| "Server initializing again".to_string(), |info| {
            let Info { control_ref, port, peer, .. } = info;
            format!(
                "Server initializing: gntref = {control_ref}, evtchn = {port}\nWaiting for a client of domain {peer}"
            )
        })
    }

    /// Removes the keys. Who was let in stays.
    async fn close(self) -> Result<(), Failure> {
        match self {
            Door::Once(Some(offer)) => offer.withdraw().await?,
            Door::Once(None) => {}
            Door::Keep(listener) => listener.close().await?,
        }
        Ok(())
    }
}
