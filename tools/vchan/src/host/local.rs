//! The local side of `vchan proxy`.

use crate::other;
use std::io;
use tools_common::report;
use vchan::{Failure, LocalAddress, ProxyArguments, TcpAddress};
use xen_linux::{
    IoError, Linux, LocalListener, Pty, SocketAccess, Streams, connect_tcp, connect_unix,
};

/// The source of local connections.
pub(crate) enum Local {
    /// This side is a client: they come by themselves.
    Listener(LocalListener),
    /// The same, for the one user of a terminal.
    Pty(Pty),
    /// This side serves: each is made.
    Connect(Linux, LocalAddress),
}

impl Local {
    /// Opens the local side and reports its address.
    pub fn open(linux: &Linux, args: &ProxyArguments) -> Result<Self, Failure> {
        let address = &args.local;
        if args.server {
            return Ok(Local::Connect(linux.clone(), address.clone()));
        }
        let refused = |what: String| {
            move |error: io::Error| Failure::other(format!("cannot {what}: {}", IoError(error)))
        };
        let listener = match address {
            LocalAddress { unix: Some(path), .. } => {
                let access = SocketAccess {
                    mode: args.mode,
                    user: args.owner.and_then(|owner| owner.user),
                    group: args.owner.and_then(|owner| owner.group),
                };
                LocalListener::unix(linux, path, &access)
                    .map_err(refused(format!("listen on {}", path.display())))?
            }
            LocalAddress { tcp: Some(TcpAddress(address)), .. } => {
                LocalListener::tcp(linux, *address)
                    .map_err(refused(format!("listen on {address}")))?
            }
            _ => {
                let pty = Pty::open(linux).map_err(refused("make a terminal".to_string()))?;
                report(&format!("The terminal is {}", pty.name().display()));
                return Ok(Local::Pty(pty));
            }
        };
        report(&format!("Listening on {}", listener.address()));
        Ok(Local::Listener(listener))
    }

    /// The next connection.
    pub async fn next(&self) -> Result<Streams, Failure> {
        let refused = |what: String, error: io::Error| {
            let error = IoError(error);
            Failure::other(format!("cannot connect to {what}: {error}; is its server running?"))
        };
        match self {
            Local::Listener(listener) => listener.accept().await.map_err(other),
            Local::Pty(pty) => pty.streams().map_err(IoError).map_err(other),
            Local::Connect(linux, LocalAddress { unix: Some(path), .. }) => {
                connect_unix(linux, path)
                    .await
                    .map_err(|error| refused(path.display().to_string(), error))
            }
            Local::Connect(linux, LocalAddress { tcp: Some(TcpAddress(address)), .. }) => {
                connect_tcp(linux, *address)
                    .await
                    .map_err(|error| refused(address.to_string(), error))
            }
            Local::Connect(..) => unreachable!("the command line does not take --server --pty"),
        }
    }
}
