//! `vchan proxy`.

use super::serve::clients;
use super::{Owner, Place, RingSizes, TcpAddress, after_help};
use crate::{Code, Failure};
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "  \
  vchan proxy 2 --unix /run/echo.sock      programs that connect to the socket talk to domain 2
  vchan proxy 2 --unix /run/echo.sock --mode 660 --owner root:staff
                                           only programs of this group may
  vchan proxy 2 --tcp 127.0.0.1:7000       the same over TCP, for this machine only
  vchan proxy 2 --pty                      a terminal whose other end is domain 2; its name is printed
  vchan proxy 2 --server --tcp 127.0.0.1:22
                                           clients in domain 2 reach the local ssh server
  vchan proxy 2 nfs --server --tcp fileserver:2049
                                           or a server elsewhere, by a name from /etc/hosts

Each local connection has a channel of its own, and with --server each client a local connection of its own: many at a time,
if the other end serves many at a time.";

/// The arguments of `vchan proxy`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(EXAMPLES))]
pub struct ProxyArguments {
    /// The other domain.
    #[command(flatten)]
    pub place: Place,

    /// The local side.
    #[command(flatten)]
    pub local: LocalAddress,

    /// Permission bits of the unix socket, as 660; without this, those that the umask leaves.
    #[arg(long, value_name = "MODE", value_parser = mode, conflicts_with_all = ["server", "tcp", "pty"])]
    pub mode: Option<u32>,

    /// Owner of the unix socket: a user, a user and a group, or a group alone, by names or numbers.
    #[arg(long, value_name = "USER:GROUP", conflicts_with_all = ["server", "tcp", "pty"])]
    pub owner: Option<Owner>,

    /// Offer the vchan to clients in the domain, and connect each of them to the local address.
    #[arg(long, conflicts_with = "pty")]
    pub server: bool,

    /// The rings, with --server.
    #[command(flatten)]
    pub sizes: RingSizes,

    /// Number of clients that are served at a time, with --server.
    #[arg(long, value_name = "NUMBER", default_value = "64", value_parser = clients)]
    pub clients: usize,

    /// End when the first connection has ended, with its exit code.
    #[arg(long)]
    pub once: bool,

    /// Time limit of each connection for the server to appear, and for its first sign of life;
    /// with --server, how long to wait for each client (without this, for as long as its domain
    /// lives).
    #[arg(long, value_name = "SECS")]
    pub timeout: Option<u64>,

    /// Milliseconds of silence after which to leave a server that cannot half-close, once a local
    /// connection has sent its last and the server has read everything and waits for more.
    #[arg(long, value_name = "MS")]
    pub linger: Option<u64>,

    /// Report on standard error the connections that come and go.
    #[arg(short, long)]
    pub verbose: bool,
}

impl ProxyArguments {
    /// Refuses to listen where other machines could connect.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match self.local.tcp {
            Some(TcpAddress(address)) if !self.server && !address.ip().is_loopback() => {
                let text = format!(
                    "cannot listen on {address}: nothing protects the port, so it must be on a \
                     loopback address; use ssh -L for other machines"
                );
                Err(Failure::new(Code::Usage, text))
            }
            _ => Ok(()),
        }
    }
}

/// The address of the local side.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct LocalAddress {
    /// A unix socket at this path; one that is left over and dead is replaced.
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// TCP on an address and port: a loopback address, as 127.0.0.1:7000, where port 0 takes a free
    /// one; with --server, any address to connect to. A name is looked up in /etc/hosts.
    #[arg(long, value_name = "HOST:PORT")]
    pub tcp: Option<TcpAddress>,

    /// A new pseudo terminal in raw mode.
    #[arg(long)]
    pub pty: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(mode),
        _ => Err("permission bits are three octal digits, as 660".into()),
    }
}
