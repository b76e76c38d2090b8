//! Disks that xl starts and ends by itself: `disk=[...]` with `script=block-ringside`.

use anyhow::{Context, Result, ensure};

use super::super::Bench;
use super::super::disks::LONG;
use super::super::suspend::transfer;
use super::{Image, KILL, TERMINATE};
use crate::client::Process;
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// xl's script in dom0.
const SCRIPT: &str = "/etc/xen/scripts/block-ringside";

/// First program of the root file system.
const ROOT_INIT: &str = include_str!("../../../linux/root-init");

/// Kinds of backends that xl makes with our script, by its own word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// Since Xen 4.19; needs `xen-disk serve`.
    Tap,
    /// Linux's, from which the script takes the disk.
    Phy,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Backend::Tap => "tap",
            Backend::Phy => "phy",
        }
    }

    /// Returns the words for xl's `disk=` that stand for a storage.
    fn spec(self, vdev: &str, target: &str) -> String {
        let name = self.name();
        format!("vdev={vdev},backendtype={name},script=block-ringside,format=raw,target={target}")
    }
}

/// xl's script in dom0, and `xen-disk serve` if this Xen has a backend that needs it.
struct Installed<'a> {
    bench: &'a Bench<'a>,
    backends: Vec<Backend>,
    serving: Option<Process>,
    before: Census,
}

impl<'a> Installed<'a> {
    fn new(bench: &'a Bench<'a>) -> Result<Installed<'a>> {
        let before = Census::take(bench.host)?;
        let host = bench.host;
        host.shell(&format!("cp packaging/block-ringside {SCRIPT} && chmod 755 {SCRIPT}"))?;
        let version = host.shell("xl info xen_version")?;
        let minor = version.trim().strip_prefix("4.").and_then(|rest| rest.split('.').next());
        let minor: u32 = minor.and_then(|minor| minor.parse().ok()).unwrap_or(u32::MAX);
        let mut installed =
            Installed { bench, backends: vec![Backend::Phy], serving: None, before };
        if minor >= 19 {
            let serving = host.spawn(&["out/xen-disk", "serve"])?;
            serving.wait_for("Waiting for disks of xl's", PATIENCE)?;
            installed.backends.insert(0, Backend::Tap);
            installed.serving = Some(serving);
        }
        Ok(installed)
    }

    /// Makes sure that nothing of the disks is left.
    fn finish(mut self) -> Result<()> {
        if let Some(serving) = self.serving.take() {
            serving.signal(TERMINATE)?;
            serving.wait(PATIENCE)?.expect(0)?;
        }
        let running = || Ok(self.bench.host.shell("pidof xen-disk; true")?.trim().is_empty());
        ensure!(until(PATIENCE, running)?, "servers of disks are left");
        self.bench.nothing_left(&self.before)
    }
}

impl Drop for Installed<'_> {
    fn drop(&mut self) {
        let _ = self.bench.host.shell(&format!("rm -f {SCRIPT}"));
        if let Some(serving) = &self.serving {
            let _ = serving.signal(KILL);
        }
    }
}

/// Our guest on disks of every kind of backend: made with it, and while it runs.
pub fn disk(bench: &Bench) -> Result<()> {
    let installed = Installed::new(bench)?;
    for (number, backend) in (1..).zip(&installed.backends) {
        written(bench, number, *backend).with_context(|| backend.name())?;
        attached(bench, number + 2, *backend).with_context(|| backend.name())?;
        refused(bench, number + 4, *backend).with_context(|| backend.name())?;
    }
    installed.finish()
}

/// Has a guest write to the disk that it was created with.
fn written(bench: &Bench, number: u32, backend: Backend) -> Result<()> {
    let image = Image::new(bench, backend.name(), 16)?;
    let name = format!("{}-{number}", bench.name);
    let options =
        "blk.run=report,write,flush blk.disk=xvda blk.destroy=xvda blk.seed=7 blk.generation=1";
    let extra = format!("extra=\"vchan.role=none {options}\"");
    let disks = format!("disk=['{}']", backend.spec("xvda", &image.path));
    let guest = Guest::create_from(bench.host, "xl/block.xl", &name, &[&extra, &disks])?;
    guest.says_within(" skipped; seed 7", LONG)?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    ensure!(console.contains(" passed, 0 failed, "), "the guest printed:\n{console}");
    let log = bench.host.shell(&format!("cat /var/log/xen/xen-disk-{name}-xvda.log"))?;
    ensure!(log.contains("Serving disk xvda"), "the disk's log has:\n{log}");
    Ok(())
}

/// Disks come and go while a guest runs, and are listed meanwhile.
fn attached(bench: &Bench, number: u32, backend: Backend) -> Result<()> {
    let (image, other) = (Image::new(bench, "one", 16)?, Image::new(bench, "two", 32)?);
    let name = format!("{}-{number}", bench.name);
    let settings = ["extra=\"vchan.role=none\"", "disk=[]"];
    let guest = Guest::create_from(bench.host, "xl/block.xl", &name, &settings)?;
    let stack = format!("overlay:\"{0}.changes\"/file:{0}", other.path);
    for round in 1..=3 {
        for (vdev, target) in [("xvda", &image.path), ("xvdb", &stack)] {
            bench.host.xl(&["block-attach", &guest.name, &backend.spec(vdev, target)])?;
        }
        guest.says_times("xvda: 16 MiB, sectors of 512 bytes", round)?;
        guest.says_times("xvdb: 32 MiB, sectors of 512 bytes", round)?;
        let listed = bench.host.shell("out/xen-disk list")?;
        ensure!(listed.matches("Connected").count() == 2, "xen-disk list shows:\n{listed}");
        let shown = bench.host.xl(&["block-list", &guest.name])?;
        ensure!(shown.matches("/backend/vbd").count() == 2, "xl block-list shows:\n{shown}");
        let metrics = bench.host.shell("out/xen-disk metrics")?;
        let up = metrics.lines().filter(|line| line.starts_with("xen_disk_up{"));
        ensure!(up.filter(|line| line.ends_with(" 1")).count() == 2, "metrics are:\n{metrics}");
        let watch = format!("out/xen-disk stats {} xvda --watch | head -n 3", guest.name);
        let watched = bench.host.shell(&watch)?;
        ensure!(watched.lines().count() == 3, "xen-disk stats --watch shows:\n{watched}");
        let ours = bench.host.shell(&format!("out/xen-disk disconnect {} xvda", guest.name));
        ensure!(ours.is_err(), "xen-disk took a disk away that xl made");
        for vdev in ["xvdb", "xvda"] {
            bench.host.xl(&["block-detach", &guest.name, vdev])?;
            guest.says_times(&format!("{vdev} is gone"), round)?;
        }
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)
}

/// A disk that cannot be served fails `xl create`, with the reason.
fn refused(bench: &Bench, number: u32, backend: Backend) -> Result<()> {
    let name = format!("{}-{number}", bench.name);
    let disks = format!("disk=['{}']", backend.spec("xvda", "/nowhere/image"));
    let created = Guest::create_from(bench.host, "xl/block.xl", &name, &[&disks]);
    let Err(error) = created else { anyhow::bail!("a guest without its disk was created") };
    let said = format!("{error:#}");
    ensure!(said.contains("/nowhere/image"), "xl does not say why:\n{said}");
    Ok(())
}

/// A Linux guest whose root file system is on such a disk, through all that xl does with it.
pub fn boot(bench: &Bench) -> Result<()> {
    let installed = Installed::new(bench)?;
    for (number, backend) in (1..).zip(&installed.backends) {
        rooted(bench, number, *backend).with_context(|| backend.name())?;
    }
    installed.finish()
}

fn rooted(bench: &Bench, number: u32, backend: Backend) -> Result<()> {
    let image = root_image(bench)?;
    let other = Image::new(bench, "other", 16)?;
    let name = format!("{}-{number}", bench.name);
    let disks = format!("disk=['{}']", backend.spec("xvda", &image.path));
    let guest = Guest::linux_with(bench.host, &name, "role=root disk=xvda", &[&disks])?;
    let boots =
        |count: u32| guest.says_within(&format!("root: boot {count} on /dev/xvda ext4"), LONG);
    boots(1)?;
    guest.says("root: disks: xvda.")?;

    bench.host.xl(&["block-attach", &name, &backend.spec("xvdb", &other.path)])?;
    guest.says("root: disks: xvda xvdb.")?;
    let shown = bench.host.xl(&["block-list", &name])?;
    ensure!(shown.matches("/backend/vbd").count() == 2, "xl block-list shows:\n{shown}");
    bench.host.xl(&["block-detach", &name, "xvdb"])?;
    guest.says_times("root: disks: xvda.", 2)?;

    killed(bench, &guest, backend)?;
    bench.host.xl(&["reboot", &name])?;
    boots(2)?;
    let file = format!("/tmp/{name}.save");
    transfer(bench, &["save", &name, &file])?;
    transfer(bench, &["restore", &file])?;
    bench.host.shell(&format!("rm {file}"))?;
    // It goes on, and can still write.
    bench.host.xl(&["block-attach", &name, &backend.spec("xvdb", &other.path)])?;
    guest.says_times("root: disks: xvda xvdb.", 2)?;
    bench.host.xl(&["destroy", &name])?;
    guest.gone(PATIENCE)?;
    ensure!(!guest.console().contains("root: FAILED"), "the guest said:\n{}", guest.console());

    let guest = Guest::linux_with(bench.host, &name, "role=root disk=xvda", &[&disks])?;
    guest.says_within("root: boot 3 on /dev/xvda ext4", LONG)?;
    bench.host.xl(&["shutdown", "-w", &name])?;
    guest.gone(PATIENCE)?;
    bench.host.shell(&format!("e2fsck -f -n {}", image.path)).map(drop)
}

/// Kills the server of the guest's root disk, and has another one go on with it.
fn killed(bench: &Bench, guest: &Guest, backend: Backend) -> Result<()> {
    let kind = if backend == Backend::Tap { "vbd3" } else { "vbd" };
    let folder = format!("backend/{kind}/{}/51712", guest.domid()?);
    let server = bench.host.shell(&format!("xenstore-read /local/domain/0/{folder}/server"))?;
    let pid = server.split(' ').next().unwrap_or_default();
    bench.host.shell(&format!("kill -9 {pid}"))?;
    let gone =
        || Ok(bench.host.shell(&format!("test -e /proc/{pid}/exe || echo gone"))? == "gone\n");
    ensure!(until(PATIENCE, gone)?, "process {pid} outlives kill -9");
    bench.host.shell(&format!("out/xen-disk hotplug add --folder {folder}"))?;
    let log = format!("/var/log/xen/xen-disk-{}-xvda.log", guest.name);
    bench.host.shell(&format!("grep -q 'Going on with disk xvda' {log}")).map(drop)
}

/// Makes an image with a root file system: busybox, and [`ROOT_INIT`].
fn root_image<'a>(bench: &Bench<'a>) -> Result<Image<'a>> {
    let image = Image::new(bench, "root", 32)?;
    let path = &image.path;
    bench.host.shell(&format!(
        "cd {path}.d 2>/dev/null || {{ mkdir {path}.d && cd {path}.d; }} && \
         mkdir -p bin sbin dev proc sys mnt && cp /usr/bin/busybox bin && \
         cat >sbin/init <<'END'\n{ROOT_INIT}END\n\
         for action in poweroff reboot; do printf '#!/bin/busybox sh\\n: >/dev/ending\\nbusybox sync\\nbusybox mount -o remount,ro /\\n\
         exec /bin/busybox %s -f\\n' $action >sbin/$action; done && chmod 755 sbin/* && \
         cd / && mkfs.ext4 -q -F -d {path}.d {path} && rm -r {path}.d"
    ))?;
    Ok(image)
}
