//! Finds out which packages, in which version, make up an image, and fetches them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::apt::Apt;
use super::contents::FOLLOW;

/// Package names with their versions.
pub type Versions = BTreeMap<String, String>;

/// Names for one package; the first one that apt knows is taken.
pub type Alternatives = &'static [&'static str];

/// The packages of an image.
pub struct Packages {
    /// Each with its version.
    pub versions: Versions,
    /// Paths of their files; empty if they are not needed.
    pub paths: Vec<PathBuf>,
}

/// Resolves `names` and their followed dependencies to versions, and makes sure that the packages
/// lie in the folder `debs` unless `is_built` says that nobody needs them.
///
/// Lists can name packages that the archive has replaced meanwhile. So if anything fails, the lists
/// are brought up to date once and everything is resolved anew: nothing that was read from the old
/// lists is used with the new ones. A mirror can also have the lists of security fixes without
/// their packages: then the release alone is used.
pub fn obtain(
    apt: &Apt,
    debs: &Path,
    names: &[Alternatives],
    is_built: impl Fn(&Versions) -> bool,
) -> Result<Packages> {
    let attempt = || {
        let versions = resolve(apt, names)?;
        let paths = if is_built(&versions) { Vec::new() } else { download(apt, debs, &versions)? };
        Ok(Packages { versions, paths })
    };
    let mut updated = apt.is_outdated();
    if updated && let Err(error) = apt.update() {
        eprintln!("testbed: going on with older package lists: {error:#}");
        updated = false;
    }
    let mut found = attempt();
    if let Err(first) = &found
        && !updated
    {
        eprintln!("testbed: bringing the package lists up to date");
        apt.update().with_context(|| format!("{first:#}"))?;
        found = attempt();
    }
    if let Err(why) = &found
        && resolve(apt, names).is_ok()
        && apt.leave_fixes_out().with_context(|| format!("{why:#}"))?
    {
        eprintln!("testbed: going on without updates and security fixes: {why:#}");
        found = attempt();
    }
    found
}

/// Returns the versions of `packages` and of their followed dependencies.
fn resolve(apt: &Apt, packages: &[Alternatives]) -> Result<Versions> {
    let first: Vec<&str> = packages.iter().copied().flatten().copied().collect();
    let mut found = apt.show(&first)?;
    for alternatives in packages {
        let mut known = alternatives.iter().filter(|name| found.contains_key(**name));
        ensure!(
            known.next().is_some(),
            "apt knows no package {}: are its sources those of Debian or Ubuntu?",
            alternatives.join(" or ")
        );
        let others: Vec<_> = known.collect();
        others.into_iter().for_each(|name| drop(found.remove(*name)));
    }
    let mut versions = Versions::new();
    while !found.is_empty() {
        let next: BTreeSet<String> =
            found.values().flat_map(|record| record.depends.iter().cloned()).collect();
        versions.extend(found.into_iter().map(|(name, record)| (name, record.version)));
        let next: Vec<&str> = next
            .iter()
            .map(String::as_str)
            .filter(|name| is_followed(name) && !versions.contains_key(*name))
            .collect();
        found = apt.show(&next)?;
    }
    Ok(versions)
}

fn is_followed(name: &str) -> bool {
    FOLLOW.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes sure that every package lies in `folder`, and returns the paths.
fn download(apt: &Apt, folder: &Path, versions: &Versions) -> Result<Vec<PathBuf>> {
    let missing: Vec<String> = versions
        .iter()
        .filter(|(name, version)| find(folder, name, version).is_none())
        .map(|(name, version)| format!("{name}={version}"))
        .collect();
    if !missing.is_empty() {
        // Packages move to their place when they are whole: what an earlier run left behind is not.
        let partial = folder.join("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        apt.download(&missing, &partial)?;
        for entry in fs::read_dir(&partial)? {
            let entry = entry?;
            fs::rename(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    versions
        .iter()
        .map(|(name, version)| {
            find(folder, name, version).with_context(|| {
                format!("apt-get download {name}={version} left no package behind")
            })
        })
        .collect()
}

fn find(folder: &Path, name: &str, version: &str) -> Option<PathBuf> {
    let escaped = version.replace(':', "%3a");
    ["amd64", "all"]
        .map(|arch| folder.join(format!("{name}_{escaped}_{arch}.deb")))
        .into_iter()
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests;
