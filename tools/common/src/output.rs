//! Standard output and standard error.

use crate::Failure;
use std::io::{self, Write};

/// Writes a line to standard error, if it is still open.
pub fn report(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a result to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::other(format!("cannot write to standard output: {error}")))
}
