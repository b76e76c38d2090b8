//! The file of a unix socket that listens: made with its mode and owner, put into place at once,
//! and removed at the end.
//!
//! A lock file beside it says that its server lives, for as long as that holds the lock. So the
//! socket of a server that was killed is told from one in use without a race: of any number of
//! servers that start at once, one gets the lock, and only that one touches the socket.

use crate::dial::{new_socket, unix_now};
use crate::reactor::os_error;
use crate::sys;
use rustix::net::{AddressFamily, SocketAddrUnix, bind, listen};
use std::ffi::OsString;
use std::fs::{File, FileType, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// asm-generic/fcntl.h.
const O_NOFOLLOW: i32 = 0o400000;

/// Number of callers that may wait to be let in.
const BACKLOG: i32 = 128;

/// The users that may connect to a unix socket: those that may write to its file.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SocketAccess {
    /// The permission bits of the file; without them, those that the umask leaves.
    pub mode: Option<u32>,
    /// The number of the user that owns the file.
    pub user: Option<u32>,
    /// The number of the group that owns the file.
    pub group: Option<u32>,
}

/// A socket's file with its lock. Dropping it removes both.
pub(crate) struct SocketFile {
    path: PathBuf,
    _lock: Lock,
}

/// A lock file that is locked. Dropping it removes the file first.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl SocketFile {
    /// Creates the socket at `path`. One that a dead server has left there is replaced.
    pub fn listen(path: &Path, access: &SocketAccess) -> io::Result<(UnixListener, Self)> {
        let lock = Lock::take(beside(path, ".lock"))?;
        free(path)?;
        let listener = create(path, access)?;
        Ok((listener, SocketFile { path: path.to_path_buf(), _lock: lock }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already. The lock is held until it is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the socket that a killed server left at `path`, if there is one: for a program that will
/// listen there, but may connect to no socket then. Fails if a server lives there.
pub fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let _lock = Lock::take(beside(path, ".lock"))?;
    free(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns `path` with `end` behind its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another server is listening there")
}

impl Lock {
    /// Takes the lock at `path`, which no living server may hold.
    fn take(path: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW);
        loop {
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_use()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The server before may have removed the file in between: then its lock is worth
            // nothing.
            let locked = file.metadata()?;
            match path.symlink_metadata() {
                Ok(found) if (found.dev(), found.ino()) == (locked.dev(), locked.ino()) => {
                    return Ok(Lock { path, _file: file });
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
}

/// Checks that the path may be taken: nothing is there, or the socket of a server that is gone.
fn free(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path).map(|found| found.file_type()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(kind) if !FileType::is_socket(&kind) => {
            let text = "there is a file that is no socket: remove it, or name another path";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
        // A server that keeps no lock.
        Ok(_) => match unix_now(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Ok(_) | Err(_) => Err(in_use()),
        },
    }
}

/// Makes the socket under another name, and moves it into place once it is complete: nobody finds
/// it with another mode, or before it listens.
fn create(path: &Path, access: &SocketAccess) -> io::Result<UnixListener> {
    // The process that holds the lock is alone with this name, too.
    let partial = beside(path, "~");
    let address = SocketAddrUnix::new(partial.as_os_str().as_bytes()).map_err(os_error)?;
    let _ = std::fs::remove_file(&partial);
    let socket = new_socket(AddressFamily::UNIX)?;
    bind(&socket, &address).map_err(os_error)?;
    let placed = set_access(&partial, access)
        .and_then(|()| listen(&socket, BACKLOG).map_err(os_error))
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    Ok(sys::to_std(socket).into())
}

fn set_access(path: &Path, access: &SocketAccess) -> io::Result<()> {
    if access.user.is_some() || access.group.is_some() {
        lchown(path, access.user, access.group)?;
    }
    match access.mode {
        Some(mode) => std::fs::set_permissions(path, Permissions::from_mode(mode)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("socket-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<OsString> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn socket_of_a_dead_server_is_removed_and_no_other() {
        let folder = folder("stale");
        let path = folder.join("socket");
        remove_stale_socket(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        remove_stale_socket(&path).unwrap();
        assert_eq!(names(&folder), [""; 0]);
        // One with a lock, and one without.
        let server = SocketFile::listen(&path, &SocketAccess::default()).unwrap();
        assert_eq!(remove_stale_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(server);
        let _server = UnixListener::bind(&path).unwrap();
        assert_eq!(remove_stale_socket(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn servers_that_start_at_once_over_a_dead_socket_are_one() {
        let folder = folder("race");
        let path = folder.join("socket");
        for _ in 0..50 {
            // One that a killed server has left.
            drop(UnixListener::bind(&path).unwrap());
            let start = Barrier::new(8);
            let won = std::thread::scope(|scope| {
                let servers: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            SocketFile::listen(&path, &SocketAccess::default())
                        })
                    })
                    .collect();
                servers.into_iter().map(|server| server.join().unwrap()).collect::<Vec<_>>()
            });
            let (won, lost): (Vec<_>, Vec<_>) = won.into_iter().partition(Result::is_ok);
            assert_eq!((won.len(), lost.len()), (1, 7));
            for error in lost.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            let (listener, file) = won.into_iter().next().unwrap().unwrap();
            UnixStream::connect(&path).unwrap();
            listener.accept().unwrap();
            drop(file);
            assert!(names(&folder).is_empty(), "{:?}", names(&folder));
        }
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn socket_in_use_and_other_files_stay() {
        let folder = folder("stay");
        let (socket, file) = (folder.join("socket"), folder.join("file"));
        let access = SocketAccess::default();
        // A server that keeps no lock.
        let _theirs = UnixListener::bind(&socket).unwrap();
        let refused = SocketFile::listen(&socket, &access).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        std::fs::write(&file, "precious").unwrap();
        let refused = SocketFile::listen(&file, &access).err().unwrap();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
        assert_eq!(names(&folder).len(), 2, "no lock is left");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn mode_and_owner_are_set() {
        let folder = folder("mode");
        let path = folder.join("socket");
        let own = std::fs::metadata(&folder).unwrap();
        let access =
            SocketAccess { mode: Some(0o620), user: Some(own.uid()), group: Some(own.gid()) };
        let (_listener, file) = SocketFile::listen(&path, &access).unwrap();
        let made = std::fs::metadata(&path).unwrap();
        assert_eq!((made.mode() & 0o777, made.uid(), made.gid()), (0o620, own.uid(), own.gid()));
        drop(file);
        std::fs::remove_dir(&folder).unwrap();
    }
}
