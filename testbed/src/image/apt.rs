//! apt with a state of its own: the lists, sources and cache of one suite, apart from those of the
//! machine. Neither the machine's release nor the age of its lists matters, and no root is needed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::suite::{Mirror, NO_APT, Sources, Suite};

/// Age at which lists are brought up to date although they still work.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Data that apt would fetch with the lists of packages, and that nothing here reads.
const UNUSED: [&str; 4] = ["DEP-11", "DEP-11-icons-small", "DEP-11-icons", "Contents-deb"];

/// A suite's apt.
pub struct Apt {
    folder: PathBuf,
    /// Options that every call has.
    options: Vec<String>,
    /// Texts for the sources; `None` for the machine's own.
    sources: Option<Sources>,
    /// The suite's name, for messages.
    about: String,
    /// The folder of apt's programs; `None` for those on PATH.
    programs: Option<PathBuf>,
}

/// The facts that apt has of a package: the version it would install, and its dependencies.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The version.
    pub version: String,
    /// Names of packages, alternatives included.
    pub depends: Vec<String>,
}

impl Apt {
    /// Prepares the state of `suite` in `folder`. `mirror` is where Debian's suites come from; the
    /// machine's own suite has the machine's sources.
    pub fn open(folder: &Path, suite: Suite, mirror: Option<&Mirror>) -> Result<Apt> {
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        let at = |name: &str| folder.join(name).display().to_string();
        let mut options = vec![
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("cache")),
            // Images for containers switch these off, and apt reads the lists anew each time.
            format!("Dir::Cache::pkgcache={}", at("cache/pkgcache.bin")),
            format!("Dir::Cache::srcpkgcache={}", at("cache/srcpkgcache.bin")),
            "APT::Sandbox::User=root".to_string(),
            "Acquire::Languages=none".to_string(),
            "APT::Architecture=amd64".to_string(),
            "APT::Architectures=amd64".to_string(),
            // What the machine has installed cannot be downloaded for that.
            "Dir::State::status=/dev/null".to_string(),
        ];
        options.extend(
            UNUSED.map(|name| format!("Acquire::IndexTargets::deb::{name}::DefaultEnabled=false")),
        );
        let sources = mirror.map(|mirror| suite.sources(mirror));
        if sources.is_some() {
            options.push(format!("Dir::Etc::SourceList={}", at("sources.list")));
            for entry in ["SourceParts", "Preferences", "PreferencesParts"] {
                options.push(format!("Dir::Etc::{entry}=/dev/null"));
            }
        }
        let about = suite.name().to_string();
        let apt = Apt { folder: folder.to_path_buf(), options, sources, about, programs: None };
        if let Some(sources) = &apt.sources {
            let present = fs::read_to_string(apt.source_list()).unwrap_or_default();
            if ![&sources.all, &sources.main].contains(&&present) {
                // The lists are of other sources.
                let _ = fs::remove_file(apt.stamp());
                apt.set_sources(&sources.all)?;
            }
        }
        Ok(apt)
    }

    /// Opens a state whose programs lie in the folder `programs`.
    #[cfg(test)]
    pub fn with_programs(folder: &Path, programs: &Path) -> Apt {
        let mut apt = Apt::open(folder, Suite::Bookworm, Some(&Mirror::default())).unwrap();
        apt.programs = Some(programs.to_path_buf());
        apt
    }

    fn run(&self, program: &str, words: &[&str], folder: &Path) -> Result<Output> {
        let path = self.programs.as_ref().map_or(program.into(), |folder| folder.join(program));
        Command::new(path)
            .args(self.options.iter().map(|option| format!("-o{option}")))
            .args(words)
            .env("LC_ALL", "C")
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .context(NO_APT)
    }

    /// Returns true if the lists were fetched long ago, or never.
    pub fn is_outdated(&self) -> bool {
        let age = fs::metadata(self.stamp()).and_then(|data| data.modified());
        let age = age.ok().and_then(|time| time.elapsed().ok());
        age.is_none_or(|age| age > MAX_AGE)
    }

    /// The file whose age is that of the lists.
    fn stamp(&self) -> PathBuf {
        self.folder.join("updated")
    }

    fn source_list(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    fn set_sources(&self, text: &str) -> Result<()> {
        let path = self.source_list();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Brings the lists up to date: those of the release with its updates and security fixes, or
    /// of the release alone where the mirror has no more.
    pub fn update(&self) -> Result<()> {
        if let Some(sources) = &self.sources {
            self.set_sources(&sources.all)?;
        }
        if let Err(error) = self.fetch_lists() {
            if !self.leave_fixes_out()? {
                return Err(error);
            }
            eprintln!("testbed: going on without updates and security fixes: {error:#}");
        }
        self.set_updated()
    }

    /// Goes on with the release alone until the next update; false if that is so already.
    pub fn leave_fixes_out(&self) -> Result<bool> {
        let present = fs::read_to_string(self.source_list()).unwrap_or_default();
        match &self.sources {
            Some(Sources { all, main }) if present == *all && all != main => {
                self.set_sources(main)?;
                self.fetch_lists()?;
                self.set_updated()?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn set_updated(&self) -> Result<()> {
        fs::write(self.stamp(), "").context("cannot note when the lists were fetched")
    }

    fn fetch_lists(&self) -> Result<()> {
        let output = self.run("apt-get", &["update", "-q"], &self.folder)?;
        ensure!(
            output.status.success(),
            "apt cannot fetch the package lists of {}: is the network there, and has the mirror that suite?\n{}",
            self.about,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Returns what apt knows of `names`; those that it does not know are left out.
    pub fn show(&self, names: &[&str]) -> Result<BTreeMap<String, Record>> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let words = [&["show", "--no-all-versions"], names].concat();
        // It exits with an error when one name of many is unknown.
        let output = self.run("apt-cache", &words, &self.folder)?;
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Downloads packages, each as `name=version`, into the empty folder `folder`.
    pub fn download(&self, packages: &[String], folder: &Path) -> Result<()> {
        let words: Vec<&str> =
            ["download", "-q"].into_iter().chain(packages.iter().map(String::as_str)).collect();
        let output = self.run("apt-get", &words, folder)?;
        ensure!(
            output.status.success(),
            "apt-get download failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

/// Returns the records that `apt-cache show` prints; the first one of a name counts.
fn parse(text: &str) -> BTreeMap<String, Record> {
    let mut found = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { continue };
        let depends = [field("Pre-Depends"), field("Depends")]
            .into_iter()
            .flatten()
            .flat_map(depended)
            .collect();
        found.entry(name.to_string()).or_insert(Record { version: version.to_string(), depends });
    }
    found
}

/// Returns the names in a dependency field, alternatives included.
fn depended(field: &str) -> impl Iterator<Item = String> + '_ {
    field.split([',', '|']).filter_map(|item| {
        let name = item.split_whitespace().next()?;
        Some(name.split(':').next().unwrap_or(name).to_string())
    })
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
}
