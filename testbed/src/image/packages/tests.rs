use super::*;
use std::os::unix::fs::PermissionsExt;

/// An archive that has one version of one package, and a machine whose lists name another: the
/// files `archive` and `lists` of a folder hold the versions.
struct Archive(tempfile::TempDir);

/// apt for such an archive. Its options come before its words.
const APT: &str = r#"#!/bin/sh
here=$(dirname "$0")
for word; do case $word in -oDir::Etc::SourceList=*) sources=${word#*=} ;; -o*) ;; *) command=${command:-$word}; last=$word ;; esac; done
case $command in
    show) [ "$last" = base ] && printf 'Package: base\nVersion: %s\n' "$(cat "$here/lists")" ;;
    update) [ ! -e "$here/lacks" ] || ! grep -q "$(cat "$here/lacks")" "$sources" || exit 100
        cp "$here/archive" "$here/lists" &&
            if [ -e "$here/fixes" ] && grep -q updates "$sources"; then cp "$here/fixes" "$here/lists"; fi && echo update >>"$here/log" ;;
    download) [ "$last" = "base=$(cat "$here/archive")" ] || {
            echo "E: Version '${last#*=}' for 'base' was not found" >&2
            exit 100
        }
        echo whole >"base_$(cat "$here/archive")_all.deb" ;;
esac
"#;

impl Archive {
    fn new(archive: &str, lists: &str) -> Archive {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("archive", archive), ("lists", lists)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        for name in ["apt-get", "apt-cache"] {
            let program = folder.path().join(name);
            fs::write(&program, APT).unwrap();
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Archive(folder)
    }

    /// apt whose lists are of today, whatever they say.
    fn apt(&self) -> Apt {
        let apt = Apt::with_programs(&self.0.path().join("state"), self.0.path());
        fs::write(self.0.path().join("state/updated"), "").unwrap();
        apt
    }

    fn obtain(&self, apt: &Apt) -> Result<Packages> {
        obtain(apt, &self.debs(), &[&["base"]], |_| false)
    }

    fn debs(&self) -> PathBuf {
        let debs = self.0.path().join("debs");
        fs::create_dir_all(&debs).unwrap();
        debs
    }

    fn updates(&self) -> usize {
        fs::read_to_string(self.0.path().join("log")).unwrap_or_default().lines().count()
    }
}

#[test]
fn replaced_version_is_resolved_anew_after_the_update() {
    let archive = Archive::new("2", "1");
    let packages = archive.obtain(&archive.apt()).unwrap();
    assert_eq!(packages.versions["base"], "2");
    assert_eq!(packages.paths, [archive.debs().join("base_2_all.deb")]);
    assert_eq!(archive.updates(), 1);
}

#[test]
fn present_lists_are_used_as_they_are() {
    let archive = Archive::new("1", "1");
    assert_eq!(archive.obtain(&archive.apt()).unwrap().versions["base"], "1");
    assert_eq!(archive.updates(), 0);
    // Now it lies in the folder, and nobody asks an archive that has moved on.
    fs::write(archive.0.path().join("archive"), "2").unwrap();
    assert_eq!(archive.obtain(&archive.apt()).unwrap().versions["base"], "1");
    assert_eq!(archive.updates(), 0);
}

#[test]
fn missing_and_old_lists_are_fetched_first() {
    let archive = Archive::new("3", "");
    let apt = Apt::with_programs(&archive.0.path().join("state"), archive.0.path());
    assert!(apt.is_outdated());
    assert_eq!(archive.obtain(&apt).unwrap().versions["base"], "3");
    assert!(!apt.is_outdated());
    assert_eq!(archive.updates(), 1);
}

#[test]
fn unknown_package_is_named_after_one_update() {
    let archive = Archive::new("1", "1");
    let unknown = |_: &Versions| false;
    let error = obtain(&archive.apt(), &archive.debs(), &[&["nothing"]], unknown).err().unwrap();
    assert!(format!("{error:#}").contains("no package nothing"), "{error:#}");
    assert_eq!(archive.updates(), 1);
}

#[test]
fn half_a_package_of_an_earlier_run_is_not_taken() {
    let archive = Archive::new("1", "1");
    let partial = archive.debs().join("partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("other_1_all.deb"), "half").unwrap();
    archive.obtain(&archive.apt()).unwrap();
    assert!(!archive.debs().join("other_1_all.deb").exists());
}

#[test]
fn only_what_the_lists_say_is_followed() {
    assert!(is_followed("libc6") && is_followed("linux-modules-6") && !is_followed("python3"));
}

#[test]
fn mirror_without_updates_serves_the_release_alone() {
    let archive = Archive::new("2", "1");
    fs::write(archive.0.path().join("lacks"), "bookworm-updates").unwrap();
    assert_eq!(archive.obtain(&archive.apt()).unwrap().versions["base"], "2");
    // Each update tries again, and a state opened in between keeps what works.
    let sources = archive.0.path().join("state/sources.list");
    let text = fs::read_to_string(&sources).unwrap();
    assert!(text.contains("bookworm main") && !text.contains("bookworm-updates"), "{text}");
    let apt = Apt::with_programs(&archive.0.path().join("state"), archive.0.path());
    assert!(!apt.is_outdated() && fs::read_to_string(&sources).unwrap() == text);
    fs::remove_file(archive.0.path().join("lacks")).unwrap();
    apt.update().unwrap();
    assert!(fs::read_to_string(&sources).unwrap().contains("bookworm-updates"));
}

#[test]
fn security_fixes_without_their_packages_are_left_out() {
    let archive = Archive::new("2", "1");
    fs::write(archive.0.path().join("fixes"), "3").unwrap();
    assert_eq!(archive.obtain(&archive.apt()).unwrap().versions["base"], "2");
    // The lists with the fix, and those without; then nothing is asked for again.
    assert_eq!(archive.updates(), 2);
    let apt = Apt::with_programs(&archive.0.path().join("state"), archive.0.path());
    assert_eq!(archive.obtain(&apt).unwrap().versions["base"], "2");
    assert_eq!(archive.updates(), 2);
}

#[test]
fn lists_of_other_sources_are_outdated() {
    let archive = Archive::new("1", "1");
    assert!(!archive.apt().is_outdated());
    fs::write(archive.0.path().join("state/sources.list"), "deb http://other sid main\n").unwrap();
    let apt = Apt::with_programs(&archive.0.path().join("state"), archive.0.path());
    assert!(apt.is_outdated());
}
