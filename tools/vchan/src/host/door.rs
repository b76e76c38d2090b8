//! The local side of `vchan proxy`.

use crate::{other, say};
use std::io;
use vchan::{Code, Door, Failure};
use xen_linux::{Linux, LocalListener, Pty, Streams, connect_tcp, connect_unix};

/// Where local connections come from.
pub(crate) enum Local {
    /// This side is a client: they come by themselves.
    Listener(LocalListener),
    /// The same, for the one user of a terminal.
    Pty(Pty),
    /// This side serves: each is made.
    Connect(Linux, Door),
}

impl Local {
    /// Opens the door and tells its address.
    pub fn open(linux: &Linux, door: &Door, server: bool) -> Result<Self, Failure> {
        if server {
            return Ok(Local::Connect(linux.clone(), door.clone()));
        }
        let refused =
            |what: String| move |error: io::Error| Failure::new(Code::Other, format!("cannot {what}: {error}"));
        let listener = match door {
            Door { unix: Some(path), .. } => {
                LocalListener::unix(linux, path).map_err(refused(format!("listen on {}", path.display())))?
            }
            Door { tcp: Some(address), .. } => {
                LocalListener::tcp(linux, *address).map_err(refused(format!("listen on {address}")))?
            }
            _ => {
                let pty = Pty::open(linux).map_err(refused("make a terminal".to_string()))?;
                say(&format!("The terminal is {}", pty.name().display()));
                return Ok(Local::Pty(pty));
            }
        };
        say(&format!("Listening on {}", listener.address()));
        Ok(Local::Listener(listener))
    }

    /// The next connection.
    pub async fn next(&self) -> Result<Streams, Failure> {
        let refused = |what: String, error: io::Error| {
            Failure::new(Code::Other, format!("cannot connect to {what}: {error}; is its server running?"))
        };
        match self {
            Local::Listener(listener) => listener.accept().await.map_err(other),
            Local::Pty(pty) => pty.streams().map_err(other),
            Local::Connect(linux, Door { unix: Some(path), .. }) => {
                connect_unix(linux, path).await.map_err(|error| refused(path.display().to_string(), error))
            }
            Local::Connect(linux, Door { tcp: Some(address), .. }) => {
                connect_tcp(linux, *address).await.map_err(|error| refused(address.to_string(), error))
            }
            Local::Connect(..) => unreachable!("the command line does not take --server --pty"),
        }
    }
}
