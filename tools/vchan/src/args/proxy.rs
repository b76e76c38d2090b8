//! `vchan proxy`.

use super::{Place, RingSizes, after_help};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "  \
  vchan proxy 2 --unix /run/echo.sock      who connects to the socket talks to domain 2
  vchan proxy 2 --tcp 127.0.0.1:7000       the same over TCP, for this machine only
  vchan proxy 2 --pty                      a terminal whose other end is domain 2; its name is printed
  vchan proxy 2 --server --tcp 127.0.0.1:22
                                           clients in domain 2 reach the local ssh server

A server's channel is joined with local connections one after another, and the next waits until the last has ended.
With --server each client has a local connection of its own, many at a time.";

/// The arguments of `vchan proxy`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ProxyArguments {
    /// The other domain.
    #[command(flatten)]
    pub place: Place,

    /// The local side.
    #[command(flatten)]
    pub door: Door,

    /// Offer the vchan to clients in the domain, and connect each of them to the local address.
    #[arg(long, conflicts_with = "pty")]
    pub server: bool,

    /// The rings, with --server.
    #[command(flatten)]
    pub sizes: RingSizes,

    /// End when the first connection has ended, with its exit code.
    #[arg(long)]
    pub once: bool,

    /// How long each connection waits for the server to appear, and for its first sign of life; with --server, how long
    /// to wait for each client (without this, for as long as its domain lives).
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,

    /// Once a local connection has sent its last and the server has read everything and waits for more: how long nothing
    /// may come from it before the channel is closed.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub linger: u64,

    /// Tell on standard error who comes and goes.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Where the local side is.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Door {
    /// A unix socket at this path; one that is left over and dead is replaced.
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// TCP on a loopback address and port, as 127.0.0.1:7000; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    pub tcp: Option<SocketAddr>,

    /// A new pseudo terminal in raw mode.
    #[arg(long)]
    pub pty: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "no address and port, as 127.0.0.1:7000".to_string())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("only loopback addresses, since nothing protects the port: use ssh -L for other machines".into()),
    }
}
