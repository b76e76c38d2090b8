//! `vchan connect`, and how every client finds its server.

mod keyboard;
mod raw;
mod reconnect;

pub use raw::{Terminal, connect_raw};

use crate::args::{Dial, DomainArgument, Place};
use crate::relay::{EndPolicy, Relay, RelayConfig, Transfer};
use crate::{Code, ConnectArguments, Failure, Session};
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};
use std::future::pending;
use std::time::Duration;
use tools_common::{answered_until, hexdump, is_refusal, resolve_domain};
use xen_platform::{DomId, Platform, Time};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Error, Live, WindowSize};

/// Finds the server, connects to it, and copies both ways until both directions have ended or the
/// server has closed the channel: see the exit codes for the results. Dropping the future cuts the
/// connection off.
pub async fn connect<P: Platform>(
    session: Session<'_, P>,
    args: &ConnectArguments,
    input: impl Read,
    output: impl Write,
) -> Result<(), Failure> {
    let end = args
        .linger
        .map_or(EndPolicy::ByPeer, |linger| EndPolicy::Linger(Duration::from_millis(linger)));
    let config = RelayConfig::stdio(end, Some(args.dial.timeout()));
    let connection = dial(session.platform, session.store, &args.dial).await?;
    session.report_if(args.verbose, || describe(&connection));
    match args.reconnect {
        None => forward(session, connection, &config, args.verbose, (input, output)).await,
        Some(seconds) => {
            let within = Duration::from_secs(seconds);
            reconnect::follow(session, args, (connection, &config), within, (input, output)).await
        }
    }
}

/// The end of one connection.
struct Forwarded {
    result: Result<(), Failure>,
    /// The server died, or left without a word on the end of its output.
    cut_off: bool,
    /// Number of bytes that were sent, or read from the input, and that the server did not take.
    lost: u64,
}

/// Joins a connection to a server with two local streams, to the end. The status that a server
/// left is the result.
pub(crate) async fn forward<P: Platform>(
    session: Session<'_, P>,
    connection: Connection<P>,
    config: &RelayConfig,
    verbose: bool,
    streams: (impl Read, impl Write),
) -> Result<(), Failure> {
    let nothing = async |_: &_| pending().await;
    forward_once(session, connection, config, verbose, streams, nothing).await.result
}

/// As [`forward`], with `beside` while it lasts, whose end cuts the connection off.
async fn forward_once<P: Platform>(
    session: Session<'_, P>,
    connection: Connection<P>,
    config: &RelayConfig,
    verbose: bool,
    (input, output): (impl Read, impl Write),
    beside: impl AsyncFnOnce(&Connection<P>),
) -> Forwarded {
    let transfer = Transfer::default();
    let relay =
        Relay { platform: session.platform, connection: &connection, config, transfer: &transfer };
    let relaying = relay.run(input, output, pending());
    let (ended, was_left) = match select(relaying, beside(&connection)).await {
        Either::First(ended) => (ended, false),
        Either::Second(()) => (Ok(()), true),
    };
    session.report_if(verbose, || transfer.summary(&connection));
    let status = connection.peer_status().unwrap_or(0);
    let cut_off = match connection.state() {
        Live::Died => true,
        Live::Left => !connection.can_half_close(),
        _ => false,
    };
    let lost = transfer.not_taken(&connection);
    let closed = match ended {
        Ok(()) if !was_left => connection.close().await,
        // What was sent may not be all: no end is announced for it.
        _ => connection.abort().await,
    };
    let result = closed.map_err(Failure::from).and(ended).and_then(|()| match status {
        0 => Ok(()),
        status => {
            session.report_if(verbose, || format!("The server's command ended with {status}"));
            Err(Failure::new(Code::Status(status), ""))
        }
    });
    Forwarded { result, cut_off, lost }
}

/// Finds the server and connects to it.
pub(crate) async fn dial<P: Platform>(
    platform: &P,
    store: &Store,
    args: &Dial,
) -> Result<Connection<P>, Failure> {
    dial_with(platform, store, args, None).await
}

/// As [`dial`], with the size of the user's terminal.
async fn dial_with<P: Platform>(
    platform: &P,
    store: &Store,
    args: &Dial,
    window: Option<WindowSize>,
) -> Result<Connection<P>, Failure> {
    let until = platform.now() + args.timeout();
    let peer = find_domain(platform, store, &args.place.domain, until).await?;
    let path = path_of_client(platform, store, &args.place, peer).await?;
    let config = ClientConfig::new(peer, path).deadline(Some(until)).window(window);
    xen_vchan::connect(platform, store, &config).await.map_err(|error| match error {
        // To a guest, keys that are not there and keys that are not for it look alike.
        Error::Store(error) if is_refusal(&error) => Failure::new(
            Code::Missing,
            format!("no vchan is offered to this domain at {}: {error}", config.path),
        ),
        error => error.into(),
    })
}

/// The folder in which `server` publishes its channel for this domain.
pub(crate) async fn path_of_client<P: Platform>(
    platform: &P,
    store: &Store,
    place: &Place,
    server: DomId,
) -> Result<String, Failure> {
    Ok(place
        .location
        .layout()?
        .client_path(server, xen_vchan::own_domid(platform, store).await?)?)
}

/// The domain's number; refuses this one.
pub(crate) async fn find_domain<P: Platform>(
    platform: &P,
    store: &Store,
    domain: &DomainArgument,
    until: Time,
) -> Result<DomId, Failure> {
    let peer = answered_until(platform, until, resolve_domain(store, domain)).await?;
    if platform.domid() == Some(peer) {
        let text = format!(
            "domain {peer} is this one: a vchan joins two domains, so name the other's (see xl list)"
        );
        return Err(Failure::new(Code::Usage, text));
    }
    Ok(peer)
}

/// Reports how the channel was made.
fn describe<P: Platform>(connection: &Connection<P>) -> String {
    let info = connection.info();
    format!(
        "Client initializing: Received gntref = {}, evtchn = {}\nMapped the ring shared page:\n\n{}\n\
         Correctly bound evtchn number {}\nConnected to domain {}",
        info.control_ref,
        info.port,
        hexdump(connection.first_page()),
        info.local_port,
        info.peer,
    )
}
