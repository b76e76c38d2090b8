//! `export`: a storage for programs of this machine, without Xen.

use super::privileges::{self, Reach, Sockets};
use super::say;
use crate::export::Exported;
use crate::stack::{self, Files};
use crate::storage::Storage;
use crate::{Code, ExportArguments, Failure};
use nix::sys::stat::{Mode, umask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use xen_nbd::server::Server;
use xen_nbd::{Address, Socket, Uri};

/// The user of an export: other numbers are those of the servers of domains.
const EXPORT: u32 = 0xfffe;
/// Time limit of requests in flight, and of the last flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);
/// Time after which a client is accepted again, if that failed.
const RETRY: Duration = Duration::from_millis(200);

/// A place where clients connect.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a socket, removed with the value.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Serves the storage until a signal ends that.
pub(super) fn run(args: &ExportArguments) -> Result<(), Failure> {
    let files = Files { read_only: args.read_only, size: args.size };
    if args.name.len() > xen_nbd::wire::MAX_NAME {
        return Err(Failure::new(Code::Usage, "the name of an export has at most 4096 bytes"));
    }
    check_address(args)?;
    stack::check(&args.stack, &files)?;
    let mut signals = Signals::catch().map_err(Failure::other)?;
    let storage = stack::build(&args.stack, &files)?;
    let listener = listen(args)?;
    let uri = uri(&listener, &args.name)?;
    confine(args, &listener)?;
    let disk = Arc::new(Exported::new(storage.clone(), args.read_only));
    let server = Server::new(disk, &args.name, |text| say(&format!("xen-disk: {text}")));
    say(&format!("Serving {uri}"));
    say("Press Control+C to end.");
    let listener = Arc::new(listener);
    let accepting = {
        let (server, listener) = (server.clone(), listener.clone());
        move || accept_all(&server, &listener)
    };
    thread::Builder::new().spawn(accepting).map_err(Failure::other)?;
    signals.wait().map_err(Failure::other)?;
    say("Received signal, ending the export.");
    if let Listener::Unix(_, file) = &*listener {
        // No client finds it from here on.
        let _ = std::fs::remove_file(&file.0);
    }
    let ended = end(&server, storage, signals);
    if args.verbose {
        say(&server.counts().to_string());
    }
    ended
}

/// Answers the requests that were taken, and flushes. A second signal ends that.
fn end(
    server: &Arc<Server>,
    storage: Arc<dyn Storage>,
    mut signals: Signals,
) -> Result<(), Failure> {
    let (done, outcome) = mpsc::channel();
    let again = done.clone();
    thread::spawn(move || {
        if signals.wait().is_ok() {
            let _ = again.send(Err(io::Error::other("a second signal came")));
        }
    });
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {FLUSH_TIMEOUT:?}"));
    let server = server.clone();
    thread::spawn(move || {
        let drained = if server.stop(FLUSH_TIMEOUT) { Ok(()) } else { Err(late()) };
        let flushed = if storage.info().read_only { Ok(()) } else { storage.flush() };
        let _ = done.send(flushed.and(drained));
    });
    let outcome = outcome.recv_timeout(FLUSH_TIMEOUT * 2).unwrap_or_else(|_| Err(late()));
    outcome.map_err(|error| {
        Failure::new(Code::Storage, format!("what was written last may not be kept: {error}"))
    })
}

fn accept_all(server: &Arc<Server>, listener: &Listener) {
    loop {
        let accepted = match listener {
            Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }),
            Listener::Unix(listener, _) => {
                listener.accept().map(|(stream, _)| Socket::Unix(stream))
            }
        };
        if let Err(error) = accepted.and_then(|socket| server.accept(socket)) {
            say(&format!("xen-disk: a client cannot be served: {error}"));
            thread::sleep(RETRY);
        }
    }
}

/// Clients are not asked for a password: other machines must not reach the server.
fn check_address(args: &ExportArguments) -> Result<(), Failure> {
    match args.listen.filter(|address| !address.ip().is_loopback()) {
        Some(address) => {
            let text = format!(
                "{address} can be reached from other machines, and clients need no password: use \
                 127.0.0.1 or [::1], and a tunnel (ssh -L) for other machines"
            );
            Err(Failure::new(Code::Usage, text))
        }
        None => Ok(()),
    }
}

fn listen(args: &ExportArguments) -> Result<Listener, Failure> {
    match (&args.socket, args.listen) {
        (Some(path), _) => {
            let failed = |error: io::Error| {
                Failure::other(format!("cannot make the socket {}: {error}", path.display()))
            };
            let path = std::path::absolute(path).map_err(failed)?;
            let listener = listen_unix(&path).map_err(failed)?;
            Ok(Listener::Unix(listener, SocketFile(path)))
        }
        (None, Some(address)) => {
            let listener = TcpListener::bind(address)
                .map_err(|error| Failure::other(format!("cannot listen at {address}: {error}")))?;
            Ok(Listener::Tcp(listener))
        }
        (None, None) => Err(Failure::new(Code::Usage, "--socket or --listen says where")),
    }
}

/// Makes the socket, for its owner alone, in the place of one that nobody serves any more.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::from_bits_truncate(0o177));
    let bind = || UnixListener::bind(path);
    let bound = bind().or_else(|error| {
        let dead = || {
            UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if error.kind() != io::ErrorKind::AddrInUse || !dead() {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        bind()
    });
    umask(before);
    bound
}

fn uri(listener: &Listener, name: &str) -> Result<Uri, Failure> {
    let address = match listener {
        Listener::Tcp(listener) => {
            let address = listener.local_addr().map_err(Failure::other)?;
            Address::Tcp { host: address.ip().to_string(), port: address.port() }
        }
        Listener::Unix(_, file) => Address::Unix(file.0.clone()),
    };
    Ok(Uri { address, tls: false, export: name.into() })
}

/// Gives up what an open storage does not need.
fn confine(args: &ExportArguments, listener: &Listener) -> Result<(), Failure> {
    let needs = stack::needs(&args.stack)?;
    if !needs.network {
        let files = if needs.files { stack::files(&args.stack)? } else { Some(Vec::new()) };
        let run_dir = match listener {
            Listener::Unix(_, file) => file.0.parent().unwrap_or(Path::new("/")).into(),
            Listener::Tcp(_) => PathBuf::from("/nowhere"),
        };
        let servers = stack::sockets(&args.stack)?;
        let (makes_sockets, network) = (false, false);
        let reads = Vec::new();
        privileges::restrict(&Reach { files, reads, run_dir, makes_sockets, network, servers })?;
    }
    privileges::become_own(EXPORT)?;
    match needs.files {
        true => privileges::keep_files_only()?,
        false => privileges::give_up()?,
    }
    let (network, local) = (needs.network, needs.sockets);
    privileges::confine_without_xen(Sockets { listens: false, network, local })
}

/// Signals that end the program, as they come.
struct Signals(UnixStream);

impl Signals {
    fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Signals(read))
    }

    fn wait(&mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}
