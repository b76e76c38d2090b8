//! Installs what is missing on the build machine, through apt-get, and says so.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// Makes sure that `program` can be run, by installing `names` if needed.
pub fn program(program: &str, names: &str) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    packages(&names.split(' ').collect::<Vec<_>>())?;
    ensure!(on_path(program), "{names} is installed, but {program} is not on PATH");
    Ok(())
}

/// Makes sure that `path` exists, by installing `package` if needed.
pub fn file(path: &str, package: &str) -> Result<()> {
    if !Path::new(path).exists() {
        packages(&[package])?;
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn packages(names: &[&str]) -> Result<()> {
    ensure!(
        on_path("apt-get"),
        "{} is missing and there is no apt-get here to install it: install it by hand, then try again",
        names.join(", ")
    );
    eprintln!("testbed: installing {} (apt-get)", names.join(" "));
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    if apt_get(&[&install[..], names].concat()).is_err() {
        update_lists()?;
        apt_get(&[&install[..], names].concat())?;
    }
    Ok(())
}

/// Runs `apt-get update`, at most once per process.
pub fn update_lists() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) {
        bail!("apt's package lists are up to date and do not help");
    }
    eprintln!("testbed: bringing apt's package lists up to date (apt-get update)");
    apt_get(&["update", "-q"])
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    ensure!(root || on_path("sudo"), "run as root or install sudo: 'apt-get {}' needs it", arguments.join(" "));
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        // sudo drops the environment, so it is set behind it.
        command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    }
    let output = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .output()
        .context("cannot run apt-get")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "'apt-get {}' failed:\n{}", arguments.join(" "), errors.trim());
    Ok(())
}
