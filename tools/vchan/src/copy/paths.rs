//! Paths as they travel: relative, with slashes, and nothing in them that leads elsewhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path and name of Linux, in bytes (`PATH_MAX`, `NAME_MAX`, linux/limits.h).
const MAX_PATH_BYTES: usize = 4095;
const MAX_NAME_BYTES: usize = 255;

/// The end of the name of a file that is not complete.
const PART: &[u8] = b".vchan-part";

/// Checks a relative path of the peer's. The empty one is the top.
pub(super) fn relative(bytes: &[u8]) -> Result<PathBuf, &'static str> {
    if bytes.is_empty() {
        return Ok(PathBuf::new());
    }
    if bytes.len() > MAX_PATH_BYTES {
        return Err("is too long");
    }
    for name in bytes.split(|byte| *byte == b'/') {
        match name {
            b"" => return Err("is absolute or has an empty part"),
            b"." | b".." => return Err("leads elsewhere"),
            name if name.contains(&0) => return Err("has a NUL in it"),
            name if name.len() > MAX_NAME_BYTES => return Err("has too long a name"),
            _ => {}
        }
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// As [`relative`], of a path that a user wrote: slashes at its ends and dots do no harm.
pub(super) fn relative_of_user(text: &[u8]) -> Result<PathBuf, &'static str> {
    let parts: Vec<&[u8]> =
        text.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    relative(&parts.join(&b'/'))
}

/// Returns the path of a file that is not complete yet, beside it.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    path.with_file_name(OsStr::from_bytes(&[b".", name.as_bytes(), PART].concat()))
}

/// Returns true for the name of a file that is not complete.
pub(super) fn is_part(name: &[u8]) -> bool {
    name.starts_with(b".") && name.ends_with(PART)
}

/// Returns `path` below `top`; either may be empty.
pub(super) fn join(top: &Path, path: &Path) -> PathBuf {
    match (top.as_os_str().is_empty(), path.as_os_str().is_empty()) {
        (true, _) => path.to_path_buf(),
        (_, true) => top.to_path_buf(),
        _ => top.join(path),
    }
}

/// Returns the bytes of the last name of a path.
pub(super) fn name(path: &Path) -> Vec<u8> {
    path.file_name().unwrap_or_default().as_bytes().to_vec()
}

/// Returns the bytes of a path.
pub(super) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    proptest! {
        #[test]
        fn accepted_path_has_nothing_but_names(bytes in "([a./\u{0}]|é){0,12}") {
            if let Ok(path) = relative(bytes.as_bytes()) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }

    #[test]
    fn path_that_leads_elsewhere_is_refused() {
        for wrong in ["/etc", "..", "a/../b", "a//b", "a/", ".", "./a", "a\0b"] {
            assert!(relative(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(relative(&[b'a'; 256]).is_err() && relative("a/".repeat(3000).as_bytes()).is_err());
        assert_eq!(relative(b"a/b.c"), Ok("a/b.c".into()));
        assert_eq!(relative_of_user(b"/a/./b/"), Ok("a/b".into()));
        assert!(relative_of_user(b"a/..").is_err());
    }

    #[test]
    fn part_lies_beside_its_file() {
        assert_eq!(part_of(Path::new("a/b")), Path::new("a/.b.vchan-part"));
        assert!(is_part(b".b.vchan-part") && !is_part(b"b.vchan-part"));
    }
}
