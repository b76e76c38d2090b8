//! `vchan connect --raw`: the user's terminal as that of the server's command.
//!
//! ```text
//!   keyboard ──> Keyboard::watch ──> buffer ──> relay ──> server      the escape key ends it
//!   size, and each change of it ─────────────────────────> server
//! ```

use super::keyboard::Keyboard;
use super::{describe, dial_with, forward_once};
use crate::relay::{EndPolicy, RelayConfig};
use crate::{ConnectArguments, Failure, Session};
use embassy_futures::select::select;
use embedded_io_async::{Read, Write};
use std::convert::Infallible;
use xen_platform::Platform;
use xen_vchan::{Connection, WindowSize};

/// The terminal at which the user sits.
pub trait Terminal {
    /// Keeps the terminal in raw mode; dropping it gives the mode from before back.
    type Raw;
    /// Puts it into raw mode.
    fn make_raw(&self) -> Result<Self::Raw, Failure>;
    /// Returns its size; `None` if it is not known.
    fn size(&self) -> Option<WindowSize>;
    /// Waits for the next change of its size.
    fn resized(&self) -> impl Future<Output = ()>;
}

/// As [`connect`](super::connect), with a terminal in raw mode behind `input` and `output`, whose
/// size the server learns. The escape key cuts the connection off and is a success.
pub async fn connect_raw<P: Platform>(
    session: Session<'_, P>,
    args: &ConnectArguments,
    terminal: &impl Terminal,
    input: impl Read,
    output: impl Write,
) -> Result<(), Failure> {
    let config = RelayConfig::stdio(EndPolicy::ByPeer, Some(args.dial.timeout()));
    let window = terminal.size();
    let connection = dial_with(session.platform, session.store, &args.dial, window).await?;
    session.report_if(args.verbose, || describe(&connection));
    let keyboard = Keyboard::new(args.escape.0);
    let raw = terminal.make_raw()?;
    let beside = async |connection: &Connection<P>| {
        let watching = keyboard.watch(input);
        select(watching, pass_size(connection, terminal, window)).await;
    };
    let streams = (keyboard.typed(), output);
    let forwarded = forward_once(session, connection, &config, args.verbose, streams, beside).await;
    drop(raw);
    forwarded.result
}

/// Passes each new size of the terminal to the server.
async fn pass_size<P: Platform>(
    connection: &Connection<P>,
    terminal: &impl Terminal,
    mut known: Option<WindowSize>,
) -> Infallible {
    loop {
        // It may have changed since the connection was made.
        let size = terminal.size();
        if let Some(size) = size.filter(|_| size != known) {
            connection.set_window(size);
        }
        known = size;
        terminal.resized().await;
    }
}
