//! xen-disk in a driver domain: a Linux guest serves disks that xl in dom0 makes for another guest.

use anyhow::{Context, Result, ensure};

use super::super::Bench;
use super::super::block::{END, LONG};
use super::super::linux::Linux;
use crate::client::Process;
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// The configuration there.
const CONFIG: &str = "/etc/xen-disk.toml";

/// Words of `xen-disk serve` once it looks for disks.
const WAITING: &str = "Waiting for disks of xl's";

/// The Linux guest with `xen-disk serve` in it.
struct Driver<'a> {
    bench: &'a Bench<'a>,
    linux: Linux<'a>,
    serving: Process,
}

impl<'a> Driver<'a> {
    fn start(bench: &'a Bench<'a>) -> Result<Driver<'a>> {
        let linux = Linux::boot_with(bench, &["driver_domain=1", "memory=224"])?;
        linux.install("xen-disk")?;
        linux.run(&format!(
            "mkdir -p /srv /run\ntruncate -s 16M /srv/one.raw\ntruncate -s 8M /srv/two.raw\n\
             printf 'folders = [\"/srv\"]\\n' >{CONFIG}"
        ))?;
        let serving = serve_there(&linux)?;
        Ok(Driver { bench, linux, serving })
    }

    /// Returns xl's description of a disk.
    fn spec(&self, vdev: &str, target: &str) -> String {
        let backend = &self.bench.name;
        format!(
            "vdev={vdev},backend={backend},backendtype=phy,script=block-ringside,format=raw,target={target}"
        )
    }

    /// Starts our guest with disks.
    fn exerciser(&self, number: u32, options: &str, disks: &[String]) -> Result<Guest<'a>> {
        let name = format!("{}-{number}", self.bench.name);
        let extra = format!("extra=\"vchan.role=none {options}\"");
        let disks: Vec<String> = disks.iter().map(|disk| format!("'{disk}'")).collect();
        let disks = format!("disk=[{}]", disks.join(","));
        Guest::create_from(self.bench.host, "xl/block.xl", &name, &[&disks, &extra])
    }

    /// Kills the server, and starts another one.
    fn kill(&mut self) -> Result<()> {
        self.linux.run("kill -9 $(pidof xen-disk)")?;
        // Its shell ends as well.
        self.serving.wait(PATIENCE)?;
        self.serving = serve_there(&self.linux)?;
        self.serving.wait_for("Going on with disk xvda", PATIENCE)
    }

    /// Makes sure that nothing of its disks is left in xenstore and in the driver domain.
    fn clean(&self) -> Result<()> {
        let folder = format!("/local/domain/{}/backend/vbd", self.linux.domid);
        // The empty folders above are dom0's.
        let ask = format!("xenstore-ls -f {folder} 2>/dev/null | grep /vbd/.*/; true");
        let empty = || Ok(self.bench.host.shell(&ask)?.trim().is_empty());
        ensure!(until(PATIENCE, empty)?, "left in xenstore:\n{}", self.bench.host.shell(&ask)?);
        let sockets = || Ok(!self.linux.run("ls /run/xen-disk")?.contains("xvd"));
        ensure!(until(PATIENCE, sockets)?, "sockets are left in the driver domain");
        Ok(())
    }

    /// The same, and that nothing of them is left in dom0.
    fn idle(&self, before: &Census) -> Result<()> {
        self.clean()?;
        before.unchanged(self.bench.host)
    }
}

fn serve_there(linux: &Linux) -> Result<Process> {
    let serving = linux.start(&format!("exec xen-disk serve -v {CONFIG} 2>&1"))?;
    serving.wait_for(WAITING, PATIENCE)?;
    Ok(serving)
}

/// Waits for the end of a guest's tests, which must have passed.
fn passed(guest: &Guest) -> Result<()> {
    guest.says_within(END, LONG)?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    let tests = console.find("TAP version").unwrap_or(0);
    ensure!(console.contains(" passed, 0 failed, "), "the guest printed:\n{}", &console[tests..]);
    Ok(())
}

pub fn serve(bench: &Bench) -> Result<()> {
    let without = Census::take(bench.host)?;
    let mut driver = Driver::start(bench)?;
    let before = Census::take(bench.host)?;
    let disk = driver.spec("xvda", "/srv/one.raw");
    let destroy = "blk.disk=xvda blk.destroy=xvda";
    let short = format!("blk.run=report,seq,rand,flush,boundary,segments {destroy}");
    passed(&driver.exerciser(1, &short, std::slice::from_ref(&disk))?)?;
    driver.idle(&before)?;

    let options = "blk.disk=xvda blk.seed=3 blk.loops=1000000 blk.size=2M";
    let run = format!("blk.run=durable blk.destroy=xvda {options}");
    let guest = driver.exerciser(2, &run, std::slice::from_ref(&disk))?;
    bench.until_more(&guest, 0)?;
    for _ in 0..2 {
        let rounds = bench.recorded(&guest)?;
        driver.kill().context("a server that is killed")?;
        bench.until_more(&guest, rounds)?;
    }
    let rounds = bench.destroyed(&guest)?;
    driver.idle(&before)?;
    let check = format!("blk.run=durable-check blk.durable={rounds} {options}");
    passed(&driver.exerciser(3, &check, &[disk])?)?;

    attached(&driver, &before)?;
    ended(driver)?;
    without.unchanged(bench.host)
}

/// Disks come and go while a guest runs; and those that cannot be served are refused.
fn attached(driver: &Driver, before: &Census) -> Result<()> {
    let host = driver.bench.host;
    let guest = driver.exerciser(4, "", &[])?;
    let stack = "overlay:\"/srv/two.changes\"/file:/srv/two.raw";
    for round in 1..=2 {
        for (vdev, target) in [("xvda", "/srv/one.raw"), ("xvdb", stack)] {
            host.xl(&["block-attach", &guest.name, &driver.spec(vdev, target)])?;
        }
        guest.says_times("xvda: 16 MiB, sectors of 512 bytes", round)?;
        guest.says_times("xvdb: 8 MiB, sectors of 512 bytes", round)?;
        let listed = driver.linux.run("xen-disk list")?;
        ensure!(listed.matches("Connected").count() == 2, "xen-disk list shows:\n{listed}");
        driver.linux.run(&format!("xen-disk stats {} xvda --json", guest.domid()?))?;
        for vdev in ["xvdb", "xvda"] {
            host.xl(&["block-detach", &guest.name, vdev])?;
            guest.says_times(&format!("{vdev} is gone"), round)?;
        }
    }
    for (target, reason) in [("/srv/none.raw", "/srv/none.raw"), ("/root/x", "outside of folders")]
    {
        let refused = host.xl(&["block-attach", &guest.name, &driver.spec("xvda", target)]);
        ensure!(refused.is_err(), "{target} was attached");
        driver.serving.wait_for(reason, PATIENCE)?;
        // xl leaves its own part of a disk that it could not attach.
        let _ = host.xl(&["block-detach", &guest.name, "xvda"]);
    }
    host.xl(&["block-attach", &guest.name, &driver.spec("xvdc", "/srv/one.raw")])?;
    guest.says("xvdc: 16 MiB")?;
    host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    driver.idle(before)
}

/// A server that is told to end asks its guests to let go.
fn ended(driver: Driver) -> Result<()> {
    let guest = driver.exerciser(5, "", &[driver.spec("xvda", "/srv/one.raw")])?;
    guest.says("xvda: 16 MiB")?;
    driver.linux.run("kill $(pidof xen-disk)")?;
    driver.serving.wait(PATIENCE)?;
    driver.clean()?;
    for name in [&guest.name, &driver.bench.name] {
        driver.bench.host.xl(&["destroy", name])?;
    }
    guest.gone(PATIENCE)
}
