//! The distribution release that an emulated host is made of, and where apt finds it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A release whose packages make an emulated host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 11: Xen 4.14, Linux 5.10.
    Bullseye,
    /// Debian 12: Xen 4.17, Linux 6.1.
    Bookworm,
    /// Debian 13: Xen 4.20, Linux 6.12.
    Trixie,
    /// Debian unstable.
    Sid,
    /// The release that this machine's own apt sources name.
    Machine,
}

/// Debian's stable release of today.
pub const STABLE: Suite = Suite::Trixie;

/// Names by which Debian's own sources call a release that has all packages.
const RELEASES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Keyrings with the keys of Debian's archive, old and new.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

impl Suite {
    /// Returns the name that Debian's archive, and the cache, have for it.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Bullseye => "bullseye",
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
            Suite::Sid => "sid",
            Suite::Machine => "machine",
        }
    }

    /// Returns Debian stable, or the machine's own release if its apt knows no Debian mirror.
    pub fn by_default() -> Result<Suite> {
        Ok(if mirror()?.is_some() { STABLE } else { Suite::Machine })
    }

    /// Returns this suite if the machine's apt knows a Debian mirror.
    pub fn on_a_mirror(self) -> Result<Suite> {
        ensure!(
            mirror()?.is_some(),
            "a host of {} takes a Debian mirror, and this machine's apt sources name none: add one \
             to /etc/apt/sources.list.d, or leave the host out to have one of the machine's release",
            self.name()
        );
        Ok(self)
    }

    /// Returns the text of `sources.list` for this suite.
    pub fn sources(self, mirror: &Mirror) -> Sources {
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).exists());
        let signed = keyring.map(|path| format!(" signed-by={path}")).unwrap_or_default();
        let line = |uri: &str, more: &str| {
            format!("deb [arch=amd64{signed}] {uri} {}{more} main\n", self.name())
        };
        let main = line(&mirror.debian, "");
        let mut all = main.clone();
        // Fixes go straight into unstable.
        if self != Suite::Sid {
            all += &line(&mirror.debian, "-updates");
            all += &mirror.security.as_deref().map_or(String::new(), |uri| line(uri, "-security"));
        }
        Sources { all, main }
    }
}

/// Addresses of Debian's archives.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Address of the archive.
    pub debian: String,
    /// Address of the archive of security fixes, if the machine has it among its sources.
    pub security: Option<String>,
}

/// Texts of a `sources.list`.
#[derive(Debug, PartialEq, Eq)]
pub struct Sources {
    /// A release with its updates and security fixes.
    pub all: String,
    /// The release alone, for mirrors that lack any of those.
    pub main: String,
}

/// Returns the Debian mirror that this machine's apt uses; `None` if its sources are of another
/// distribution.
pub fn mirror() -> Result<Option<Mirror>> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(RELEASE)"])
        .env("LC_ALL", "C")
        .output()
        .context(NO_APT)?;
    Ok(find_mirror(&String::from_utf8_lossy(&output.stdout)))
}

/// The reason why nothing works without apt, and the cure.
pub const NO_APT: &str = "cannot run apt: the emulated host is made of Debian's packages, so it \
    takes a Debian or Ubuntu machine, or a container of one";

fn find_mirror(targets: &str) -> Option<Mirror> {
    let find = |label: &str, is_release: fn(&str) -> bool| {
        targets.lines().find_map(|line| {
            let [uri, origin, its_label, release] = line.split('|').collect::<Vec<_>>()[..] else {
                return None;
            };
            // What a repository says of itself is known once its lists have been fetched.
            let says = |field: &str, value: &str| field == value || !known(field);
            let debian = says(origin, "Debian") && says(its_label, label);
            let usable = is_release(release.trim_end_matches('/')) && !uri.starts_with("cdrom:");
            (debian && usable).then(|| uri.to_string())
        })
    };
    let debian = find("Debian", |release| RELEASES.contains(&release))?;
    let security = find("Debian-Security", |release| {
        release.strip_suffix("-security").is_some_and(|release| RELEASES.contains(&release))
    });
    Some(Mirror { debian, security })
}

/// Returns true if apt has filled in a field; what it does not know it leaves empty or as it was
/// asked for.
fn known(field: &str) -> bool {
    !field.is_empty() && !field.starts_with('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(text: &str) -> Option<String> {
        find_mirror(text).map(|mirror| mirror.debian)
    }

    #[test]
    fn mirror_is_the_one_with_whole_releases() {
        let debian = "http://m/security/|Debian|Debian-Security|bookworm-security\n\
            http://m/debian/|Debian|Debian|bookworm-updates\nhttp://m/debian/|Debian|Debian|bookworm\n";
        assert_eq!(archive(debian).as_deref(), Some("http://m/debian/"));
        let security = find_mirror(debian).and_then(|mirror| mirror.security);
        assert_eq!(security.as_deref(), Some("http://m/security/"));
    }

    #[test]
    fn mirror_is_found_before_the_first_update() {
        let new = "http://m/debian/|$(ORIGIN)|$(LABEL)|trixie\n\
            http://m/security/|$(ORIGIN)|$(LABEL)|trixie-security\n";
        let security = Some("http://m/security/".to_string());
        let wanted = Mirror { debian: "http://m/debian/".to_string(), security };
        assert_eq!(find_mirror(new), Some(wanted));
        assert_eq!(archive("http://m/debian/|||stable\n").as_deref(), Some("http://m/debian/"));
    }

    #[test]
    fn other_distributions_have_no_mirror() {
        for other in [
            "http://u/ubuntu/|Ubuntu|Ubuntu|noble\n",
            "http://k/kali/|Kali|Kali|stable\n",
            "cdrom:[Debian]/|Debian|Debian|bookworm\n",
            "",
        ] {
            assert_eq!(find_mirror(other), None, "{other}");
        }
    }

    #[test]
    fn sources_name_the_release_its_updates_and_its_security_fixes() {
        let security = Some("http://s/".to_string());
        let mirror = Mirror { debian: "http://m/".to_string(), security };
        let without_options = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split("] ").last().unwrap().to_string()).collect()
        };
        let sources = Suite::Bullseye.sources(&mirror);
        assert!(sources.main.starts_with("deb [arch=amd64"));
        assert_eq!(without_options(&sources.main), ["http://m/ bullseye main"]);
        assert_eq!(
            without_options(&sources.all),
            [
                "http://m/ bullseye main",
                "http://m/ bullseye-updates main",
                "http://s/ bullseye-security main"
            ]
        );
        let sources = Suite::Sid.sources(&mirror);
        assert_eq!(sources.all, sources.main);
    }
}
