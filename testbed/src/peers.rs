//! Compiles the C programs of `testbed/peers/`, which meet our side of the
//! protocols as others wrote theirs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Each program with the libraries it is linked with.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("vchan-abi", &[]),
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

/// Returns true if this machine has what the programs are compiled with.
pub fn can_be_built_here() -> bool {
    Path::new("/usr/include/xenctrl.h").exists()
}

/// Makes sure that the programs of the folder `source` are in the folder `built`, up to date. They
/// are linked with the libraries below `sysroot`, so that they run where those come from; without
/// one, with this machine's.
pub fn build(source: &Path, built: &Path, sysroot: Option<&Path>) -> Result<()> {
    fs::create_dir_all(built).with_context(|| format!("cannot create {}", built.display()))?;
    for (name, libraries) in PROGRAMS {
        let code = source.join(name).with_extension("c");
        let program = built.join(name);
        let libraries_age = sysroot.map(age).transpose()?.flatten();
        if age(&program)? > age(&code)?.max(libraries_age) {
            continue;
        }
        let output = Command::new("gcc")
            .args(sysroot.map(inside).into_iter().flatten())
            .args(["-O3", "-Wall", "-Wextra", "-o"])
            .args([&program, &code])
            .args(*libraries)
            .output()
            .context("cannot run gcc, which testbed/setup.sh installs")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot compile {}:\n{errors}", code.display());
    }
    Ok(())
}

/// Returns the options by which gcc takes headers, start files and libraries from `sysroot`. Alone,
/// `--sysroot` leaves it those beside gcc itself.
fn inside(sysroot: &Path) -> [String; 3] {
    let folder = sysroot.display();
    let libraries = format!("{folder}/usr/lib/x86_64-linux-gnu");
    [format!("--sysroot={folder}"), format!("-B{libraries}"), format!("-L{libraries}")]
}

/// Returns the time at which a file was last written; none sorts before all.
fn age(path: &Path) -> Result<Option<std::time::SystemTime>> {
    match fs::metadata(path) {
        Ok(data) => Ok(Some(data.modified()?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}
