//! Requests of a client: the payload of a message, checked.

use super::Errno;
use super::daemon::folder;
use super::tree::Permissions;
use xen_abi::xs_wire::error_name::{EINVAL, ENOSYS};
use xen_abi::xs_wire::{ABS_PATH_MAX, MessageType, REL_PATH_MAX};
use xen_platform::DomId;

/// A request. Paths are absolute by now.
pub(super) enum Request<'a> {
    Start,
    End { commit: bool },
    Watch { path: String, prefix: usize, token: &'a str },
    Unwatch { path: String, token: &'a str },
    DomainPath(DomId),
    IsIntroduced(DomId),
    Node(String, Access<'a>),
}

/// An operation on a node.
pub(super) enum Access<'a> {
    Read,
    List,
    ListPart { offset: usize },
    GetPermissions,
    Write(&'a [u8]),
    Mkdir,
    Remove,
    SetPermissions(Permissions),
}

pub(super) fn parse(
    kind: MessageType,
    payload: &[u8],
    domain: DomId,
) -> Result<Request<'_>, Errno> {
    let node = |path, access| Ok(Request::Node(absolute(path, domain)?, access));
    match kind {
        MessageType::READ => node(one(payload)?, Access::Read),
        MessageType::DIRECTORY => node(one(payload)?, Access::List),
        MessageType::GET_PERMS => node(one(payload)?, Access::GetPermissions),
        MessageType::MKDIR => node(one(payload)?, Access::Mkdir),
        MessageType::RM => node(one(payload)?, Access::Remove),
        MessageType::DIRECTORY_PART => {
            let (path, offset) = two(payload)?;
            node(path, Access::ListPart { offset: number(offset)? })
        }
        MessageType::WRITE => {
            let end = payload.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
            node(text(&payload[..end])?, Access::Write(&payload[end + 1..]))
        }
        MessageType::SET_PERMS => match strings(payload)?.split_first() {
            Some((path, entries)) => {
                node(path, Access::SetPermissions(Permissions::parse(entries).ok_or(EINVAL)?))
            }
            None => Err(EINVAL),
        },
        MessageType::WATCH => {
            let (path, token) = two(payload)?;
            let is_relative = !path.starts_with(['/', '@']);
            let prefix = if is_relative { folder(domain).len() + 1 } else { 0 };
            Ok(Request::Watch { path: watchable(path, domain)?, prefix, token })
        }
        MessageType::UNWATCH => {
            let (path, token) = two(payload)?;
            Ok(Request::Unwatch { path: watchable(path, domain)?, token })
        }
        MessageType::TRANSACTION_START => Ok(Request::Start),
        MessageType::TRANSACTION_END => match one(payload)? {
            "T" => Ok(Request::End { commit: true }),
            "F" => Ok(Request::End { commit: false }),
            _ => Err(EINVAL),
        },
        MessageType::GET_DOMAIN_PATH => Ok(Request::DomainPath(DomId(number(one(payload)?)?))),
        MessageType::IS_DOMAIN_INTRODUCED => {
            Ok(Request::IsIntroduced(DomId(number(one(payload)?)?)))
        }
        _ => Err(ENOSYS),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Errno> {
    std::str::from_utf8(bytes).map_err(|_| EINVAL)
}

/// Strings that each end with a NUL.
fn strings(payload: &[u8]) -> Result<Vec<&str>, Errno> {
    Ok(text(payload)?.strip_suffix('\0').ok_or(EINVAL)?.split('\0').collect())
}

fn one(payload: &[u8]) -> Result<&str, Errno> {
    match strings(payload)?[..] {
        [one] => Ok(one),
        _ => Err(EINVAL),
    }
}

fn two(payload: &[u8]) -> Result<(&str, &str), Errno> {
    match strings(payload)?[..] {
        [one, two] => Ok((one, two)),
        _ => Err(EINVAL),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Errno> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())).ok_or(EINVAL)
}

/// The absolute path for one that may be relative to the domain's folder.
fn absolute(path: &str, domain: DomId) -> Result<String, Errno> {
    let is_absolute = path.starts_with('/');
    let max = if is_absolute { ABS_PATH_MAX } else { REL_PATH_MAX };
    let characters = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_@".contains(&b));
    let parts = path == "/" || !(path.is_empty() || path.ends_with('/') || path.contains("//"));
    match (characters && parts && path.len() <= max, is_absolute) {
        (false, _) => Err(EINVAL),
        (true, true) => Ok(path.into()),
        (true, false) => Ok(format!("{}/{path}", folder(domain))),
    }
}

/// As [`absolute`], but special paths stay as they are.
fn watchable(path: &str, domain: DomId) -> Result<String, Errno> {
    match path {
        "@introduceDomain" | "@releaseDomain" => Ok(path.into()),
        _ => absolute(path, domain),
    }
}

/// The absolute path of a test's choice.
pub(super) fn checked(path: &str) -> &str {
    let absolute = path.starts_with('/') && absolute(path, super::tree::DOM0).is_ok();
    assert!(absolute, "{path:?} is not an absolute xenstore path");
    path
}
