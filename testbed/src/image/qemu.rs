//! A part of dom0's root that only some want: QEMU as libxl starts it for qdisk,
//! and `qemu-img`. Built from packages and cached by itself, since it is larger
//! than all of the rest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::Alternatives;
use super::suite::Suite;
use super::unpack::{self, Files};
use super::{Recipe, Tree, cached, libs};
use crate::progress::Progress;

/// The program with its keymaps, and the one for images.
const PACKAGES: &[Alternatives] = &[&["qemu-system-xen"], &["qemu-system-data"], &["qemu-utils"]];

const FILES: &[&str] =
    &["usr/libexec/xen-qemu-system-i386", "usr/bin/qemu-img", "usr/share/qemu/keymaps/en-us"];

const RECIPE: Recipe = Recipe {
    about: "dom0's QEMU",
    name: "image-qemu",
    packages: PACKAGES,
    inputs: &[include_str!("qemu.rs"), include_str!("contents.rs"), include_str!("libs.rs")],
    wanted,
    build,
};

/// Returns the archive made of `suite`, built now if it is not cached.
pub fn ready(suite: Suite, progress: &Progress) -> Result<PathBuf> {
    Ok(archive(&cached(&RECIPE, suite, progress)?))
}

fn archive(folder: &Path) -> PathBuf {
    folder.join("root.cpio")
}

fn wanted(path: &str) -> bool {
    libs::is_library(path) || FILES.iter().any(|pattern| unpack::fits(pattern, path))
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let mut tree = Tree::default();
    for (path, node) in
        files.iter().filter(|(path, _)| FILES.iter().any(|pattern| unpack::fits(pattern, path)))
    {
        tree.insert(path, node.clone());
    }
    libs::add(&mut tree, files)?;
    fs::write(archive(folder), tree.archive())?;
    Ok(())
}
