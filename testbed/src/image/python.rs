//! A part of dom0's root that only some want: Python with ctypes, for programs that call our
//! libxenvchan.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::Alternatives;
use super::suite::Suite;
use super::unpack::{Files, fits};
use super::{Node, Recipe, Tree, cached, libs};
use crate::progress::Progress;

const PACKAGES: &[Alternatives] = &[&["python3-minimal"], &["libpython3-stdlib"], &["libgcc-s1"]];

/// The part of the standard library that ctypes needs (`*` matches within one path component).
const FILES: &[&str] = &[
    "usr/bin/python3*",
    "usr/lib/python3.*/*.py",
    "usr/lib/python3.*/collections/*.py",
    "usr/lib/python3.*/ctypes/*.py",
    "usr/lib/python3.*/encodings/*.py",
    "usr/lib/python3.*/importlib/*.py",
    "usr/lib/python3.*/re/*.py",
    "usr/lib/python3.*/lib-dynload/_ctypes.*",
];

const RECIPE: Recipe = Recipe {
    about: "dom0's Python",
    name: "image-python",
    packages: PACKAGES,
    inputs: &[include_str!("python.rs"), include_str!("contents.rs"), include_str!("libs.rs")],
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

fn is_file(path: &str) -> bool {
    FILES.iter().any(|pattern| fits(pattern, path))
}

fn wanted(path: &str) -> bool {
    libs::is_library(path) || is_file(path)
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let mut tree = Tree::default();
    let kept = |node: &Node| matches!(node, Node::File(..) | Node::Link(_));
    for (path, node) in files.iter().filter(|(path, node)| is_file(path) && kept(node)) {
        tree.insert(path, node.clone());
    }
    libs::add(&mut tree, files)?;
    fs::write(archive(folder), tree.archive())?;
    Ok(())
}
