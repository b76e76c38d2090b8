//! Programs that must be installed on this machine: `testbed/setup.sh` knows, and installs it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::artefacts;

/// Makes sure that what boots an emulated host is installed.
pub fn emulator() -> Result<()> {
    run("test")
}

/// Makes sure that what the long tests need is installed.
pub fn full() -> Result<()> {
    run("full")
}

fn run(purpose: &str) -> Result<()> {
    let script = artefacts::root()?.join("testbed/setup.sh");
    let status = Command::new(&script).arg(purpose).status();
    let status = status.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(status.success(), "{} {purpose} failed", script.display());
    Ok(())
}

/// Makes sure that `program` is on PATH, which only some packages are unpacked with.
pub fn require(program: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    ensure!(found, "{program} is missing: install the package of that name, then try again");
    Ok(())
}
