//! `vchan connect`, and how every client finds its server.

use crate::args::{Dial, DomainArgument, Place};
use crate::ask::answered_until;
use crate::hexdump::hexdump;
use crate::relay::{Between, Ending, relay};
use crate::{Code, ConnectArguments, Failure, domain};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::{DomId, Platform, Time};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection, Error};

/// Finds the server, connects to it, and copies both ways until one side is done: see the exit codes for what that
/// means. `say` gets lines for standard error. Dropping the future closes the channel in good order.
pub async fn connect<P: Platform>(
    platform: &P,
    store: &Store,
    args: &ConnectArguments,
    input: impl Read,
    output: impl Write,
    mut say: impl FnMut(&str),
) -> Result<(), Failure> {
    let connection = dial(platform, store, &args.dial).await?;
    if args.verbose {
        say(&describe(&connection));
    }
    let ending = Ending::Quiet(Duration::from_millis(args.linger));
    let between = Between { ending, reaction: Some(args.dial.patience()), ..Between::STDIO };
    let ended = relay(platform, &connection, input, output, &between).await;
    if args.verbose && ended.is_ok() {
        say("Closing the channel");
    }
    let closed = connection.close().await;
    ended.and(closed.map_err(Failure::from))
}

/// Finds the server and connects to it.
pub(crate) async fn dial<P: Platform>(platform: &P, store: &Store, args: &Dial) -> Result<Connection<P>, Failure> {
    let until = platform.now() + args.patience();
    let peer = find_domain(platform, store, &args.place.domain, until).await?;
    let path = path_of_client(platform, store, &args.place, peer).await?;
    let config = ClientConfig { peer, path, deadline: Some(until) };
    xen_vchan::connect(platform, store, &config).await.map_err(|error| match error {
        // To a guest, keys that are not there and keys that are not for it look alike.
        Error::Store(error) if domain::is_refusal(&error) => {
            Failure::new(Code::NoServer, format!("no vchan is offered to this domain at {}: {error}", config.path))
        }
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
    Ok(place.layout()?.client_path(server, xen_vchan::own_domid(platform, store).await?)?)
}

/// The domain's number; refuses this one.
pub(crate) async fn find_domain<P: Platform>(
    platform: &P,
    store: &Store,
    domain: &DomainArgument,
    until: Time,
) -> Result<DomId, Failure> {
    let peer = answered_until(platform, until, domain::resolve(store, domain)).await?;
    if platform.domid() == Some(peer) {
        let text = format!("domain {peer} is this one: a vchan joins two domains, so name the other's (see xl list)");
        return Err(Failure::new(Code::Usage, text));
    }
    Ok(peer)
}

/// How the channel was made.
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
