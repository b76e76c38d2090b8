//! The sending side of a copy.

use super::wire::{MAX_DATA_BYTES, Message, Peer, broken};
use super::{hash_start, paths};
use crate::Failure;
use blake3::Hasher;
use embedded_io_async::{Read, Write};
use std::fs::File;
use std::io::{self, Read as _, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tools_common::Progress;
use xen_exec::yield_now;
use xen_linux::Beneath;

/// A file or folder to send.
pub(super) struct Source<'a> {
    pub root: &'a Beneath,
    /// Its path below `root`.
    pub top: &'a Path,
}

impl Source<'_> {
    /// Sends everything, and returns the paths of what was left out.
    pub async fn send<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        progress: &mut dyn Progress,
    ) -> Result<Vec<PathBuf>, Failure> {
        let mut skipped = Vec::new();
        // The next one is the last.
        let mut left = vec![PathBuf::new()];
        while let Some(path) = left.pop() {
            let full = paths::join(self.top, &path);
            let found = self.root.metadata(&full).map_err(|error| failed("read", &full, error))?;
            match found {
                None if path.as_os_str().is_empty() => {
                    return Err(failed("read", &full, io::ErrorKind::NotFound.into()));
                }
                // It has gone since its folder was read.
                None => {}
                Some(found) if found.is_dir() => {
                    peer.send(&Message::Folder { path: paths::bytes(&path) }).await?;
                    let names =
                        self.root.list(&full).map_err(|error| failed("read", &full, error))?;
                    let wanted = names.iter().rev().filter(|name| !paths::is_part(name));
                    left.extend(wanted.map(|name| path.join(std::ffi::OsStr::from_bytes(name))));
                }
                Some(found) if found.is_file() => self.send_file(peer, &path, progress).await?,
                Some(_) => {
                    peer.send(&Message::Skipped { path: paths::bytes(&path) }).await?;
                    skipped.push(path);
                }
            }
        }
        peer.send(&Message::End).await?;
        match peer.message().await? {
            Message::Ended => Ok(skipped),
            _ => Err(broken("it does not say that all is stored")),
        }
    }

    async fn send_file<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        path: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        let full = paths::join(self.top, path);
        let cannot = |error| failed("read", &full, error);
        let mut file = self.root.read(&full).map_err(cannot)?;
        let found = file.metadata().map_err(cannot)?;
        if !found.is_file() {
            return Err(Failure::other(format!("{} has changed its kind", full.display())));
        }
        let (mode, size) = (found.permissions().mode() & 0o777, found.len());
        peer.send(&Message::File { path: paths::bytes(path), mode, size }).await?;
        let Message::Have { bytes, hash } = peer.message().await? else {
            return Err(broken("it does not say what it has of a file"));
        };
        if bytes > size {
            return Err(broken("it has more of a file than there is"));
        }
        let (mut hasher, mut at) = (hash_start(&mut file, bytes).await.map_err(cannot)?, bytes);
        if hasher.finalize() != hash {
            file.rewind().map_err(cannot)?;
            (hasher, at) = (Hasher::new(), 0);
        }
        peer.send(&Message::From { at }).await?;
        progress.begin(&format!("{} ", full.display()), size);
        let sent = send_data(peer, &mut file, (&mut hasher, at, size), progress).await;
        progress.end();
        match sent? {
            true => {}
            false => return Err(Failure::other(format!("{} became shorter", full.display()))),
        }
        peer.send(&Message::Done { hash: *hasher.finalize().as_bytes() }).await?;
        match peer.message().await? {
            Message::Stored => Ok(()),
            _ => Err(broken("it does not say that a file is stored")),
        }
    }
}

/// Sends a file from `at` to `size`. Returns false if it ends before.
async fn send_data<R: Read, W: Write>(
    peer: &mut Peer<R, W>,
    file: &mut File,
    (hasher, mut at, size): (&mut Hasher, u64, u64),
    progress: &mut dyn Progress,
) -> Result<bool, Failure> {
    while at < size {
        let most = usize::try_from(size - at).unwrap_or(usize::MAX).min(MAX_DATA_BYTES);
        let data = &mut peer.data()[..most];
        let count = file.read(data).map_err(Failure::other)?;
        if count == 0 {
            return Ok(false);
        }
        hasher.update(&data[..count]);
        peer.send_data(count).await?;
        at += count as u64;
        progress.done(at);
        yield_now().await;
    }
    Ok(true)
}

/// Says which file cannot be used, and why.
pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> Failure {
    let name = match path.as_os_str().is_empty() {
        true => "the folder".into(),
        false => path.display().to_string(),
    };
    Failure::other(format!("cannot {what} {name}: {}", xen_linux::IoError(error)))
}
