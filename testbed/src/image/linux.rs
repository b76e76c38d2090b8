//! A Linux guest: a kernel and a small root with libxenvchan and what makes
//! filesystems, to which our own programs are added. Built from packages and
//! cached like dom0's image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::Alternatives;
use super::suite::Suite;
use super::unpack::Files;
use super::{Node, Recipe, Tree, cached, is_kernel, kernel, libs, modules};
use crate::progress::Progress;

/// The first program of the guest.
const INIT: &str = include_str!("../../linux/init");

/// The part of it that uses disks.
const BLOCK: &str = include_str!("../../linux/block.sh");

/// Debian's kernel for virtual machines is the smallest that has all of Xen's
/// drivers; libxenvchan comes with Xen's tools.
const PACKAGES: &[Alternatives] = &[
    &["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic"],
    &["busybox-static"],
    &["coreutils"],
    &["xen-system-amd64"],
    &["libgcc-s1"],
    &["e2fsprogs"],
];

const MODULES: &[&str] =
    &["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xen-blkfront", "ext4"];

/// A checksum that ext4 asks for by name, in kernels that have it as a module.
const CHECKSUM: &str = "crc32c_generic";

const FILES: &[&str] = &["usr/bin/busybox", "usr/bin/dd", "usr/sbin/mke2fs", "etc/mke2fs.conf"];

const DIRECTORIES: &[&str] = &[
    "dev",
    "etc",
    "mnt",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
];

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("usr/bin/mkfs.ext4", "../sbin/mke2fs"),
    ("etc/mtab", "/proc/mounts"),
];

const RECIPE: Recipe = Recipe {
    about: "the Linux guest's image",
    name: "image-linux",
    packages: PACKAGES,
    inputs: &[
        INIT,
        BLOCK,
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

/// Returns the guest made of `suite`, built now if it is not cached.
pub fn ready(suite: Suite, progress: &Progress) -> Result<Linux> {
    Ok(Linux::at(&cached(&RECIPE, suite, progress)?))
}

fn wanted(path: &str) -> bool {
    is_kernel(path) || modules::is_wanted(path) || libs::is_library(path) || FILES.contains(&path)
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let guest = Linux::at(folder);
    let (release, data) = kernel(files)?;
    fs::write(guest.kernel, data)?;
    let mut tree = Tree::default();
    DIRECTORIES.iter().for_each(|path| tree.insert(path, Node::Directory));
    LINKS.iter().for_each(|(path, target)| tree.insert(path, Node::Link(target.to_string())));
    tree.insert("dev/console", Node::Device(5, 1));
    tree.insert("init", Node::File(0o755, INIT.as_bytes().to_vec()));
    tree.insert("block.sh", Node::File(0o644, BLOCK.as_bytes().to_vec()));
    for path in FILES {
        if let Some(node) = files.get(*path) {
            tree.insert(path, node.clone());
        }
    }
    libs::add(&mut tree, files)?;
    let checksum = files.keys().any(|path| path.contains(&format!("/{CHECKSUM}.ko")));
    let names = [MODULES, if checksum { &[CHECKSUM] } else { &[] }].concat();
    modules::add(&mut tree, files, &release, &names)?;
    fs::write(guest.root, tree.archive())?;
    Ok(())
}
