//! Reads Debian packages into memory: what they hold, by path.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cpio::Node;

/// Files of packages by path, in the merged-/usr form (`usr/lib/…`, never `lib/…`).
pub type Files = HashMap<String, Node>;

/// Adds to `files` those of the package at `deb` whose path `wanted` accepts.
pub fn read(deb: &Path, files: &mut Files, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let pipe = child.stdout.take().context("dpkg-deb without output")?;
    read_tar(pipe, files, wanted).with_context(|| format!("cannot unpack {}", deb.display()))?;
    ensure!(
        child.wait()?.success(),
        "dpkg-deb could not read {}: delete it and try again",
        deb.display()
    );
    Ok(())
}

fn read_tar(input: impl Read, files: &mut Files, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut archive = tar::Archive::new(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged(&entry.path()?.to_string_lossy());
        if !wanted(&path) {
            continue;
        }
        let target = entry.link_name()?.map(|target| target.to_string_lossy().into_owned());
        let node = match (entry.header().entry_type(), target) {
            (tar::EntryType::Regular, _) => {
                let mut data = Vec::new();
                entry.read_to_end(&mut data)?;
                Node::File(entry.header().mode()?, data)
            }
            (tar::EntryType::Symlink, Some(target)) => Node::Link(target),
            (tar::EntryType::Link, Some(target)) => match files.get(&merged(&target)) {
                Some(node) => node.clone(),
                None => continue,
            },
            _ => continue,
        };
        files.insert(path, node);
    }
    // The rest of the padding, or dpkg-deb dies of a broken pipe.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    Ok(())
}

/// `./lib/x` and `/lib/x` are `usr/lib/x`.
pub fn merged(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    let top = path.split('/').next().unwrap_or_default();
    match top {
        "bin" | "sbin" | "lib" | "lib64" => format!("usr/{path}"),
        _ => path.to_string(),
    }
}

/// Returns true if `path` fits `pattern`, where `*` stands for any text without `/`.
pub fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, rest)) => path.strip_prefix(start).is_some_and(|tail| {
            let end = tail.find('/').unwrap_or(tail.len());
            (0..=end).any(|at| tail.is_char_boundary(at) && fits(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_merged() {
        assert_eq!(merged("./lib/modules/x"), "usr/lib/modules/x");
        assert_eq!(merged("./usr/bin/y"), "usr/bin/y");
        assert_eq!(merged("./library"), "library");
    }

    #[test]
    fn stars_stay_within_a_component() {
        assert!(fits("usr/lib/xen-*/bin/xl", "usr/lib/xen-4.17/bin/xl"));
        assert!(fits("etc/*", "etc/a") && !fits("etc/*", "etc/a/b"));
        assert!(fits("a*c*e", "abcde") && !fits("a*c*e", "abde"));
    }
}
