//! Meaning of a reply's payload: pure functions over bytes that came from outside.

use crate::{ErrorKind, Flaw, Permissions, path};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use xen_abi::xs_wire::MessageType;

/// A kind of request to xenstored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is one of Store's functions")]
pub enum Op {
    Read,
    Write,
    Mkdir,
    Remove,
    List,
    ListPart,
    GetPermissions,
    SetPermissions,
    Watch,
    Unwatch,
    StartTransaction,
    EndTransaction,
    GetDomainPath,
    IsIntroduced,
}

impl Op {
    /// The type of its message.
    pub const fn message(self) -> MessageType {
        match self {
            Op::Read => MessageType::READ,
            Op::Write => MessageType::WRITE,
            Op::Mkdir => MessageType::MKDIR,
            Op::Remove => MessageType::RM,
            Op::List => MessageType::DIRECTORY,
            Op::ListPart => MessageType::DIRECTORY_PART,
            Op::GetPermissions => MessageType::GET_PERMS,
            Op::SetPermissions => MessageType::SET_PERMS,
            Op::Watch => MessageType::WATCH,
            Op::Unwatch => MessageType::UNWATCH,
            Op::StartTransaction => MessageType::TRANSACTION_START,
            Op::EndTransaction => MessageType::TRANSACTION_END,
            Op::GetDomainPath => MessageType::GET_DOMAIN_PATH,
            Op::IsIntroduced => MessageType::IS_DOMAIN_INTRODUCED,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Mkdir => "create",
            Op::Remove => "remove",
            Op::List | Op::ListPart => "list",
            Op::GetPermissions => "read the permissions of",
            Op::SetPermissions => "set the permissions of",
            Op::Watch => "watch",
            Op::Unwatch => "stop watching",
            Op::StartTransaction => "start a transaction",
            Op::EndTransaction => "end a transaction",
            Op::GetDomainPath => "find the folder of",
            Op::IsIntroduced => "look up",
        })
    }
}

/// A reply's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    Value(Vec<u8>),
    Names(Vec<String>),
    Part(Part),
    Permissions(Permissions),
    Transaction(u32),
    Path(String),
    Flag(bool),
}

/// Some of a node's children.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// Changes whenever the node does.
    pub generation: String,
    pub names: Vec<String>,
    /// True if the list ends with these.
    pub last: bool,
}

/// Reads the payload of a reply to `op`.
pub(crate) fn parse(op: Op, payload: Vec<u8>) -> Result<Answer, Flaw> {
    match op {
        Op::Read => Ok(Answer::Value(payload)),
        Op::List => Ok(Answer::Names(names(&strings(&payload)?)?)),
        Op::ListPart => part(&payload).map(Answer::Part),
        Op::GetPermissions => Permissions::decode(&strings(&payload)?).map(Answer::Permissions),
        Op::StartTransaction => {
            let text = single(&payload)?;
            number(text)
                .filter(|&id| id != 0)
                .map(Answer::Transaction)
                .ok_or_else(|| Flaw::Text(text.into()))
        }
        Op::GetDomainPath => {
            let text = single(&payload)?;
            path::check(text).map_err(|_| Flaw::Name(text.into()))?;
            Ok(Answer::Path(text.into()))
        }
        Op::IsIntroduced => match single(&payload)? {
            "T" => Ok(Answer::Flag(true)),
            "F" => Ok(Answer::Flag(false)),
            other => Err(Flaw::Text(other.into())),
        },
        Op::Write
        | Op::Mkdir
        | Op::Remove
        | Op::SetPermissions
        | Op::Watch
        | Op::Unwatch
        | Op::EndTransaction => match single(&payload)? {
            "OK" => Ok(Answer::Done),
            other => Err(Flaw::Text(other.into())),
        },
    }
}

/// Reads the payload of an ERROR message.
pub(crate) fn parse_error(payload: &[u8]) -> Result<ErrorKind, Flaw> {
    let name = single(payload)?;
    let plausible =
        name.starts_with('E') && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if plausible { Ok(ErrorKind::from_name(name)) } else { Err(Flaw::Text(name.into())) }
}

/// Reads the payload of a watch event: the path and the token.
pub(crate) fn parse_event(payload: &[u8]) -> Result<(&str, &str), Flaw> {
    match strings(payload)?[..] {
        [path, token] => Ok((path, token)),
        ref other => Err(Flaw::Strings { found: other.len(), expected: 2 }),
    }
}

/// Reads a decimal number: digits and nothing else.
pub(crate) fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    // `parse` alone would take a plus sign as well.
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse::<u64>().ok())?
        .and_then(|n| T::try_from(n).ok())
}

/// Strings that each end with a NUL.
fn strings(payload: &[u8]) -> Result<Vec<&str>, Flaw> {
    let text = core::str::from_utf8(payload).map_err(|_| Flaw::NotText)?;
    match text.strip_suffix('\0') {
        Some(text) => Ok(text.split('\0').collect()),
        None if text.is_empty() => Ok(Vec::new()),
        None => Err(Flaw::NoNul),
    }
}

fn single(payload: &[u8]) -> Result<&str, Flaw> {
    match strings(payload)?[..] {
        [text] => Ok(text),
        ref other => Err(Flaw::Strings { found: other.len(), expected: 1 }),
    }
}

/// Names of children: parts of paths.
fn names(from: &[&str]) -> Result<Vec<String>, Flaw> {
    let name = |name: &&str| match path::check(name) {
        Ok(()) if !name.bytes().any(|byte| byte == b'/') => Ok(name.to_string()),
        _ => Err(Flaw::Name(name.to_string())),
    };
    from.iter().map(name).collect()
}

/// The generation, some children, and an empty string if there are no more of them.
fn part(payload: &[u8]) -> Result<Part, Flaw> {
    let strings = strings(payload)?;
    let Some((generation, children)) = strings.split_first() else {
        return Err(Flaw::NoStrings);
    };
    number::<u64>(generation).ok_or_else(|| Flaw::Text(generation.to_string()))?;
    let (children, last) = match children.split_last() {
        None => return Err(Flaw::NoProgress),
        Some((&"", children)) => (children, true),
        Some(_) => (children, false),
    };
    Ok(Part { generation: generation.to_string(), names: names(children)?, last })
}
