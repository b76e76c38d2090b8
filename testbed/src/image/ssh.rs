//! A part of dom0's root and of the Linux guest's that only some want: OpenSSH's client, and
//! dropbear as a server that one connection needs and no other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages::Alternatives;
use super::suite::Suite;
use super::unpack::Files;
use super::{Recipe, Tree, cached, libs};
use crate::progress::Progress;

const PACKAGES: &[Alternatives] =
    &[&["openssh-client"], &["dropbear-bin"], &["libgcc-s1"], &["zlib1g"]];

const FILES: &[&str] =
    &["usr/bin/ssh", "usr/bin/ssh-keygen", "usr/sbin/dropbear", "usr/bin/dropbearkey"];

const RECIPE: Recipe = Recipe {
    about: "the hosts' ssh",
    name: "image-ssh",
    packages: PACKAGES,
    inputs: &[include_str!("ssh.rs"), include_str!("contents.rs"), include_str!("libs.rs")],
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
    libs::is_library(path) || FILES.contains(&path)
}

fn build(files: &Files, folder: &Path) -> Result<()> {
    let mut tree = Tree::default();
    for (path, node) in files.iter().filter(|(path, _)| FILES.contains(&path.as_str())) {
        tree.insert(path, node.clone());
    }
    libs::add(&mut tree, files)?;
    fs::write(archive(folder), tree.archive())?;
    Ok(())
}
