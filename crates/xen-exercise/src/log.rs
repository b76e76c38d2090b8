//! Results: TAP version 14 on the console, one line of JSON for each test in a comment.

use crate::environment::{Environment, Error};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Arguments};

/// Number of failures of one test that are shown; the others are counted.
const SHOWN: usize = 12;

/// Checks of one test.
pub struct Log<'a> {
    env: &'a dyn Environment,
    checks: u32,
    failed: u32,
    shown: Vec<String>,
}

impl<'a> Log<'a> {
    /// Creates an empty log.
    pub fn new(env: &'a dyn Environment) -> Self {
        Log { env, checks: 0, failed: 0, shown: Vec::new() }
    }

    /// Prints a remark.
    pub fn note(&self, text: Arguments<'_>) {
        self.env.print(format_args!("# {text}\n"));
    }

    /// Counts a check, and a failure if it is not `ok`, which `what` describes.
    pub fn check(&mut self, ok: bool, what: Arguments<'_>) -> bool {
        self.checks += 1;
        if !ok {
            self.failed += 1;
            if self.shown.len() < SHOWN {
                self.shown.push(what.to_string());
            }
        }
        ok
    }

    /// Counts a check of something that has to succeed.
    pub fn works<T>(&mut self, result: Result<T, Error>, what: Arguments<'_>) -> Option<T> {
        match result {
            Ok(value) => {
                self.checks += 1;
                Some(value)
            }
            Err(why) => {
                self.check(false, format_args!("{what}: {why}"));
                None
            }
        }
    }

    /// Returns the number of failed checks.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Returns the number of checks.
    pub fn checks(&self) -> u32 {
        self.checks
    }

    /// Returns the failures that are shown.
    pub fn shown(&self) -> &[String] {
        &self.shown
    }
}

/// Shows the end of a request.
pub struct Ended<'a>(pub &'a Result<(), Error>);

impl fmt::Display for Ended<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(()) => f.write_str("success"),
            Err(why) => write!(f, "{why}"),
        }
    }
}

/// Text as a JSON string, with its quotation marks.
pub struct Json<'a>(pub &'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(Json("a \"b\" \\ \n").to_string(), r#""a \"b\" \\ \u000a""#);
    }
}
