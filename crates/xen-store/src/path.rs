//! Rules for paths (`docs/misc/xenstore.txt`; limits from `io/xs_wire.h`).

use alloc::format;
use alloc::string::String;
use xen_abi::xs_wire::{ABS_PATH_MAX, REL_PATH_MAX};
use xen_platform::{DomId, Quoted};

/// A flaw of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It has no characters.
    #[error("the path is empty")]
    Empty,
    /// It has more bytes than xenstored takes.
    #[error("the path is {len} bytes long, xenstored takes {max}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The most that is allowed for a path of its kind.
        max: usize,
    },
    /// It has a character that no path may have.
    #[error(
        "the path has the character {}; allowed are ASCII letters, digits and - / _ @",
        Quoted(.0.encode_utf8(&mut [0; 4]))
    )]
    Character(char),
    /// It has `//`, or ends with `/` without being the root.
    #[error("the path has an empty part")]
    EmptyPart,
}

/// Checks a path as xenstored does, so that a wrong one is told here, with its reason, and never
/// sent.
///
/// Absolute paths start with `/`; others are relative to the own domain's folder and work only for
/// a domain that talks to xenstored itself, not over its socket. Special nodes (`@introduceDomain`,
/// `@releaseDomain`) pass.
pub fn check(path: &str) -> Result<(), PathError> {
    let max = if path.starts_with('/') { ABS_PATH_MAX } else { REL_PATH_MAX };
    if path.len() > max {
        return Err(PathError::TooLong { len: path.len(), max });
    }
    if let Some(c) =
        path.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_' | '@')))
    {
        return Err(PathError::Character(c));
    }
    match path {
        "" => Err(PathError::Empty),
        "/" => Ok(()),
        _ if path.ends_with('/') || path.as_bytes().windows(2).any(|pair| pair == b"//") => {
            Err(PathError::EmptyPart)
        }
        _ => Ok(()),
    }
}

/// A domain's own folder, which its relative paths start from.
pub fn of_domain(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// Returns true if `path` is `top` or lies below it.
pub fn is_within(path: &str, top: &str) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => top == "/" || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xenstored_refuses_is_refused_here() {
        for good in ["/", "/local/domain/0", "data/vchan", "@releaseDomain", "a-b_c@D/9"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(PathError::Empty));
        assert_eq!(check("/local/domain/"), Err(PathError::EmptyPart));
        assert_eq!(check("//"), Err(PathError::EmptyPart));
        assert_eq!(check("a//b"), Err(PathError::EmptyPart));
        assert_eq!(check("/a b"), Err(PathError::Character(' ')));
        assert_eq!(check("/a\0b"), Err(PathError::Character('\0')));
        assert_eq!(check("/ä"), Err(PathError::Character('ä')));
        let long = "/a".repeat(1536);
        assert_eq!(check(&long), Ok(()));
        assert_eq!(check(&format!("{long}a")), Err(PathError::TooLong { len: 3073, max: 3072 }));
        assert_eq!(check(&long[1..2050]), Err(PathError::TooLong { len: 2049, max: 2048 }));
    }

    #[test]
    fn within_looks_at_whole_parts() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a"));
        assert!(is_within("/a", "/"));
        assert!(is_within("data/x", "data"));
        assert!(!is_within("/ab", "/a"));
        assert!(!is_within("/", "/a"));
    }
}
