//! `vchan proxy`: joins a vchan and local connections.

use crate::args::Dial;
use crate::connect::dial;
use crate::relay::{Between, Ending, relay};
use crate::serve::{Service, serve};
use crate::{Failure, ProxyArguments, Stop};
use embedded_io_async::{Read, Write};
use std::time::Duration;
use xen_platform::Platform;
use xen_store::Store;
use xen_vchan::Connection;

/// How long a local connection waits for the server, in seconds, unless the user says otherwise.
const TIMEOUT: u64 = 10;

/// How many clients a server connects to the local address at a time.
const CLIENTS: usize = 64;

/// How long a local connection may take nothing more of what a client sent that has left.
const STUCK: Duration = Duration::from_secs(10);

/// What to call both directions of a local connection in errors.
const LOCAL: &str = "the local connection";

/// Joins local connections with the vchan. As a client, one after another, for which `open` waits; as a server, one for
/// each client, which `open` makes, and many at a time. The failure of a connection ends that one, unless it was to be the only one. A request
/// through `stop` ends a server in good order; `say` gets lines for standard error.
pub async fn proxy<P: Platform, I: Read, O: Write>(
    platform: &P,
    store: &Store,
    args: &ProxyArguments,
    stop: &Stop,
    mut say: impl FnMut(&str),
    open: impl AsyncFn() -> Result<(I, O), Failure>,
) -> Result<(), Failure> {
    if args.server {
        let &ProxyArguments { ref place, sizes, once, timeout, verbose, .. } = args;
        let service = Service { place, sizes, once, clients: CLIENTS, timeout, verbose };
        let between = Between { ending: Ending::Drained { stuck: STUCK }, reaction: None, input: LOCAL, output: LOCAL };
        let session = async |connection: &Connection<P>| {
            let (input, output) = open().await?;
            relay(platform, connection, input, output, &between).await
        };
        return serve(platform, store, &service, stop, say, session).await;
    }
    // A terminal has one user and no next.
    let once = args.once || args.door.pty;
    loop {
        let (input, output) = open().await?;
        if args.verbose {
            say("A local connection has come");
        }
        let ended = forward(platform, store, args, input, output).await;
        if args.verbose {
            say("The local connection has ended");
        }
        match ended {
            Err(failure) if !once => say(&failure.to_string()),
            ended if once => return ended,
            _ => {}
        }
    }
}

/// One local connection, from the search for the server to the end.
async fn forward<P: Platform>(
    platform: &P,
    store: &Store,
    args: &ProxyArguments,
    input: impl Read,
    output: impl Write,
) -> Result<(), Failure> {
    let server = Dial { place: args.place.clone(), timeout: args.timeout.unwrap_or(TIMEOUT) };
    let connection = dial(platform, store, &server).await?;
    let ending = Ending::Quiet(Duration::from_millis(args.linger));
    let between = Between { ending, reaction: Some(server.patience()), input: LOCAL, output: LOCAL };
    let ended = relay(platform, &connection, input, output, &between).await;
    let closed = connection.close().await;
    ended.and(closed.map_err(Failure::from))
}
