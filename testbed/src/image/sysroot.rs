//! The headers and libraries of the emulated host's release, to compile our C programs for it: what
//! is linked with this machine's C library need not run there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages::Alternatives;
use super::suite::Suite;
use super::unpack::Files;
use super::{Node, Recipe, cached, libs};
use crate::progress::Progress;

const PACKAGES: &[Alternatives] =
    &[&["libxen-dev"], &["libc6-dev"], &["linux-libc-dev"], &["libc6"]];

/// Folders of which everything is taken, beside the libraries.
const FOLDERS: &[&str] = &["usr/include/", "usr/lib/linux/uapi/"];

const RECIPE: Recipe = Recipe {
    about: "headers and libraries for C programs",
    name: "image-sysroot",
    packages: PACKAGES,
    inputs: &[include_str!("sysroot.rs"), include_str!("contents.rs"), include_str!("libs.rs")],
    wanted,
    build,
};

/// Returns the folder that a C compiler takes as its root, built now if it is not cached.
pub fn ready(suite: Suite, progress: &Progress) -> Result<PathBuf> {
    cached(&RECIPE, suite, progress)
}

fn wanted(path: &str) -> bool {
    FOLDERS.iter().any(|folder| path.starts_with(folder))
        || libs::is_library(path)
        || is_linked(path)
}

/// Returns true if a file is one that only the linker reads: `crt1.o`, `libc_nonshared.a`.
fn is_linked(path: &str) -> bool {
    path.starts_with("usr/lib/x86_64-linux-gnu/") && (path.ends_with(".o") || path.ends_with(".a"))
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    for (path, node) in files {
        let at = folder.join(path);
        let above = at.parent().unwrap_or(folder);
        fs::create_dir_all(above).with_context(|| format!("cannot create {}", above.display()))?;
        match node {
            Node::File(_, data) => fs::write(&at, data),
            Node::Link(target) => symlink(inside(path, target), &at),
            _ => continue,
        }
        .with_context(|| format!("cannot write {}", at.display()))?;
    }
    for name in ["lib", "lib64"] {
        fs::create_dir_all(folder.join("usr").join(name))?;
        symlink(format!("usr/{name}"), folder.join(name))?;
    }
    Ok(())
}

/// Returns the target of the link at `path` so that it stays within the folder.
fn inside(path: &str, target: &str) -> String {
    match target.strip_prefix('/') {
        Some(target) => {
            format!("{}{}", "../".repeat(path.matches('/').count()), super::unpack::merged(target))
        }
        None => target.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_folder() {
        assert_eq!(inside("usr/lib/x/libm.so", "libm.so.6"), "libm.so.6");
        assert_eq!(inside("usr/lib/x/libm.so", "/lib/x/libm.so.6"), "../../../usr/lib/x/libm.so.6");
    }
}
