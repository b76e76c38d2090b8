//! The configuration of `xen-disk serve`.

use crate::args::{parse_outage, parse_units};
use crate::stack::parse_size;
use crate::{Backend, Code, DiskSource, DomainArgument, Failure, OnEnospc, Vdev};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration, or the disks of a command line.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Its file.
    pub path: Option<PathBuf>,
    /// Folders of images that the file may name later.
    pub folders: Vec<PathBuf>,
    /// Its disks.
    pub specs: Vec<Spec>,
}

/// A disk and the domain that it is for.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// The domain.
    pub domain: DomainArgument,
    /// The guest's name for it.
    pub vdev: Option<Vdev>,
    /// Its storage.
    pub source: DiskSource,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vdev {
            Some(vdev) => write!(f, "disk {vdev} of {}", self.domain),
            None => write!(f, "a disk of {}", self.domain),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    folders: Vec<PathBuf>,
    #[serde(default)]
    disk: Vec<Entry>,
}

/// The keys of a disk.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    vm: String,
    vdev: String,
    path: Option<PathBuf>,
    backend: Option<Backend>,
    size: Option<String>,
    #[serde(default)]
    readonly: bool,
    stack: Option<String>,
    units: Option<String>,
    #[serde(default, rename = "on-enospc")]
    on_enospc: OnEnospc,
    #[serde(rename = "on-outage")]
    on_outage: Option<String>,
}

impl Entry {
    /// Returns the disk that they describe.
    pub fn spec(self) -> Result<Spec, String> {
        let Entry { vm, vdev, path, backend, size, readonly, stack, units, .. } = self;
        let (on_enospc, take_over) = (self.on_enospc, false);
        let on_outage = self.on_outage.map(|action| parse_outage(&action)).transpose()?;
        let size = size.map(|size| parse_size(&size)).transpose()?;
        let units = units.map(|units| parse_units(&units)).transpose()?;
        let source = DiskSource {
            path,
            backend,
            size,
            readonly,
            stack,
            units,
            on_enospc,
            on_outage,
            take_over,
        };
        let Ok(domain) = vm.parse();
        let vdev: Vdev = vdev.parse()?;
        let spec = Spec { domain, vdev: Some(vdev), source };
        spec.source.stack().map_err(|failure| format!("{spec}: {failure}"))?;
        Ok(spec)
    }
}

/// Reads the file at `path`.
pub fn read(path: &Path) -> Result<Configuration, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::other(format!("cannot read {}: {error}", path.display())))?;
    let wrong = |wrong| Failure::new(Code::Usage, format!("{}: {wrong}", path.display()));
    let configuration = parse(&text).map_err(wrong)?;
    // It is read again whatever folder the process is in then.
    let path = std::path::absolute(path).unwrap_or(path.into());
    Ok(Configuration { path: Some(path), ..configuration })
}

fn parse(text: &str) -> Result<Configuration, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut specs: Vec<Spec> = Vec::new();
    for entry in file.disk {
        let spec = entry.spec()?;
        if specs.iter().any(|other| (&other.domain, other.vdev) == (&spec.domain, spec.vdev)) {
            return Err(format!("{spec} is there twice"));
        }
        specs.push(spec);
    }
    let folders = file.folders;
    if let Some(wrong) = folders.iter().find(|folder| !folder.is_absolute()) {
        return Err(format!("folders: {wrong:?} does not begin with a slash"));
    }
    Ok(Configuration { path: None, folders, specs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_blk::protocol::Units;

    #[test]
    fn a_configuration_is_read() {
        let text = "folders = [\"/srv\"]\n[[disk]]\nvm = \"a\"\nvdev = \"xvdb\"\npath = \"/srv/x\"\nbackend = \"cow\"\nreadonly = true\n\
                    [[disk]]\nvm = \"7\"\nvdev = \"xvdc\"\nstack = \"verify/ram\"\nsize = \"20G\"\nunits = \"qemu\"\n";
        let Configuration { specs, folders, .. } = parse(text).unwrap();
        assert_eq!(folders, [Path::new("/srv")]);
        let stacks: Vec<String> = specs.iter().map(|spec| spec.source.stack().unwrap()).collect();
        assert_eq!(stacks, ["cow:\"/srv/x\"", "verify/ram"]);
        assert_eq!((specs[0].source.units, specs[1].source.units), (None, Some(Units::QEMU)));
        assert_eq!((specs[0].source.readonly, specs[1].source.size), (true, Some(20 << 30)));
        assert_eq!(specs[1].domain, DomainArgument::Number(xen_platform::DomId(7)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let disk = "[[disk]]\nvm = \"a\"\nvdev = \"xvdb\"\n";
        for (text, part) in [
            ("folders = [\"srv\"]", "does not begin with a slash"),
            ("[[disk]]\nvdev = \"xvdb\"", "missing field `vm`"),
            ("[[disk]]\nvm = \"a\"\nvdev = \"b\"", "no virtual disk"),
            (&format!("{disk}size = \"big\""), "is no size"),
            (&format!("{disk}units = \"inches\""), "there are header, qemu"),
            (&format!("{disk}colour = \"red\""), "unknown field"),
            (&format!("{disk}backend = \"mmap\""), "needs a path"),
            (&format!("{disk}{disk}"), "is there twice"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
    }

    #[test]
    fn sample_is_valid_and_manual_has_every_key() {
        let sample = include_str!("../../../packaging/xen-disk.toml");
        assert_eq!(parse(sample).unwrap().specs, [], "it serves nothing");
        let lines = sample.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
        let disks: Vec<&str> = lines.filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(parse(&disks.join("\n")).unwrap().specs.len(), 3);

        let manual = include_str!("../../../packaging/xen-disk.toml.5");
        let unknown = parse("[[disk]]\ncolour = 1").unwrap_err();
        let keys: Vec<&str> = unknown.split('`').skip(3).step_by(2).collect();
        assert!(keys.contains(&"vm") && keys.contains(&"units"), "{unknown}");
        for key in keys {
            assert!(manual.contains(&format!("\n.TP\n\\fB{key}\\fR = ")), "{key}");
        }
    }
}
