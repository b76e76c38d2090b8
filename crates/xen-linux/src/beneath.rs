//! A folder that no path leads out of, for paths that somebody else names.
//!
//! The kernel itself resolves each path below the folder (openat2(2), since Linux 5.6), so that
//! nothing that is renamed or linked meanwhile changes what was checked.

use crate::reactor::os_error;
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A folder, and all below it. Paths are relative to it; the empty one is the folder itself. One
/// that is absolute, leads out by `..` or passes a symbolic link is refused, with `ELOOP` or
/// `EXDEV`.
pub struct Beneath(OwnedFd);

impl Beneath {
    /// Opens the folder at `path`, which may pass symbolic links.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path.as_os_str().as_bytes(), flags, Mode::empty());
        Ok(Beneath(fd.map_err(os_error)?))
    }

    /// Opens a file to read. Does not wait for the other end of a pipe.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
    }

    /// Opens a file to read and to write, made with the permission bits `mode` if it is missing.
    pub fn write(&self, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        self.file(path, flags, Mode::from_raw_mode(mode & 0o777))
    }

    /// Returns what is there; `None` if nothing is. A symbolic link is itself.
    pub fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>> {
        match self.resolve(path, OFlags::PATH, Mode::empty()) {
            Ok(fd) => File::from(sys::to_std(fd)).metadata().map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(os_error(errno)),
        }
    }

    /// Makes a folder, unless there is one.
    pub fn make_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name.as_bytes(), Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) if self.metadata(path)?.is_some_and(|found| found.is_dir()) => Ok(()),
            done => done.map_err(os_error),
        }
    }

    /// Returns the names in a folder, sorted.
    pub fn list(&self, path: &Path) -> io::Result<Vec<Vec<u8>>> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let mut names = Vec::new();
        for entry in Dir::read_from(fd.map_err(os_error)?).map_err(os_error)? {
            let name = entry.map_err(os_error)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Gives the file at `path` the name `to` in the same folder, in the place of another file.
    pub fn rename(&self, path: &Path, to: &OsStr) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::renameat(&parent, name.as_bytes(), &parent, to.as_bytes()).map_err(os_error)
    }

    /// Makes everything durable that was written to the folder's file system.
    pub fn sync(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.0).map_err(os_error)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(&parent, name.as_bytes(), AtFlags::empty()).map_err(os_error)
    }

    fn file(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
        let fd = self.resolve(path, flags, mode).map_err(os_error)?;
        Ok(File::from(sys::to_std(fd)))
    }

    /// Opens the folder in which `path` lies, and returns it with the name there.
    fn parent<'p>(&self, path: &'p Path) -> io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok((self.resolve(parent, flags, Mode::empty()).map_err(os_error)?, name))
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let path = match path.as_os_str().as_bytes() {
            b"" => b".",
            path => path,
        };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.0, path, flags, mode, resolve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A folder `in` with a file and a folder, and links that lead out of it.
    fn tree(name: &str) -> (PathBuf, Beneath) {
        let root = std::env::temp_dir().join(format!("beneath-{name}-{}", std::process::id()));
        std::fs::create_dir_all(root.join("in/sub")).unwrap();
        std::fs::write(root.join("secret"), "secret").unwrap();
        std::fs::write(root.join("in/file"), "text").unwrap();
        symlink(root.join("secret"), root.join("in/link")).unwrap();
        symlink("..", root.join("in/up")).unwrap();
        let beneath = Beneath::open(&root.join("in")).unwrap();
        (root, beneath)
    }

    #[test]
    fn path_that_leads_out_is_refused_by_every_operation() {
        let (root, beneath) = tree("out");
        let secret = root.join("secret");
        for path in ["../secret", "sub/../../secret", "link", "up/secret", secret.to_str().unwrap()]
        {
            let path = Path::new(path);
            assert!(beneath.read(path).is_err(), "{path:?}");
            assert!(beneath.write(path, 0o600).is_err(), "{path:?}");
        }
        for path in ["../new", "up/new", "/tmp/beneath-new"] {
            let path = Path::new(path);
            assert!(beneath.write(path, 0o600).is_err(), "{path:?}");
            assert!(beneath.make_dir(path).is_err(), "{path:?}");
            assert!(beneath.rename(path, OsStr::new("x")).is_err(), "{path:?}");
            assert!(beneath.remove(path).is_err(), "{path:?}");
        }
        assert!(beneath.list(Path::new("up")).is_err() && beneath.list(Path::new("..")).is_err());
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        assert!(beneath.metadata(Path::new("link")).unwrap().unwrap().is_symlink());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn files_and_folders_below_are_used_as_ever() {
        let (root, beneath) = tree("in");
        beneath.make_dir(Path::new("sub/new")).unwrap();
        beneath.make_dir(Path::new("sub/new")).unwrap();
        assert!(beneath.make_dir(Path::new("file")).is_err());
        beneath.write(Path::new("sub/new/a"), 0o640).unwrap().write_all(b"abc").unwrap();
        beneath.rename(Path::new("sub/new/a"), OsStr::new("b")).unwrap();
        assert_eq!(beneath.list(Path::new("sub/new")).unwrap(), [b"b"]);
        assert_eq!(beneath.list(Path::new("")).unwrap(), [&b"file"[..], b"link", b"sub", b"up"]);
        let mut text = String::new();
        beneath.read(Path::new("sub/new/b")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        beneath.remove(Path::new("sub/new/b")).unwrap();
        assert!(beneath.metadata(Path::new("sub/new/b")).unwrap().is_none());
        std::fs::remove_dir_all(root).unwrap();
    }
}
