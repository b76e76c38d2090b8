//! The parts that the tools for dom0 share: exit codes, domains by name, output, progress bars,
//! their version, manual pages and completions.
#![forbid(unsafe_code)]

mod domain;
mod failure;
mod hexdump;
mod man;
mod output;
mod progress;
mod xenstore;

pub use domain::{DomainArgument, find_domain, is_gone, is_refusal, resolve_domain};
pub use failure::{Code, Failure};
pub use hexdump::hexdump;
pub use man::Page;
pub use output::{print, report};
pub use progress::{Bar, Progress};
pub use xenstore::{answered, answered_until};

use clap::Command;
use clap_complete::Shell;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

/// The version of the workspace, and the commit if the build was told it: `make` sets
/// `RINGSIDE_COMMIT`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("RINGSIDE_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_string(),
    }
});

/// Returns what `--version` prints behind a tool's name.
pub fn version() -> &'static str {
    VERSION.as_str()
}

/// Writes the manual pages of `command` (`vchan.8`, `vchan-connect.8`, ...) and its completions for
/// bash, zsh and fish into `dir`, which exists.
pub fn generate(command: &Command, page: &Page, dir: &Path) -> Result<(), Failure> {
    write_all(command, page, dir).map_err(|error| {
        Failure::other(format!("cannot write to the folder {}: {error}", dir.display()))
    })
}

fn write_all(command: &Command, page: &Page, dir: &Path) -> io::Result<()> {
    man::write(command.clone(), page, dir)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let name = command.get_name().to_string();
        clap_complete::generate_to(shell, &mut command.clone(), name, dir)?;
    }
    Ok(())
}
