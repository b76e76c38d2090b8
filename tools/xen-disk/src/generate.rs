//! `xen-disk generate`: manual pages and shell completions, for packages.

use crate::{Arguments, Failure};
use clap::CommandFactory;
use clap_complete::Shell;
use std::io;
use std::path::Path;

/// Writes a manual page for the program and one for each command (`xen-disk.1`, `xen-disk-connect.1`, ...), and
/// completions for bash, zsh and fish, into `dir`, which exists.
pub fn generate(dir: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::other(format!("cannot write to the folder {}: {error}", dir.display()));
    clap_mangen::generate_to(Arguments::command(), dir).map_err(failed)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Arguments::command(), "xen-disk", dir).map_err(failed)?;
    }
    Ok(())
}
