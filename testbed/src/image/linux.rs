//! A Linux guest: a kernel and a small root with libxenvchan, to which our own
//! programs are added. Built from packages and cached like dom0's image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::Alternatives;
use super::unpack::Files;
use super::{Node, Recipe, Tree, cached, libs, modules, newest};
use crate::progress::Progress;

/// The first program of the guest.
const INIT: &str = include_str!("../../linux/init");

/// Debian's kernel for virtual machines is the smallest that has all of Xen's
/// drivers; libxenvchan comes with Xen's tools.
const PACKAGES: &[Alternatives] = &[
    &["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic"],
    &["busybox-static"],
    &["xen-system-amd64"],
    &["libgcc-s1"],
];

const MODULES: &[&str] = &["xen-evtchn", "xen-gntdev", "xen-gntalloc"];

const BUSYBOX: &str = "usr/bin/busybox";

const DIRECTORIES: &[&str] = &["dev", "proc", "root", "sys", "tmp", "usr/bin", "usr/lib", "usr/lib64"];

const LINKS: &[(&str, &str)] = &[("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

const RECIPE: Recipe = Recipe {
    about: "the Linux guest's image",
    name: "image-linux",
    packages: PACKAGES,
    inputs: &[
        INIT,
        include_str!("linux.rs"),
        include_str!("contents.rs"),
        include_str!("libs.rs"),
        include_str!("modules.rs"),
    ],
    wanted,
    build,
};

/// The two files that the guest boots from.
pub struct Linux {
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its root without our own programs.
    pub root: PathBuf,
}

impl Linux {
    fn at(folder: &Path) -> Linux {
        Linux { kernel: folder.join("vmlinuz"), root: folder.join("root.cpio") }
    }
}

/// The guest for the package versions of today, built now if it is not cached.
pub fn ready(progress: &Progress) -> Result<Linux> {
    Ok(Linux::at(&cached(&RECIPE, progress)?))
}

fn wanted(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-") || modules::is_module(path) || libs::is_library(path) || path == BUSYBOX
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let guest = Linux::at(folder);
    let (release, kernel) = newest(files, "boot/vmlinuz-")?;
    fs::write(guest.kernel, kernel)?;
    let mut tree = Tree::default();
    DIRECTORIES.iter().for_each(|path| tree.insert(path, Node::Directory));
    LINKS.iter().for_each(|(path, target)| tree.insert(path, Node::Link(target.to_string())));
    tree.insert("dev/console", Node::Device(5, 1));
    tree.insert("init", Node::File(0o755, INIT.as_bytes().to_vec()));
    if let Some(node) = files.get(BUSYBOX) {
        tree.insert(BUSYBOX, node.clone());
    }
    libs::add(&mut tree, files)?;
    modules::add(&mut tree, files, &release, MODULES)?;
    fs::write(guest.root, tree.archive())?;
    Ok(())
}
