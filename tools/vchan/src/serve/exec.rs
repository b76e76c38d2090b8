//! `vchan exec`: a program for each client.

use super::{Service, SessionEnd, for_each_domain, serve};
use crate::relay::{EndPolicy, Relay, RelayConfig, Transfer};
use crate::{Code, ExecArguments, Failure, Session};
use embassy_futures::select::{Either, select};
use embedded_io_async::{Read, Write};
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;
use tools_common::answered;
use xen_platform::{DomId, Platform, deadline};
use xen_store::domains;
use xen_vchan::{Connection, Live, WindowSize};

/// The status that a shell reports for a command that cannot be run.
const CANNOT_RUN: u8 = 127;

/// The client that a program is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its domain.
    pub domain: DomId,
    /// The domain's name, where this domain may know it.
    pub name: Option<String>,
    /// The channel's path in xenstore, as the server has it.
    pub path: String,
    /// The channel's name in the std layout.
    pub port: Option<String>,
    /// The size of its terminal, if it has passed one.
    pub window: Option<WindowSize>,
}

impl Client {
    async fn new<P: Platform>(
        session: Session<'_, P>,
        args: &ExecArguments,
        connection: &Connection<P>,
    ) -> Result<Self, Failure> {
        let (domain, window) = (connection.info().peer, connection.peer_window());
        let location = &args.place.location;
        let path = location.layout()?.server_path(domain)?;
        // Only dom0 may ask. The client is served without a name, too.
        let name = answered(session.platform, domains::name(session.store, domain)).await;
        let port = location.port().map(str::to_string);
        Ok(Client { domain, name: name.ok().flatten(), path, port, window })
    }

    /// Returns the environment variables that describe the client to its program. One without a
    /// value is to be unset.
    pub fn environment(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("VCHAN_PEER_DOMID", Some(self.domain.to_string())),
            ("VCHAN_PEER_NAME", self.name.clone()),
            ("VCHAN_PATH", Some(self.path.clone())),
            ("VCHAN_PORT", self.port.clone()),
        ]
    }
}

/// A program that was started for a client.
pub struct Program<O, I, C> {
    /// Its output.
    pub output: O,
    /// Its input.
    pub input: I,
    /// Its processes.
    pub child: C,
}

/// The processes of a program.
pub trait Child {
    /// Waits for the program to end, and returns its exit status: 128+n if signal n ended it. May
    /// be called again.
    fn wait(&mut self) -> impl Future<Output = Result<u8, Failure>>;
    /// Asks all processes of the program to end, with SIGTERM.
    fn terminate(&mut self);
    /// Kills all processes of the program, with SIGKILL.
    fn kill(&mut self);
    /// Returns a function that resizes the program's terminal, if it has one.
    fn resizer(&self) -> Option<Box<dyn Fn(WindowSize)>> {
        None
    }
}

/// Offers a vchan, and starts a program for each client with `start`. Many clients are served at a
/// time, of one domain or of several. The rest is as for [`listen`](super::listen).
pub async fn exec<P: Platform, O: Read, I: Write, C: Child>(
    session: Session<'_, P>,
    args: &ExecArguments,
    start: impl AsyncFn(&Client) -> Result<Program<O, I, C>, Failure>,
) -> Result<(), Failure> {
    let exec_one =
        async |session: Session<'_, P>, domain| exec_for(session, args, domain, &start).await;
    for_each_domain(session, &args.place, args.once, exec_one).await
}

/// Offers a vchan to one domain, and starts a program for each client.
async fn exec_for<P: Platform, O: Read, I: Write, C: Child>(
    session: Session<'_, P>,
    args: &ExecArguments,
    domain: DomId,
    start: &impl AsyncFn(&Client) -> Result<Program<O, I, C>, Failure>,
) -> Result<(), Failure> {
    let &ExecArguments { ref place, sizes, timeout, verbose, once, clients, .. } = args;
    let location = &place.location;
    let service = Service { location, sizes, once, clients, timeout, verbose };
    let grace = Duration::from_secs(args.grace);
    let config = RelayConfig {
        end: EndPolicy::Drained { stuck: grace },
        reaction: None,
        input: "the command's output",
        output: "the command",
    };
    let serve_client = async |connection: &Connection<P>, transfer: &Transfer| {
        let started = async {
            let client = Client::new(session, args, connection).await?;
            start(&client).await
        };
        let Program { output, input, mut child } = match started.await {
            Ok(program) => program,
            Err(failure) => {
                return SessionEnd { result: Some(Err(failure)), status: Some(CANNOT_RUN) };
            }
        };
        let relay = Relay { platform: session.platform, connection, config: &config, transfer };
        let resizing = follow_window(connection, child.resizer());
        let exited = async { child.wait().await.map_or((), drop) };
        let relaying = async {
            match select(relay.run(output, input, exited), resizing).await {
                Either::First(relayed) => relayed,
            }
        };
        let Some(relayed) = session.stop.or(relaying).await else {
            // The server ends, and says so to its client by cutting the connection off.
            let _ = make_end(session.platform, &mut child, grace).await;
            return SessionEnd::new(None);
        };
        let waiting = end(session.platform, connection, &mut child, grace);
        let Some(status) = session.stop.or(waiting).await else {
            let _ = make_end(session.platform, &mut child, grace).await;
            return SessionEnd::new(None);
        };
        let status = match relayed.and(status) {
            Ok(status) => status,
            Err(failure) => return SessionEnd::new(Some(Err(failure))),
        };
        let result = match status {
            0 => Ok(()),
            status => {
                let name = args.command.first().map(|name| name.to_string_lossy().into_owned());
                let name = name.unwrap_or_default();
                let text = format!("{name} ended with exit status {status}");
                Err(Failure::new(Code::Status(status), text))
            }
        };
        SessionEnd { result: Some(result), status: Some(status) }
    };
    serve(session, &service, domain, serve_client).await
}

/// Gives the program's terminal each new size of its client's.
async fn follow_window<P: Platform>(
    connection: &Connection<P>,
    resize: Option<Box<dyn Fn(WindowSize)>>,
) -> Infallible {
    let Some(resize) = resize else { return pending().await };
    // The client may have passed another one while the program was started.
    let mut known = None;
    loop {
        let size = connection.peer_window_changed(known).await;
        resize(size);
        known = Some(size);
    }
}

/// Waits for the end of a program whose streams have ended: for as long as its client waits for it
/// too, and once the client has left for `grace`, until it is made to end.
async fn end<P: Platform>(
    platform: &P,
    connection: &Connection<P>,
    child: &mut impl Child,
    grace: Duration,
) -> Result<u8, Failure> {
    if connection.can_half_close()
        && connection.state() == Live::Connected
        && let Either::First(status) = select(child.wait(), connection.over()).await
    {
        return status;
    }
    let within = |after| Some(platform.now() + after);
    if connection.state() != Live::Died
        && let Ok(status) = deadline(platform, within(grace), child.wait()).await
    {
        return status;
    }
    make_end(platform, child, grace).await
}

/// Asks a program to end, and kills it if it has not within `grace`.
async fn make_end<P: Platform>(
    platform: &P,
    child: &mut impl Child,
    grace: Duration,
) -> Result<u8, Failure> {
    let within = |after| Some(platform.now() + after);
    child.terminate();
    if let Ok(status) = deadline(platform, within(grace), child.wait()).await {
        return status;
    }
    child.kill();
    child.wait().await
}
