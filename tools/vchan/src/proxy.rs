//! `vchan proxy`: joins a vchan and local connections.

use crate::args::{Dial, Place};
use crate::connect::{dial, find_domain, forward};
use crate::relay::{EndPolicy, Relay, RelayConfig, Transfer};
use crate::serve::{STORE_TIMEOUT, Service, SessionEnd, serve};
use crate::{Failure, ProxyArguments, Session};
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};
use std::future::pending;
use std::time::Duration;
use xen_exec::TaskSet;
use xen_platform::{Platform, sleep};
use xen_vchan::Connection;

/// Seconds that a local connection waits for the server, by default.
const TIMEOUT: u64 = 10;

/// Number of local connections that a client joins with the vchan at a time.
const MAX_CONNECTIONS: usize = 64;

/// Time after which a local connection that takes nothing more of what a client sent that has left
/// is given up.
const STUCK: Duration = Duration::from_secs(10);

/// Interval before another attempt to accept a local connection, after one that failed: for lack of
/// descriptors, say.
const RETRY: Duration = Duration::from_millis(500);

/// The name of both directions of a local connection in messages.
const LOCAL: &str = "the local connection";

/// Joins local connections with the vchan: as a client those for which `open` waits, as a server
/// one for each client, which `open` makes; many at a time. A failure of a connection ends that
/// one, unless it was to be the only one. A request to stop ends a server in good order.
pub async fn proxy<P: Platform, I: Read, O: Write>(
    session: Session<'_, P>,
    args: &ProxyArguments,
    open: impl AsyncFn() -> Result<(I, O), Failure>,
) -> Result<(), Failure> {
    match args.server {
        true => proxy_server(session, args, open).await,
        false => proxy_client(session, args, open).await,
    }
}

async fn proxy_server<P: Platform, I: Read, O: Write>(
    session: Session<'_, P>,
    args: &ProxyArguments,
    open: impl AsyncFn() -> Result<(I, O), Failure>,
) -> Result<(), Failure> {
    let &ProxyArguments { ref place, sizes, once, clients, timeout, verbose, .. } = args;
    let Place { domain, location } = place;
    let until = session.platform.now() + STORE_TIMEOUT;
    let peer = find_domain(session.platform, session.store, domain, until).await?;
    let service = Service { location, sizes, once, clients, timeout, verbose };
    let end = EndPolicy::Drained { stuck: STUCK };
    let config = RelayConfig { end, reaction: None, input: LOCAL, output: LOCAL };
    let serve_client = async |connection: &Connection<P>, transfer: &Transfer| {
        let (input, output) = match open().await {
            Ok(streams) => streams,
            Err(failure) => return SessionEnd::new(Some(Err(failure))),
        };
        let relay = Relay { platform: session.platform, connection, config: &config, transfer };
        SessionEnd::new(session.stop.or(relay.run(input, output, pending())).await)
    };
    serve(session, &service, peer, serve_client).await
}

/// Accepts local connections and joins each with a channel of its own.
async fn proxy_client<P: Platform, I: Read, O: Write>(
    session: Session<'_, P>,
    args: &ProxyArguments,
    open: impl AsyncFn() -> Result<(I, O), Failure>,
) -> Result<(), Failure> {
    // A terminal has one user and no next.
    let once = args.once || args.local.pty;
    if once {
        return join(session, args, open().await?).await;
    }
    let mut joined: TaskSet<'_, Result<(), Failure>> = TaskSet::new();
    loop {
        let free = joined.len() < MAX_CONNECTIONS;
        let accept = async { if free { open().await } else { pending().await } };
        match select(joined.next(), accept).await {
            Either::First(ended) => report_end(session, ended),
            Either::Second(Ok(streams)) => joined.push(join(session, args, streams)),
            Either::Second(Err(failure)) => {
                (session.report)(&failure.to_string());
                if let Either::First(ended) =
                    select(joined.next(), sleep(session.platform, RETRY)).await
                {
                    report_end(session, ended);
                }
            }
        }
    }
}

fn report_end<P>(session: Session<'_, P>, ended: Result<(), Failure>) {
    match ended {
        Err(failure) if !failure.text.is_empty() => (session.report)(&failure.to_string()),
        _ => {}
    }
}

/// Serves one local connection, from the search for the server to the end.
async fn join<P: Platform>(
    session: Session<'_, P>,
    args: &ProxyArguments,
    streams: (impl Read, impl Write),
) -> Result<(), Failure> {
    session.report_if(args.verbose, || "A local connection has come".into());
    let server = Dial { place: args.place.clone(), timeout: args.timeout.unwrap_or(TIMEOUT) };
    let connection = dial(session.platform, session.store, &server).await?;
    let end = args
        .linger
        .map_or(EndPolicy::ByPeer, |linger| EndPolicy::Linger(Duration::from_millis(linger)));
    let reaction = Some(server.timeout());
    let config = RelayConfig { end, reaction, input: LOCAL, output: LOCAL };
    let ended = forward(session, connection, &config, args.verbose, streams).await;
    session.report_if(args.verbose, || "The local connection has ended".into());
    ended
}
