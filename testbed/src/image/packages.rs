//! Finds out which Debian packages, in which version, make up the image, and
//! fetches them. Only the machine's own apt sources are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::contents::FOLLOW;
use crate::install;

/// Package names with their versions.
pub type Versions = BTreeMap<String, String>;

/// Names for one package; the first one that the machine's apt sources know is taken.
pub type Alternatives = &'static [&'static str];

/// What apt knows of a package: the version it would install, and on what it depends.
struct Record {
    version: String,
    depends: Vec<String>,
}

/// Resolves `packages` and their followed dependencies to versions. Brings
/// apt's lists up to date once when they do not know a package. `folder` is
/// where apt may keep its own digest of the lists, which saves seconds.
pub fn resolve(folder: &Path, packages: &[Alternatives]) -> Result<Versions> {
    fs::create_dir_all(folder)?;
    match resolve_now(folder, packages) {
        Ok(versions) => Ok(versions),
        Err(first) => {
            install::update_lists().with_context(|| format!("{first:#}"))?;
            resolve_now(folder, packages)
        }
    }
}

fn resolve_now(folder: &Path, packages: &[Alternatives]) -> Result<Versions> {
    let first: Vec<&str> = packages.iter().copied().flatten().copied().collect();
    let mut found = show(folder, &first)?;
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
        let next: BTreeSet<String> = found.values().flat_map(|record| record.depends.iter().cloned()).collect();
        versions.extend(found.into_iter().map(|(name, record)| (name, record.version)));
        let next: Vec<&str> =
            next.iter().map(String::as_str).filter(|name| followed(name) && !versions.contains_key(*name)).collect();
        found = show(folder, &next)?;
    }
    Ok(versions)
}

fn followed(name: &str) -> bool {
    FOLLOW.iter().any(|prefix| name.starts_with(prefix))
}

/// What apt knows of `names`; those it does not know are left out.
fn show(folder: &Path, names: &[&str]) -> Result<BTreeMap<String, Record>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let digest = |kind| format!("Dir::Cache::{kind}={}", folder.join(format!("{kind}.bin")).display());
    let output = Command::new("apt-cache")
        .args(["-o", &digest("pkgcache"), "-o", &digest("srcpkgcache"), "show", "--no-all-versions"])
        .args(names)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run apt-cache: the emulated host is made of Debian packages, so a Debian or Ubuntu machine is needed")?;
    // It exits with an error when one name of many is unknown.
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// The records that `apt-cache show` prints; the first one of a name counts.
fn parse(text: &str) -> BTreeMap<String, Record> {
    let mut found = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { continue };
        let depends = [field("Pre-Depends"), field("Depends")].into_iter().flatten().flat_map(depended).collect();
        found.entry(name.to_string()).or_insert(Record { version: version.to_string(), depends });
    }
    found
}

/// The names in a dependency field, alternatives included.
fn depended(field: &str) -> impl Iterator<Item = String> + '_ {
    field.split([',', '|']).filter_map(|item| {
        let name = item.split_whitespace().next()?;
        Some(name.split(':').next().unwrap_or(name).to_string())
    })
}

/// Makes sure that every package lies in `folder`, and returns the paths.
pub fn download(folder: &Path, versions: &Versions) -> Result<Vec<PathBuf>> {
    let missing: Vec<_> = versions.iter().filter(|(name, version)| find(folder, name, version).is_none()).collect();
    if !missing.is_empty() {
        let arguments: Vec<String> = missing.iter().map(|(name, version)| format!("{name}={version}")).collect();
        fetch(folder, &arguments).or_else(|first| {
            // The lists may name a version that the archive has replaced.
            install::update_lists().with_context(|| format!("{first:#}"))?;
            fetch(folder, &arguments)
        })?;
    }
    versions
        .iter()
        .map(|(name, version)| {
            find(folder, name, version)
                .with_context(|| format!("apt-get download {name}={version} left no package behind"))
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

fn fetch(folder: &Path, arguments: &[String]) -> Result<()> {
    let partial = folder.join("partial");
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let output = Command::new("apt-get")
        .args(["download", "-q", "-o", "APT::Sandbox::User=root"])
        .args(arguments)
        .current_dir(&partial)
        .output()
        .context("cannot run apt-get")?;
    ensure!(output.status.success(), "apt-get download failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    for entry in fs::read_dir(&partial)? {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    if fs::read_dir(folder)?.next().is_none() {
        bail!("apt-get download left {} empty", folder.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names_without_versions() {
        let found: Vec<_> = depended("libc6 (>= 2.36), liba1 | libb2:any, tool").collect();
        assert_eq!(found, ["libc6", "liba1", "libb2", "tool"]);
    }

    #[test]
    fn the_first_record_of_a_package_counts() {
        let text = "Package: a\nArchitecture: amd64\nVersion: 1:2-3\nPre-Depends: p\nDepends: q\n\n\
                    Package: a\nVersion: 1\n\nPackage: b\nVersion: 7\n";
        let found = parse(text);
        assert_eq!(found["a"].version, "1:2-3");
        assert_eq!(found["a"].depends, ["p", "q"]);
        assert_eq!(found["b"].version, "7");
    }

    #[test]
    fn only_what_the_lists_say_is_followed() {
        assert!(followed("libc6") && followed("linux-modules-6") && !followed("python3"));
    }
}
