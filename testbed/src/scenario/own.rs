//! Programs of one's own: the examples, and a unikernel outside the repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use crate::artefacts;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// Settings of `xl create` for the unikernel in `image`.
fn settings(image: &str) -> [String; 4] {
    ["type=\"pvh\"".into(), format!("kernel=\"{image}\""), "memory=32".into(), "vcpus=1".into()]
}

/// Starts the unikernel in `image`.
fn start<'a>(bench: &Bench<'a>, image: &str) -> Result<Guest<'a>> {
    let settings = settings(image);
    Guest::create_from(bench.host, "/dev/null", &bench.name, &settings.each_ref().map(|s| &**s))
}

pub(super) fn hello(bench: &Bench) -> Result<()> {
    let guest = start(bench, "out/hello.elf")?;
    guest.says(&format!("hello from {}", bench.name))?;
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)
}

pub(super) fn upper(bench: &Bench) -> Result<()> {
    let guest = start(bench, "out/upper.elf")?;
    guest.says("ready")?;
    guest.echoes("a line for the example")?;
    guest.echoes("and another")?;
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)
}

/// The examples of `xen-linux`, which look for a domain by the name "echo".
pub(super) fn streams(bench: &Bench) -> Result<()> {
    let guest = Guest::serving(bench.host, "echo", &[])?;
    for example in ["vchan-std", "vchan-tokio"] {
        let finished = bench.host.exec(&[&format!("out/{example}")], PATIENCE)?.expect(0)?;
        ensure!(finished.stdout == b"HELLO\n", "{example} said {:?}", finished.stdout);
    }
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)
}

pub(super) fn outside(bench: &Bench) -> Result<()> {
    let project = Project::generate()?;
    let image = fs::read(project.build()?)?;
    let path = format!("/tmp/{}.elf", bench.name);
    let upload = bench.host.spawn(&["sh", "-c", &format!("cat >{path}")])?;
    upload.write(&image)?;
    upload.close_stdin()?;
    upload.wait(PATIENCE)?.success()?;
    let guest = start(bench, &path)?;
    guest.says("outside says 42")?;
    guest.gone(PATIENCE)?;
    bench.host.shell(&format!("rm {path}"))?;
    Ok(())
}

/// A package in a temporary folder, removed with the value.
struct Project(PathBuf);

impl Project {
    /// Writes the package that a user of the runtime would write.
    fn generate() -> Result<Project> {
        let folder = env::temp_dir().join(format!("ringside-outside-{}", std::process::id()));
        fs::create_dir_all(folder.join("src"))?;
        let project = Project(folder);
        let root = artefacts::root()?;
        let runtime = root.join("crates/xen-rt");
        project.write(
            "Cargo.toml",
            &format!(
                "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                 [dependencies]\nlog = \"0.4\"\nxen-rt = {{ path = {runtime:?} }}\n\n\
                 [profile.release]\npanic = \"abort\"\n"
            ),
        )?;
        project.write(
            "build.rs",
            "fn main() {\n    println!(\"cargo:rustc-link-arg-bins={}\", \
             std::env::var(\"DEP_XEN_RT_LINK\").unwrap());\n}\n",
        )?;
        project.write(
            "src/main.rs",
            "#![no_std]\n#![no_main]\n\nuse xen_rt::{Domain, Reason};\n\nxen_rt::entry!(main);\n\n\
             async fn main(domain: Domain) -> Reason {\n    \
             let answer = domain.spawn(async { 42 }).join().await;\n    \
             log::info!(\"outside says {answer}\");\n    Reason::Poweroff\n}\n",
        )?;
        // The versions that the repository was tested with.
        fs::copy(root.join("Cargo.lock"), project.0.join("Cargo.lock"))?;
        Ok(project)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.0.join(name), text)?)
    }

    /// Builds it, and returns the path of the image.
    fn build(&self) -> Result<PathBuf> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = self.0.join("target");
        let built = Command::new(cargo)
            .args(["build", "--release", "--quiet", "--target-dir"])
            .arg(&target)
            .current_dir(&self.0)
            .output()
            .context("cannot run cargo, which this scenario builds a unikernel with")?;
        if !built.status.success() {
            bail!("an outside package does not build:\n{}", String::from_utf8_lossy(&built.stderr));
        }
        let image: &Path = "release/outside".as_ref();
        Ok(target.join(image))
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
