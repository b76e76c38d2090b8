//! `xen-disk`: serves virtual disks to running domains. See `xen-disk --help`.
#![deny(unsafe_code)]

mod host;

use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;
use xen_disk::{Arguments, Code, Failure};

fn main() -> ExitCode {
    match host::run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("xen-disk: {failure}"));
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Tells the user, if there is still a standard error to tell it on.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a result.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| Failure::new(Code::Other, format!("cannot write to standard output: {error}")))
}
