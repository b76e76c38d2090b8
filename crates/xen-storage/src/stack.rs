//! Storages by their names: `throttle:iops=1000/fault:every=100/file:disk.raw`.
//!
//! A stack is a list of layers, each followed by a slash, and a storage at its end. What belongs to
//! one follows a colon, separated by commas: a path first, where one is needed, and options. The
//! storage's path may have slashes; a path of a layer that has one stands in quotes, as does any
//! that has a comma.
//!
//! A program adds names of its own with [`register`].

mod args;
mod build;
mod check;
mod create;
mod kinds;
#[cfg(feature = "object")]
mod object;
mod units;

pub use args::Args;
pub use build::{Files, build, commit, rebase, revert};
pub use check::check;
pub use create::{Made, create};
pub use kinds::{Built, Entry, Needs, OpenError, register};
pub use units::{parse_duration, parse_size};

use std::fmt::Write;
use std::path::PathBuf;
use xen_nbd::Address;

/// A fault of a stack, or of opening it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// The text is not one of a stack.
    #[error("{part:?}: {text}")]
    Syntax {
        /// The part that is wrong.
        part: String,
        /// The fault, with its cure where there is one.
        text: String,
    },
    /// The storage cannot be opened.
    #[error("cannot open {part:?}: {reason}")]
    Open {
        /// The part that cannot.
        part: String,
        /// The reason.
        reason: std::io::Error,
    },
}

impl StackError {
    pub(crate) fn syntax(part: &str, text: impl Into<String>) -> Self {
        StackError::Syntax { part: part.to_string(), text: text.into() }
    }
}

/// A stack as it is written, its layers from the top to the storage.
#[derive(Debug)]
pub(crate) struct Parsed(pub Vec<(&'static Entry, Args)>);

const NBD_SCHEMES: [&str; 4] = ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"];

/// Takes a stack apart. Nothing is opened.
pub(crate) fn parse(text: &str) -> Result<Parsed, StackError> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        // A URI of NBD says what it is.
        let is_uri = NBD_SCHEMES.iter().any(|scheme| rest.starts_with(scheme));
        let name_len = rest.find([':', '/', ',']).unwrap_or(rest.len());
        let name = if is_uri { "nbd" } else { &rest[..name_len] };
        let entry = kinds::find(name).ok_or_else(|| {
            if let Some(feature) = kinds::feature_of(name) {
                return StackError::syntax(
                    text,
                    format!("this xen-disk was built without the feature {feature}"),
                );
            }
            let known: Vec<&str> = kinds::all().map(|entry| entry.name).collect();
            StackError::syntax(
                text,
                format!("there is no storage or layer {name:?}; there are {}", known.join(", ")),
            )
        })?;
        if is_uri {
            parts.push((entry, Args::parse(entry, rest)?));
            return Ok(Parsed(parts));
        }
        rest = &rest[name_len..];
        let part = if entry.is_layer() { args::until_slash(rest) } else { rest.len() };
        let words = match rest[..part].strip_prefix(':') {
            Some(words) => words,
            None if part == 0 => "",
            None => {
                return Err(StackError::syntax(
                    text,
                    format!("after {name} comes a colon, if anything"),
                ));
            }
        };
        parts.push((entry, Args::parse(entry, words)?));
        if !entry.is_layer() {
            return Ok(Parsed(parts));
        }
        rest = rest[part..].strip_prefix('/').filter(|rest| !rest.is_empty()).ok_or_else(|| {
            StackError::syntax(
                text,
                format!("{name} is a layer: a slash and what it lies over must follow"),
            )
        })?;
    }
}

/// Returns the rights that the stack that `text` describes needs.
pub fn needs(text: &str) -> Result<Needs, StackError> {
    let Parsed(parts) = parse(text)?;
    let mut all = Needs::default();
    for (entry, args) in &parts {
        all.files |= entry.needs.files;
        all.sockets |= entry.needs.sockets;
        match nbd_address(entry, args)? {
            Some(Address::Unix(_)) => all.sockets = true,
            Some(Address::Tcp { .. }) => all.network = true,
            None => {}
        }
        let is_url = entry.path && args.path().to_string_lossy().contains("://");
        all.network |= entry.needs.network || (entry.name == "object" && is_url);
    }
    Ok(all)
}

/// Returns the address of the server of an `nbd`.
fn nbd_address(entry: &Entry, args: &Args) -> Result<Option<Address>, StackError> {
    match entry.name {
        "nbd" => Ok(Some(build::nbd_uri(args)?.address)),
        _ => Ok(None),
    }
}

/// Returns the files and folders that the stack that `text` describes has, whether they are there
/// or not; `None` if only its program knows, or if an image names others.
pub fn files(text: &str) -> Result<Option<Vec<PathBuf>>, StackError> {
    let Parsed(parts) = parse(text)?;
    let mut files = Vec::new();
    for (entry, args) in &parts {
        if !kinds::is_builtin(entry) || args.flag("trusted")? {
            return Ok(None);
        }
        let path = (entry.path && entry.name != "nbd").then(|| args.path());
        files.extend(path.filter(|path| !path.to_string_lossy().contains("://")));
        files.extend(args.text("cache")?.map(PathBuf::from));
    }
    Ok(Some(files))
}

/// Returns the sockets of other programs in the file system that the stack that `text` describes
/// connects to, now and whenever a server comes back.
pub fn sockets(text: &str) -> Result<Vec<PathBuf>, StackError> {
    let mut sockets = Vec::new();
    for (entry, args) in &parse(text)?.0 {
        if let Some(Address::Unix(socket)) = nbd_address(entry, args)? {
            sockets.push(socket);
        }
    }
    Ok(sockets)
}

/// Describes all storages and layers with their options, for the user.
pub fn help() -> String {
    let mut text = String::from("Storages:\n");
    for layers in [false, true] {
        if layers {
            text.push_str("\nLayers, each with a slash and what it lies over behind it:\n");
        }
        for entry in kinds::all().filter(|entry| entry.is_layer() == layers) {
            let path = if entry.path { ":PATH" } else { "" };
            writeln!(text, "  {}{path}  {}", entry.name, entry.about)
                .expect("a String takes everything");
            for (option, about) in entry.options {
                writeln!(text, "      {option:18} {about}").expect("a String takes everything");
            }
        }
    }
    text.push_str(
        "\nExamples:\n  throttle:iops=1000/fault:every=100,op=write/file:disk.raw\n  \
         overlay:\"/srv/changes.overlay\"/file:/srv/golden.raw,ro\n  verify/delay:5ms,jitter=1ms/ram:size=1G",
    );
    text
}

#[cfg(test)]
mod tests;
