//! `vchan connect`.

use crate::hexdump::hexdump;
use crate::{Code, ConnectArguments, Failure, domain, relay};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::{DomId, Platform, Time, deadline};
use xen_store::Store;
use xen_vchan::{ClientConfig, Connection};

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
    let until = platform.now() + args.patience();
    let peer = find_domain(platform, store, args, until).await?;
    let config = ClientConfig { peer, path: args.path.clone(), deadline: Some(until) };
    let connection = xen_vchan::connect(platform, store, &config).await?;
    if args.verbose {
        say(&describe(&connection));
    }
    let ended = relay::relay(platform, &connection, input, output, Duration::from_millis(args.linger)).await;
    if args.verbose && ended.is_ok() {
        say("Closing the channel");
    }
    let closed = connection.close().await;
    ended.and(closed.map_err(Failure::from))
}

/// The domain's number; refuses this one.
async fn find_domain<P: Platform>(
    platform: &P,
    store: &Store,
    args: &ConnectArguments,
    until: Time,
) -> Result<DomId, Failure> {
    let peer = deadline(platform, Some(until), domain::resolve(store, &args.domain)).await;
    let peer = peer.map_err(|_| Failure::new(Code::Other, "xenstore does not answer: is xenstored running?"))??;
    if platform.domid() == Some(peer) {
        let text = format!("domain {peer} is this one: a vchan joins two domains, so name the server's (see xl list)");
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
        hexdump(&connection.page()),
        info.local_port,
        info.peer,
    )
}
