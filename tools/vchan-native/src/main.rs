//! Measures vchan between two processes of this machine, over shared memory and eventfds: our ends
//! beside Xen's own library, which runs unmodified over stand-ins (`c/`).
//!
//! `make bench-native` builds everything and runs it; docs/performance.md has what it prints.
#![deny(unsafe_code)]

mod clock;
mod copies;
mod machine;
mod native;
#[allow(unsafe_code)]
mod pages;
mod role;
mod run;
mod table;

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The environment variables that hand the descriptors of a machine to its processes.
const MEMORY: &str = "NATIVE_MEMORY";
const SERVER: &str = "NATIVE_SERVER";
const CLIENT: &str = "NATIVE_CLIENT";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["server", ring] => role::serve(ring.parse().context("the ring's size")?),
        ["client"] => role::measure(),
        ["bench", folder] => run::run(Path::new(folder)),
        _ => bail!("usage: vchan-native bench FOLDER, with the folder that c/build.sh filled"),
    }
}
