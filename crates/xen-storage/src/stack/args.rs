//! The words that follow the name of a storage or a layer.

use super::kinds::Entry;
use super::{StackError, parse_duration, parse_size};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A path and options, all known to the one they belong to.
#[derive(Debug)]
pub struct Args {
    /// The text, for messages.
    pub part: String,
    path: Option<String>,
    options: BTreeMap<String, Option<String>>,
}

/// The length of what is before the next slash that is not within quotes.
pub fn until_slash(text: &str) -> usize {
    let mut quoted = false;
    text.find(|c| {
        quoted ^= c == '"';
        c == '/' && !quoted
    })
    .unwrap_or(text.len())
}

/// The pieces between the commas that are not within quotes.
fn pieces(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .collect()
}

impl Args {
    /// Takes apart what belongs to `entry`.
    pub fn parse(entry: &Entry, text: &str) -> Result<Self, StackError> {
        let part =
            if text.is_empty() { entry.name.to_string() } else { format!("{}:{text}", entry.name) };
        let mut args = Args { part, path: None, options: BTreeMap::new() };
        if text.matches('"').count() % 2 == 1 {
            return Err(args.wrong("a quote is not closed"));
        }
        let pieces = if text.is_empty() { Vec::new() } else { pieces(text) };
        for (n, piece) in pieces.into_iter().enumerate() {
            let (name, value) = match piece.split_once('=') {
                Some((name, value)) => (name, Some(value.replace('"', ""))),
                None => (piece, None),
            };
            let known =
                entry.options.iter().any(|(option, _)| option.split('=').next() == Some(name));
            if known {
                if args.options.insert(name.to_string(), value).is_some() {
                    return Err(args.wrong(format!("{name} is given twice")));
                }
            } else if n == 0 && (entry.path || entry.first.is_some()) {
                let value = piece.replace('"', "");
                match entry.first {
                    Some(option) => drop(args.options.insert(option.to_string(), Some(value))),
                    None => args.path = Some(value),
                }
            } else {
                let names: Vec<&str> = entry.options.iter().map(|(option, _)| *option).collect();
                let names = if names.is_empty() { "no options".into() } else { names.join(", ") };
                return Err(
                    args.wrong(format!("{} has no option {name:?}; it has {names}", entry.name))
                );
            }
        }
        if entry.path && args.path.as_ref().is_none_or(String::is_empty) {
            return Err(args.wrong(format!("a path must follow: {}:PATH", entry.name)));
        }
        Ok(args)
    }

    /// The path, of an entry that needs one.
    pub fn path(&self) -> PathBuf {
        self.path.as_ref().expect("checked when it was parsed").into()
    }

    /// An option that is there or not.
    pub fn flag(&self, name: &str) -> Result<bool, StackError> {
        match self.options.get(name) {
            Some(Some(_)) => Err(self.wrong(format!("{name} takes no value"))),
            found => Ok(found.is_some()),
        }
    }

    /// An option's value as it is written.
    pub fn text(&self, name: &str) -> Result<Option<&str>, StackError> {
        match self.options.get(name) {
            Some(Some(value)) if !value.is_empty() => Ok(Some(value)),
            Some(_) => Err(self.wrong(format!("{name} needs a value: {name}=..."))),
            None => Ok(None),
        }
    }

    fn with<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, StackError> {
        self.text(name)?
            .map(|text| parse(text).map_err(|wrong| self.wrong(format!("{name}: {wrong}"))))
            .transpose()
    }

    /// A size in bytes.
    pub fn size(&self, name: &str) -> Result<Option<u64>, StackError> {
        self.with(name, parse_size)
    }

    /// A time.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, StackError> {
        self.with(name, parse_duration)
    }

    /// A number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, StackError> {
        self.with(name, |text| {
            text.parse().map_err(|_| format!("{text:?} is no number that is possible here"))
        })
    }

    /// The bytes of a sector.
    pub fn sector_size(&self) -> Result<u32, StackError> {
        match self.number("sector")? {
            None | Some(512) => Ok(512),
            Some(4096) => Ok(4096),
            Some(other) => {
                Err(self.wrong(format!("sector={other}: only 512 and 4096 are possible")))
            }
        }
    }

    /// Returns the error that this part is wrong, as `text` says.
    pub fn wrong(&self, text: impl Into<String>) -> StackError {
        StackError::syntax(&self.part, text)
    }
}
