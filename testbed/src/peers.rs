//! Compiles the C programs of `testbed/peers/`, which meet our side of the
//! protocols as others wrote theirs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;

/// Each program with the libraries it is linked with.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("vchan-client", &["-lxenvchan"]),
    ("vchan-echo", &["-lxenvchan"]),
    ("vchan-bench", &["-lxenvchan"]),
    ("vchan-attack", &["-lxenevtchn", "-lxengnttab", "-lxenstore"]),
    ("vchan-rogue", &["-lxenevtchn", "-lxengnttab", "-lxenstore"]),
    ("local-client", &[]),
    ("capitals", &[]),
    ("pieces", &[]),
    ("cpu-time", &["-lxenctrl"]),
    ("blk-stamp", &[]),
    ("blk-sum", &[]),
    ("blk-bench", &[]),
    ("blk-watch", &["-lxenctrl"]),
];

/// Makes sure that the programs of the folder `source` are in the folder
/// `built`, up to date.
pub fn build(source: &Path, built: &Path) -> Result<()> {
    fs::create_dir_all(built).with_context(|| format!("cannot create {}", built.display()))?;
    for (name, libraries) in PROGRAMS {
        let code = source.join(name).with_extension("c");
        let program = built.join(name);
        if age(&program)? > age(&code)? {
            continue;
        }
        install::program("gcc", "gcc libc6-dev")?;
        install::file("/usr/include/xenctrl.h", "libxen-dev")?;
        let output = Command::new("gcc")
            .args(["-O3", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&program, &code])
            .args(*libraries)
            .output()
            .context("cannot run gcc")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot compile {}:\n{errors}", code.display());
    }
    Ok(())
}

/// When a file was last written; none sorts before all.
fn age(path: &Path) -> Result<Option<std::time::SystemTime>> {
    match fs::metadata(path) {
        Ok(data) => Ok(Some(data.modified()?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}
