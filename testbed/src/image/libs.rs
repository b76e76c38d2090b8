//! Finds the shared libraries that programs need, by reading their headers.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;

use super::contents::LOADED_LATE;
use super::cpio::{Node, Tree};
use super::unpack::{Files, fits};

/// Adds to `tree` every library of `files` that something in `tree` needs,
/// and the dynamic loader.
pub fn add(tree: &mut Tree, files: &Files) -> Result<()> {
    let shelf = shelf(files);
    let late = |name: &&str| LOADED_LATE.iter().any(|pattern| fits(pattern, name));
    let mut wanted: BTreeSet<String> =
        shelf.keys().copied().filter(late).map(str::to_string).collect();
    for (_, node) in tree.iter() {
        if let Node::File(_, data) = node {
            wanted.extend(needs(data));
        }
    }
    let mut done = BTreeSet::new();
    while let Some(name) = wanted.pop_first() {
        if !done.insert(name.clone()) {
            continue;
        }
        let path = shelf.get(name.as_str()).with_context(|| {
            format!(
                "no package holds {name}: name the one that does in testbed/src/image/contents.rs"
            )
        })?;
        let data = follow(files, path)?;
        wanted.extend(needs(data));
        // Under the name that was asked for, so that no chain of links is needed.
        tree.insert(path, Node::File(0o755, data.to_vec()));
    }
    Ok(())
}

/// Path at which each library name is found.
fn shelf(files: &Files) -> HashMap<&str, &str> {
    let mut paths: Vec<&str> =
        files.keys().map(String::as_str).filter(|path| is_library(path)).collect();
    // The loader is found in lib64 and elsewhere; the shorter path wins.
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths.into_iter().filter_map(|path| Some((path.rsplit('/').next()?, path))).collect()
}

/// Returns true if `path` is that of a shared library on the loader's own search path.
pub fn is_library(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    name.contains(".so") && matches!(folder, "lib" | "lib64" | "x86_64-linux-gnu")
}

/// The contents at `path`, through links.
fn follow<'a>(files: &'a Files, path: &'a str) -> Result<&'a [u8]> {
    let mut at = path;
    for _ in 0..8 {
        match files.get(at) {
            Some(Node::File(_, data)) => return Ok(data),
            Some(Node::Link(target)) => {
                let name = target.rsplit('/').next().unwrap_or(target);
                at = files
                    .keys()
                    .find(|other| {
                        is_library(other) && other.rsplit('/').next() == Some(name) && *other != at
                    })
                    .with_context(|| format!("{at} points to {target}, which no package holds"))?;
            }
            _ => break,
        }
    }
    bail!("{path} leads nowhere")
}

/// Names of the libraries (and of the loader) that an ELF file asks for; none
/// for anything else.
fn needs(data: &[u8]) -> Vec<String> {
    let Ok(elf) = Elf::parse(data) else { return Vec::new() };
    let loader = elf.interpreter.and_then(|path| path.rsplit('/').next());
    elf.libraries.iter().copied().chain(loader).map(str::to_string).collect()
}
