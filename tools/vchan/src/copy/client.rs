//! The client of a copy: `vchan cp SOURCE TARGET`.

use super::paths;
use super::receive::Target;
use super::send::Source;
use super::wire::{Message, Peer, VERSION};
use crate::args::{Dial, Direction};
use crate::connect::dial;
use crate::{Code, CopyArguments, Failure, Session};
use embedded_io_async::{Read, Write};
use std::fs;
use std::path::{Path, PathBuf};
use tools_common::Progress;
use xen_linux::Beneath;
use xen_platform::Platform;

/// Copies a file or folder to a server, or from it.
pub async fn copy<P: Platform>(
    session: Session<'_, P>,
    args: &CopyArguments,
    progress: &mut dyn Progress,
) -> Result<(), Failure> {
    let (place, direction) = args.client()?;
    let local = Local::open(&direction)?;
    let server = Dial { place, timeout: args.timeout };
    let connection = dial(session.platform, session.store, &server).await?;
    let mut peer = Peer::new(connection.split());
    match local.run(&mut peer, &direction, progress).await {
        Ok(skipped) => {
            for path in skipped {
                (session.report)(&format!("left out, since it is neither file nor folder: {path}"));
            }
            Ok(connection.close().await?)
        }
        Err(failure) => {
            peer.fail(&failure).await;
            connection.abort().await?;
            Err(failure)
        }
    }
}

/// The local end of a copy: a path below a folder.
struct Local {
    root: Beneath,
    top: PathBuf,
}

impl Local {
    fn open(direction: &Direction) -> Result<Self, Failure> {
        let (root, top) = match direction {
            Direction::Put { from, .. } => {
                let path = fs::canonicalize(from).map_err(|error| cannot_open(from, error))?;
                split(&path)
            }
            Direction::Get { from, to } => {
                let from = of_user(from)?;
                match (to.is_dir(), from.file_name()) {
                    (true, Some(name)) => (to.clone(), name.into()),
                    (true, None) => (to.clone(), PathBuf::new()),
                    (false, _) => split(to),
                }
            }
        };
        let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
        let opened = Beneath::open(&root).map_err(|error| cannot_open(&root, error))?;
        Ok(Local { root: opened, top })
    }

    /// Copies, and returns the paths of what was left out.
    async fn run<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        direction: &Direction,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, Failure> {
        match direction {
            Direction::Put { to, .. } => {
                let to = match to.ends_with('/') {
                    // A folder, which the server appends the name to.
                    true => to.clone(),
                    false => of_user(to)?.to_string_lossy().into_owned(),
                };
                let (path, name) = (to.into_bytes(), paths::name(&self.top));
                peer.send(&Message::Put { version: VERSION, path, name }).await?;
                let source = Source { root: &self.root, top: &self.top };
                let skipped = source.send(peer, progress).await?;
                Ok(skipped.iter().map(|path| path.display().to_string()).collect())
            }
            Direction::Get { from, .. } => {
                let path = paths::bytes(&of_user(from)?);
                peer.send(&Message::Get { version: VERSION, path }).await?;
                let target = Target { root: &self.root, top: self.top.clone() };
                target.receive(peer, progress).await
            }
        }
    }
}

/// Splits a path into a folder and the name in it.
fn split(path: &Path) -> (PathBuf, PathBuf) {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent.into(), name.into()),
        _ => (path.into(), PathBuf::new()),
    }
}

fn of_user(path: &str) -> Result<PathBuf, Failure> {
    paths::relative_of_user(path.as_bytes())
        .map_err(|why| Failure::new(Code::Usage, format!("the path {path} at the server {why}")))
}

fn cannot_open(path: &Path, error: std::io::Error) -> Failure {
    Failure::other(format!("cannot open {}: {}", path.display(), xen_linux::IoError(error)))
}
