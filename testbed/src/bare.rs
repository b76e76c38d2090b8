//! `testbed bare`: README's commands on a machine that has nothing but git, make and Rust.
//!
//! The machine is a minimal Debian in a folder, made by debootstrap: once with package lists of
//! which every package has left the archive, once as it comes.

mod readme;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::image::{self, suite};
use crate::{artefacts, setup};

/// Packages that a user has before the first command; rustup needs the certificates.
const INCLUDED: &str = "git,make,ca-certificates";

/// Time limit of one command, which builds everything and runs all quick scenarios.
const TIMEOUT: Duration = Duration::from_secs(3 * 3600);

/// Sent to each command; after that there is no more input, and nobody to answer a question.
const INPUT: &str = "hello from a bare machine\n";

/// Date of a release file that is older than any archive's.
const PAST: &str = "Date: Sat, 01 Jan 2000 00:00:00 UTC";

/// Folder of the clone in the machine.
const CLONE: &str = "/root/ringside";

/// Builds in a copy of the clone as a user who has no rights, no network, a strict umask, a path
/// with spaces, and another linker than Rust's own. All dependencies are there.
const UNUSUAL: &str = r#"set -eu
useradd --create-home user
cp -a . '/home/user/ring side'
rm -rf '/home/user/ring side/target' '/home/user/ring side/out'
chown -R user: '/home/user/ring side'
cd '/home/user/ring side'
linker=CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS=-Clink-arg=-fuse-ld=bfd
exec unshare --net setpriv --reuid=user --regid=user --clear-groups \
    env HOME=/home/user CARGO_TARGET_DIR='/home/user/built here' "$linker" sh -c 'umask 077; make'"#;

/// Checks the protocol crates, and the simulator that tests them, with the Rust of the release.
/// That of trixie is the oldest that they are for (`rust-version` in Cargo.toml).
const OLD_RUST: &str = "apt-get install -qy rustc cargo && export PATH=/usr/bin:/bin && \
    cargo check --quiet --locked --offline --all-targets --target-dir /tmp/old-rust \
    -p xen-abi -p xen-blk -p xen-exec -p xen-hypercall -p xen-platform -p xen-ring -p xen-sim \
    -p xen-store -p xen-vchan";

/// Shell commands that run "$@" in the machine $1 as on a system of its own, with the Rust of this
/// machine.
/// Nothing of it outlives the command: the mounts are its own.
const ENTER: &str = r#"set -eu
machine=$1; shift
mount --make-rprivate /
mount --rbind /dev "$machine/dev"
mount -t proc proc "$machine/proc"
mount --rbind /sys "$machine/sys"
mkdir -p "$machine/rustup" "$machine/cargo"
mount --bind "$RUSTUP" "$machine/rustup"
mount --bind "$CARGO" "$machine/cargo"
exec chroot "$machine" "$@""#;

/// Tries the commands on each of `suites`; those of the README that contain `only`, if it says so.
pub fn run(suites: &[String], only: Option<&str>) -> Result<ExitCode> {
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root: run this with sudo");
    setup::full()?;
    let readme = fs::read_to_string(artefacts::root()?.join("README.md"))?;
    let commands = readme::commands(&readme)?;
    let chosen = commands.into_iter().filter(|line| only.is_none_or(|word| line.contains(word)));
    let chosen: Vec<String> = chosen.collect();
    ensure!(!chosen.is_empty(), "README has no command like {}", only.unwrap_or_default());
    for suite in suites {
        for lists in [Lists::Old, Lists::AsMade] {
            let machine = Machine::make(suite, lists)?;
            let commands = lists.commands(&chosen);
            let tried = |name: &str, command: &str| {
                eprintln!("testbed: bare {suite}, {lists:?}: {name}");
                let begun = Instant::now();
                machine.try_command(command)?;
                eprintln!("testbed: that took {:.0} s", begun.elapsed().as_secs_f64());
                anyhow::Ok(())
            };
            for command in commands {
                tried(command, command)?;
            }
            if lists == Lists::Old {
                tried("make, as a user, without a network, in a path with spaces", UNUSUAL)?;
            }
            if lists == Lists::Old && suite == "trixie" {
                tried("the protocol crates with Debian's own Rust", OLD_RUST)?;
            }
            println!("PASS  bare {suite}, {lists:?}: {}", commands.join(", "));
            machine.remove()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Package lists of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// The lists that debootstrap leaves behind.
    AsMade,
    /// The same, but the archive has none of the files any more.
    Old,
}

impl Lists {
    /// Returns those of README's commands that are tried with such lists. All commands install the
    /// same packages (`testbed/setup.sh test`), and nothing after that reads the machine's lists.
    /// So all of them run where that is harder, and the first alone where it is easy.
    fn commands(self, of_readme: &[String]) -> &[String] {
        match self {
            Lists::AsMade => &of_readme[..1],
            Lists::Old => of_readme,
        }
    }
}

/// A minimal Debian in a folder.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn make(suite: &str, lists: Lists) -> Result<Machine> {
        let all = image::cache()?.join("bare");
        let base = all.join(suite);
        if !base.exists() {
            let partial = all.join(format!("{suite}-partial"));
            let _ = fs::remove_dir_all(&partial);
            fs::create_dir_all(&all)?;
            let mirror = suite::mirror()?.context("this machine's apt names no Debian mirror")?;
            let mut debootstrap = Command::new("debootstrap");
            debootstrap.args(["--variant=minbase", &format!("--include={INCLUDED}"), suite]);
            succeeds(debootstrap.arg(&partial).arg(mirror.debian))?;
            fs::rename(&partial, &base)?;
        }
        let root = all.join(format!("{suite}-{}", std::process::id()));
        succeeds(Command::new("cp").arg("-a").args([&base, &root]))?;
        let machine = Machine { root };
        // Its way to the network is that of this machine, with the authorities that are trusted
        // here: registries may be behind a proxy with a certificate of its own.
        for file in ["etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"] {
            let _ = fs::copy(Path::new("/").join(file), machine.root.join(file));
        }
        if lists == Lists::Old {
            age(&machine.root.join("var/lib/apt/lists"))?;
        }
        let clone = machine.root.join(CLONE.trim_start_matches('/'));
        let mut git = Command::new("git");
        succeeds(git.args(["clone", "-q", "--no-hardlinks"]).arg(artefacts::root()?).arg(clone))?;
        Ok(machine)
    }

    /// Runs a command in the clone; it must succeed, and `make run` must answer.
    fn try_command(&self, command: &str) -> Result<()> {
        let log = self.root.with_extension("log");
        let mut child = self.start(command, &log)?;
        child.stdin.take().context("no pipe")?.write_all(INPUT.as_bytes())?;
        let status = finish(&mut child)?;
        let text = fs::read_to_string(&log)?;
        let tail: Vec<&str> = text.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        let shown = || format!("the whole output is {}\n{}", log.display(), tail.join("\n"));
        ensure!(status.success(), "'{command}' ended with {status}; {}", shown());
        let wanted = INPUT.trim().to_uppercase();
        ensure!(
            command != "make run" || text.contains(&wanted),
            "'{command}' did not print {wanted}; {}",
            shown()
        );
        Ok(())
    }

    fn start(&self, command: &str, log: &Path) -> Result<Child> {
        let home = std::env::var("HOME").unwrap_or_default();
        let folder = |name, default| std::env::var(name).unwrap_or(format!("{home}/{default}"));
        let output = fs::File::create(log)?;
        let path = "PATH=/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let script = format!("cd {CLONE} && {command}");
        // setpriv ends it with this program, and the machine's processes with it.
        let mut unshare = Command::new("setpriv");
        unshare
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                ENTER,
                "sh",
            ])
            .arg(&self.root)
            .args(["/usr/bin/env", "-i", path, "HOME=/root"])
            .args(["RUSTUP_HOME=/rustup", "CARGO_HOME=/cargo"])
            .args(["sh", "-c", &script])
            .env("RUSTUP", folder("RUSTUP_HOME", ".rustup"))
            .env("CARGO", folder("CARGO_HOME", ".cargo"))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Neither sudo nor debconf has a terminal to ask at.
            .process_group(0);
        unshare.spawn().context("cannot run setpriv (package util-linux)")
    }

    fn remove(self) -> Result<()> {
        // What is mounted there belongs to this machine: never remove through a mount.
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let below = mounts.contains(&self.root.display().to_string());
        ensure!(!below, "something is still mounted below {}", self.root.display());
        fs::remove_dir_all(&self.root)
            .with_context(|| format!("cannot remove {}", self.root.display()))
    }
}

/// Makes the lists in a folder those of a time whose packages the archive has no more.
fn age(lists: &Path) -> Result<()> {
    let mut aged = 0;
    for entry in fs::read_dir(lists)? {
        let path = entry?.path();
        let name = path.to_string_lossy();
        if name.ends_with("_Packages") {
            let text = fs::read_to_string(&path)?;
            fs::write(&path, text.replace("\nFilename: pool/", "\nFilename: pool/gone/"))?;
            aged += 1;
        } else if name.ends_with("Release") {
            // apt asks for a newer one, and then for those lists of which the new one has other
            // checksums.
            let text = fs::read_to_string(&path)?;
            let kept = text.lines().filter(|line| !line.contains("Packages"));
            let dated = kept.map(|line| if line.starts_with("Date: ") { PAST } else { line });
            fs::write(&path, dated.map(|line| line.to_string() + "\n").collect::<String>())?;
            let day = Duration::from_secs(24 * 3600);
            fs::File::options().write(true).open(&path)?.set_modified(UNIX_EPOCH + day)?;
        }
    }
    ensure!(aged > 0, "debootstrap left no package lists that could be made old");
    Ok(())
}

/// Waits for the command's end, but not for ever.
fn finish(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            child.wait()?;
            bail!("a command took longer than {TIMEOUT:?}: does it wait for an answer?");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn succeeds(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_commands_run_with_old_lists_and_each_list_is_tried() {
        let readme = ["make run", "make test"].map(str::to_string);
        assert_eq!(Lists::Old.commands(&readme), readme);
        assert_eq!(Lists::AsMade.commands(&readme), ["make run"]);
    }

    /// [`Lists::commands`] relies on it.
    #[test]
    fn commands_of_the_readme_need_the_same_packages() {
        let makefile = include_str!("../../Makefile");
        let line = makefile.lines().find(|line| line.ends_with(": NEEDED := test")).unwrap();
        let targets: Vec<&str> = line.split([' ', ':']).collect();
        let commands = readme::commands(include_str!("../../README.md")).unwrap();
        assert!(commands.iter().all(|command| targets.contains(&&command["make ".len()..])));
    }

    const RELEASE: &str = "Suite: sid\nDate: Sun, 01 Mar 2026 08:00:00 UTC\nSHA256:\n \
        0123 99 main/binary-amd64/Packages\n 4567 99 main/binary-amd64/Release\n";

    #[test]
    fn old_lists_have_other_files_and_a_release_file_that_apt_replaces() {
        let lists = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(lists.path().join(name), text).unwrap();
        assert!(age(lists.path()).is_err());
        write(
            "m_debian_dists_sid_main_binary-amd64_Packages",
            "Package: a\nFilename: pool/a.deb\n",
        );
        write("m_debian_dists_sid_InRelease", RELEASE);
        age(lists.path()).unwrap();
        let read = |name: &str| fs::read_to_string(lists.path().join(name)).unwrap();
        let packages = read("m_debian_dists_sid_main_binary-amd64_Packages");
        assert_eq!(packages, "Package: a\nFilename: pool/gone/a.deb\n");
        assert_eq!(
            read("m_debian_dists_sid_InRelease"),
            format!("Suite: sid\n{PAST}\nSHA256:\n 4567 99 main/binary-amd64/Release\n")
        );
        let data = fs::metadata(lists.path().join("m_debian_dists_sid_InRelease")).unwrap();
        assert!(data.modified().unwrap() < UNIX_EPOCH + Duration::from_secs(7 * 24 * 3600));
    }
}
