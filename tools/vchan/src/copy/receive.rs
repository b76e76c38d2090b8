//! The receiving side of a copy.

use super::send::failed;
use super::wire::{Frame, Hash, Message, Peer, broken, shown};
use super::{hash_start, paths};
use crate::{Code, Failure};
use blake3::Hasher;
use embedded_io_async::{Read, Write};
use std::fs::{File, Permissions};
use std::io::{self, Seek, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tools_common::Progress;
use xen_linux::Beneath;

/// The place of what is received.
pub(super) struct Target<'a> {
    pub root: &'a Beneath,
    /// The path of its top below `root`.
    pub top: PathBuf,
}

/// A file that is announced.
struct Announced {
    /// Its path below the root.
    path: PathBuf,
    mode: u32,
    size: u64,
}

/// The part of a file that is there already.
struct Known {
    hasher: Hasher,
    bytes: u64,
    /// It is the whole file under its name, and not a part.
    is_whole: bool,
}

impl Target<'_> {
    /// Receives everything, and returns the paths of what the sender left out.
    pub async fn receive<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, Failure> {
        let (mut skipped, mut has_changed) = (Vec::new(), false);
        loop {
            match peer.message().await? {
                Message::Folder { path } => {
                    let path = self.path(&path)?;
                    if !path.as_os_str().is_empty() {
                        self.root.make_dir(&path).map_err(|error| failed("make", &path, error))?;
                    }
                }
                Message::File { path, mode, size } => {
                    let path = self.path(&path)?;
                    if path.as_os_str().is_empty() || paths::is_part(&paths::name(&path)) {
                        return Err(broken("it sends a file without a name of its own"));
                    }
                    has_changed |=
                        self.receive_file(peer, &Announced { path, mode, size }, progress).await?;
                }
                Message::Skipped { path } => skipped.push(shown(&path)),
                Message::End => {
                    // It takes long, and other clients wait meanwhile.
                    if has_changed {
                        self.root.sync().map_err(|error| failed("store", &self.top, error))?;
                    }
                    peer.send(&Message::Ended).await?;
                    return Ok(skipped);
                }
                _ => return Err(broken("it sends a message out of turn")),
            }
        }
    }

    /// Returns the path below the root of a path that the peer sent.
    fn path(&self, path: &[u8]) -> Result<PathBuf, Failure> {
        match paths::relative(path) {
            Ok(path) => Ok(paths::join(&self.top, &path)),
            Err(why) => Err(broken(&format!("its path {} {why}", shown(path)))),
        }
    }

    /// Receives a file. Returns false if it was there already.
    async fn receive_file<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        file: &Announced,
        progress: &mut dyn Progress,
    ) -> Result<bool, Failure> {
        let cannot = |error| failed("write", &file.path, error);
        let part_path = paths::part_of(&file.path);
        let mut part = self.open_part(&part_path)?;
        let known = self.known(&mut part, file).await?;
        let hash: Hash = *known.hasher.finalize().as_bytes();
        peer.send(&Message::Have { bytes: known.bytes, hash }).await?;
        let Message::From { at } = peer.message().await? else {
            return Err(broken("it does not say where its data begins"));
        };
        if at != 0 && at != known.bytes {
            return Err(broken("its data begins elsewhere"));
        }
        let is_there = known.is_whole && at == known.bytes;
        let mut hasher = if at == known.bytes { known.hasher } else { Hasher::new() };
        if !is_there {
            part.set_len(at).and_then(|()| part.seek(SeekFrom::Start(at))).map_err(cannot)?;
            progress.begin(&format!("{} ", shown(&paths::bytes(&file.path))), file.size);
            let received = self.receive_data(peer, &mut part, (&mut hasher, at), file, progress);
            let received = received.await;
            progress.end();
            received?;
        }
        let Message::Done { hash } = peer.message().await? else {
            return Err(broken("it does not end a file"));
        };
        if hasher.finalize() != hash {
            self.root.remove(&part_path).map_err(cannot)?;
            let text = format!("{} has another checksum than was sent", file.path.display());
            return Err(Failure::new(Code::Protocol, text));
        }
        match is_there {
            true => self.root.remove(&part_path).map_err(cannot)?,
            false => {
                let mode = Permissions::from_mode(file.mode & 0o777);
                part.set_permissions(mode).map_err(cannot)?;
                let name = file.path.file_name().unwrap_or_default();
                self.root.rename(&part_path, name).map_err(cannot)?;
            }
        }
        peer.send(&Message::Stored).await?;
        Ok(!is_there)
    }

    /// Opens the file that is not complete, for this copy alone.
    fn open_part(&self, path: &Path) -> Result<File, Failure> {
        let cannot = |error| failed("write", path, error);
        let part = self.root.write(path, 0o600).map_err(cannot)?;
        if !part.metadata().map_err(cannot)?.is_file() {
            return Err(cannot(io::Error::other("it is no file")));
        }
        if part.try_lock().is_err() {
            return Err(cannot(io::Error::other("another copy writes it")));
        }
        Ok(part)
    }

    /// Finds what is there of the file: a part, or a whole file of the same length.
    async fn known(&self, part: &mut File, file: &Announced) -> Result<Known, Failure> {
        let cannot = |error| failed("read", &file.path, error);
        let bytes = part.metadata().map_err(cannot)?.len();
        let found = self.root.metadata(&file.path).map_err(cannot)?;
        if found.as_ref().is_some_and(|found| found.is_dir()) {
            return Err(failed("write", &file.path, io::ErrorKind::IsADirectory.into()));
        }
        if bytes == 0 && found.is_some_and(|found| found.is_file() && found.len() == file.size) {
            let mut whole = self.root.read(&file.path).map_err(cannot)?;
            let hasher = hash_start(&mut whole, file.size).await.map_err(cannot)?;
            return Ok(Known { hasher, bytes: file.size, is_whole: file.size > 0 });
        }
        let bytes = bytes.min(file.size);
        let hasher = hash_start(part, bytes).await.map_err(cannot)?;
        Ok(Known { hasher, bytes, is_whole: false })
    }

    /// Receives the file from `at` to its end.
    async fn receive_data<R: Read, W: Write>(
        &self,
        peer: &mut Peer<R, W>,
        part: &mut File,
        (hasher, mut at): (&mut Hasher, u64),
        file: &Announced,
        progress: &mut dyn Progress,
    ) -> Result<(), Failure> {
        while at < file.size {
            let count = match peer.receive().await? {
                Frame::Data(count) if count as u64 <= file.size - at => count,
                Frame::Data(_) => return Err(broken("it sends more of a file than it said")),
                Frame::Message(message) => return Err(super::wire::unexpected(message)),
            };
            let data = &peer.data()[..count];
            hasher.update(data);
            part.write_all(data).map_err(|error| failed("write", &file.path, error))?;
            at += count as u64;
            progress.done(at);
        }
        Ok(())
    }
}
