//! The server of copies: `vchan cp --serve`, and services of `vchan serve`.

use super::paths;
use super::receive::Target;
use super::send::Source;
use super::wire::{Message, Peer, VERSION, broken, shown};
use crate::args::{RingSizes, ServerPlace};
use crate::relay::Transfer;
use crate::serve::{Service, SessionEnd, for_each_domain, serve};
use crate::{Failure, Session};
use embedded_io_async::{Read, Write};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tools_common::Progress;
use xen_linux::Beneath;
use xen_platform::{DomId, Platform};
use xen_vchan::Connection;

/// A folder that clients may copy from and to.
pub struct FileServer {
    root: Beneath,
    read_only: bool,
    /// Number of clients of each domain that are served at a time.
    clients: usize,
    sizes: RingSizes,
    verbose: bool,
}

impl FileServer {
    /// Opens the folder at `dir`.
    pub fn open(
        dir: &Path,
        read_only: bool,
        clients: usize,
        sizes: RingSizes,
        verbose: bool,
    ) -> Result<Self, Failure> {
        let root = Beneath::open(dir).map_err(|error| {
            Failure::other(format!("cannot open {}: {}", dir.display(), xen_linux::IoError(error)))
        })?;
        Ok(FileServer { root, read_only, clients, sizes, verbose })
    }
}

/// Offers the folder to the domains of `place`, until a request to stop comes.
pub async fn serve_files<P: Platform>(
    session: Session<'_, P>,
    place: &ServerPlace,
    files: &FileServer,
) -> Result<(), Failure> {
    let serve_one = async |session: Session<'_, P>, domain: DomId| {
        let service = Service {
            location: &place.location,
            sizes: files.sizes,
            once: false,
            clients: files.clients,
            timeout: None,
            // The bytes of a copy are no relay's, which counts them.
            verbose: false,
        };
        let serve_client = async |connection: &Connection<P>, _: &Transfer| {
            let attending = files.attend(session, connection);
            SessionEnd::new(session.stop.or(attending).await)
        };
        serve(session, &service, domain, serve_client).await
    };
    for_each_domain(session, place, false, serve_one).await
}

impl FileServer {
    /// Carries out the copy of one client.
    async fn attend<P: Platform>(
        &self,
        session: Session<'_, P>,
        connection: &Connection<P>,
    ) -> Result<(), Failure> {
        let mut peer = Peer::new(connection.split());
        let done = self.copy(&mut peer).await;
        let domain = connection.info().peer;
        match done {
            Ok(what) => {
                session.report_if(self.verbose, || format!("A client of domain {domain} {what}"));
                Ok(())
            }
            Err(failure) => {
                peer.fail(&failure).await;
                let text = format!("a client's copy failed: {failure}");
                Err(Failure::new(failure.code, text))
            }
        }
    }

    /// Carries out a copy, and describes it.
    pub(super) async fn copy<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
    ) -> Result<String, Failure> {
        let mut silent = Silent;
        match peer.message().await? {
            Message::Put { version: VERSION, path, name } => {
                if self.read_only {
                    return Err(Failure::other("this folder is read-only"));
                }
                let top = self.top(&path, &name)?;
                let what = format!("has put {}", shown(&paths::bytes(&top)));
                Target { root: &self.root, top }.receive(peer, &mut silent).await?;
                Ok(what)
            }
            Message::Get { version: VERSION, path } => {
                let top = checked(&path)?;
                Source { root: &self.root, top: &top }.send(peer, &mut silent).await?;
                Ok(format!("has got {}", shown(&path)))
            }
            Message::Put { version, .. } | Message::Get { version, .. } => {
                let text =
                    format!("version {version} of the copy is not known here, but {VERSION} is");
                Err(Failure::other(text))
            }
            _ => Err(broken("it does not begin with a request")),
        }
    }

    /// Returns the path for something called `name` that is put to `path`: into it, if that is a
    /// folder.
    fn top(&self, path: &[u8], name: &[u8]) -> Result<PathBuf, Failure> {
        let (path, is_folder) = match path.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (path, path.is_empty()),
        };
        let (path, name) = (checked(path)?, checked(name)?);
        let found = self.root.metadata(&path);
        let found = found.map_err(|error| super::send::failed("use", &path, error))?;
        match is_folder || found.is_some_and(|found| found.is_dir()) {
            true => Ok(paths::join(&path, Path::new(OsStr::from_bytes(&paths::name(&name))))),
            false => Ok(path),
        }
    }
}

fn checked(path: &[u8]) -> Result<PathBuf, Failure> {
    paths::relative(path).map_err(|why| broken(&format!("its path {} {why}", shown(path))))
}

/// Progress that nobody sees.
struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: u64) {}
    fn done(&mut self, _: u64) {}
    fn end(&mut self) {}
}
