//! Disks in the memory of one guest, used by others: no program of dom0 moves their data.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::block::{END, LONG};
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// Tests of our guest that overwrite the whole disk. The last one sends what the protocol forbids,
/// after which a backend may have given the disk up.
const ALL: &str = "blk.run=report,seq,rand,flush,barrier,discard,features,boundary,segments,lifecycle,hostile \
                   blk.hostile=yes blk.disk=xvda blk.destroy=xvda";

/// Fills the disk with stamped sectors.
const WRITE: &str =
    "blk.run=write blk.disk=xvda blk.destroy=xvda blk.size=all blk.seed=5 blk.generation=2";

/// Checks them.
const VERIFY: &str = "blk.run=verify blk.disk=xvda blk.size=all blk.seed=5 blk.generation=2";

/// A guest that serves its memory.
struct Server<'a> {
    bench: &'a Bench<'a>,
    guest: Guest<'a>,
    /// The host before it was started, and with it.
    before: Census,
    with_it: Census,
}

impl<'a> Server<'a> {
    fn start(bench: &'a Bench<'a>, memory: u32, size: &str) -> Result<Server<'a>> {
        let before = Census::take(bench.host)?;
        let guest = create(bench, memory, size)?;
        guest.says("ready: ")?;
        let with_it = Census::take(bench.host)?;
        Ok(Server { bench, guest, before, with_it })
    }

    /// Returns xl's description of a disk: one word of a `disk=` list.
    fn spec(&self, vdev: &str, target: &str, access: &str) -> String {
        let backend = &self.guest.name;
        format!(
            "vdev={vdev},access={access},backend={backend},backendtype=phy,format=raw,target={target}"
        )
    }

    fn disks(&self, list: &[(&str, &str)]) -> String {
        let specs: Vec<_> = list
            .iter()
            .map(|(vdev, target)| format!("'{}'", self.spec(vdev, target, "rw")))
            .collect();
        format!("disk=[{}]", specs.join(","))
    }

    fn attach(&self, guest: &Guest, vdev: &str, target: &str) -> Result<()> {
        let spec = self.spec(vdev, target, "rw");
        self.bench.host.xl(&["block-attach", &guest.name, &spec]).map(drop)
    }

    fn detach(&self, guest: &Guest, vdev: &str) -> Result<()> {
        self.bench.host.xl(&["block-detach", &guest.name, vdev]).map(drop)
    }

    /// Starts our guest with disks.
    fn exerciser(&self, number: u32, options: &str, list: &[(&str, &str)]) -> Result<Guest<'a>> {
        let name = format!("{}-{number}", self.bench.name);
        let extra = format!("extra=\"vchan.role=none {options}\"");
        Guest::create_from(self.bench.host, "xl/block.xl", &name, &[&self.disks(list), &extra])
    }

    /// Runs its tests, which must pass.
    fn passes(&self, number: u32, options: &str, list: &[(&str, &str)]) -> Result<()> {
        let guest = self.exerciser(number, options, list)?;
        guest.says_within(END, LONG)?;
        guest.gone(PATIENCE)?;
        let console = guest.console();
        let tests = console.find("TAP version").unwrap_or(0);
        ensure!(
            console.contains(" passed, 0 failed, "),
            "with {options} the guest printed:\n{}",
            &console[tests..]
        );
        Ok(())
    }

    /// Makes sure that it serves nothing and that dom0 has had no part.
    fn idle(&self) -> Result<()> {
        let folder = format!("/local/domain/{}/backend/vbd", self.guest.domid()?);
        // The empty folders above are dom0's.
        let ask = format!("xenstore-ls -f {folder} 2>/dev/null | grep /vbd/.*/; true");
        let empty = || Ok(self.bench.host.shell(&ask)?.trim().is_empty());
        ensure!(until(PATIENCE, empty)?, "left in xenstore:\n{}", self.bench.host.shell(&ask)?);
        self.with_it.unchanged(self.bench.host)
    }

    /// Ends it.
    fn stop(self) -> Result<()> {
        self.bench.host.xl(&["shutdown", "-w", &self.guest.name])?;
        self.guest.gone(PATIENCE)?;
        self.before.unchanged(self.bench.host)
    }
}

fn create<'a>(bench: &Bench<'a>, memory: u32, size: &str) -> Result<Guest<'a>> {
    let settings = [
        "type=\"pvh\"",
        "kernel=\"out/ramdisk.elf\"",
        &format!("memory={memory}"),
        "vcpus=1",
        "driver_domain=1",
        "on_crash=\"preserve\"",
        &format!("extra=\"blk.serve={size}\""),
    ];
    Guest::create_from(bench.host, "/dev/null", &bench.name, &settings)
}

/// Our guest on both sides: all tests, and all ends that a disk can come to.
pub(super) fn ours(bench: &Bench) -> Result<()> {
    too_large(bench).context("a disk that is larger than the domain")?;
    let server = Server::start(bench, 48, "8M")?;
    let (one, two) = (("xvda", "one"), ("xvdb", "two"));
    // What is beside the disk that is mistreated goes on.
    server.passes(1, ALL, &[one, two])?;
    // What one guest wrote is there for the next.
    server.passes(2, WRITE, &[one])?;
    server.passes(3, VERIFY, &[one])?;
    server.idle()?;

    attached(&server).context("disks that come and go")?;
    refused(&server).context("disks that cannot be served")?;
    destroyed(&server).context("a frontend that is destroyed")?;
    server.passes(9, VERIFY, &[one])?;
    server.idle()?;
    server.stop()?;
    ended(bench).context("a server that ends")
}

/// A domain that has less memory than it is to serve says so, and ends.
fn too_large(bench: &Bench) -> Result<()> {
    let guest = create(bench, 32, "64M")?;
    guest.crashed()?;
    guest.says("blk.serve: 67584 KiB for the disk and its buffers do not fit into")?;
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)
}

/// Disks come and go while a guest runs.
fn attached(server: &Server) -> Result<()> {
    let guest = server.exerciser(4, "", &[])?;
    for round in 1..=3 {
        for (vdev, target) in [("xvda", "two"), ("xvdb", "three")] {
            server.attach(&guest, vdev, target)?;
            guest.says_times(&format!("{vdev}: 8 MiB, sectors of 512 bytes"), round)?;
        }
        let shown = server.bench.host.xl(&["block-list", &guest.name])?;
        let backend = format!("/local/domain/{}/backend/vbd/", server.guest.domid()?);
        ensure!(shown.matches(&backend).count() == 2, "xl block-list shows:\n{shown}");
        for vdev in ["xvdb", "xvda"] {
            server.detach(&guest, vdev)?;
            guest.says_times(&format!("{vdev} is gone"), round)?;
        }
    }
    server.bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    server.idle()
}

/// A disk that another guest has, or that there is no memory for, fails `xl`, and the others go on.
fn refused(server: &Server) -> Result<()> {
    let (holder, other) =
        (server.exerciser(5, "", &[("xvda", "two")])?, server.exerciser(6, "", &[])?);
    holder.says("xvda: 8 MiB")?;
    for (target, reason) in [
        ("two", "another guest has this disk"),
        ("four", ""),
        ("five", ""),
        ("six", "KiB of free memory"),
    ] {
        let attached = server.attach(&other, "xvda", target);
        if reason.is_empty() {
            attached?;
            server.detach(&other, "xvda")?;
            continue;
        }
        ensure!(attached.is_err(), "the disk {target} was attached");
        server.guest.says(reason)?;
        // xl leaves its own part of a disk that it could not attach.
        let _ = server.detach(&other, "xvda");
    }
    for guest in [holder, other] {
        server.bench.host.xl(&["destroy", &guest.name])?;
        guest.gone(PATIENCE)?;
    }
    server.idle()
}

/// A guest that is destroyed with requests in flight leaves nothing but what it wrote.
fn destroyed(server: &Server) -> Result<()> {
    let options = "blk.disk=xvda blk.seed=3 blk.loops=1000000 blk.size=2M";
    let run = format!("blk.run=durable blk.destroy=xvda {options}");
    let guest = server.exerciser(7, &run, &[("xvda", "two")])?;
    server.bench.until_more(&guest, 0)?;
    let rounds = server.bench.destroyed(&guest)?;
    server.idle()?;
    let check = format!("blk.run=durable-check blk.durable={rounds} {options}");
    server.passes(8, &check, &[("xvda", "two")])?;
    server.idle()
}

/// A server that is shut down has its disks given back; one that is destroyed takes them along; and
/// another one serves the same guest.
fn ended(bench: &Bench) -> Result<()> {
    let server = Server::start(bench, 48, "8M")?;
    let guest = server.exerciser(10, "", &[("xvda", "one")])?;
    guest.says("xvda: 8 MiB")?;
    bench.host.xl(&["shutdown", "-w", &server.guest.name])?;
    server.guest.gone(PATIENCE)?;
    // xl need not find a backend to take a disk away.
    let _ = bench.host.xl(&["block-detach", &guest.name, "xvda"]);
    guest.says("xvda is gone")?;
    for round in 2..=3 {
        let server = Server::start(bench, 48, "8M")?;
        server.attach(&guest, "xvda", "one")?;
        guest.says_times("xvda: 8 MiB", round)?;
        bench.host.xl(&["destroy", &server.guest.name])?;
        server.guest.gone(PATIENCE)?;
        let _ = bench.host.xl(&["block-detach", &guest.name, "xvda"]);
        guest.says_times("xvda is gone", round)?;
        server.before.unchanged(bench.host)?;
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    server.before.unchanged(bench.host)
}

/// Linux makes a filesystem on one, and another one finds it.
pub(super) fn linux(bench: &Bench) -> Result<()> {
    let server = Server::start(bench, 112, "64M")?;
    let run = |number: u32, words: &str, list: &[(&str, &str)]| -> Result<()> {
        let name = format!("{}-{number}", bench.name);
        let guest = Guest::linux_with(bench.host, &name, words, &[&server.disks(list)])?;
        guest.says_within("linux-guest: done: ", super::disks::LONG)?;
        guest.gone(PATIENCE)?;
        let console = guest.console();
        ensure!(!console.contains("FAILED"), "with {words} the Linux guest said:\n{console}");
        Ok(())
    };
    run(1, "role=blk-fs disk=xvda", &[("xvda", "files")])?;
    server.idle()?;

    let name = format!("{}-2", bench.name);
    let holder = Guest::linux_with(bench.host, &name, "role=blk-hold", &["disk=[]"])?;
    holder.says_within("disks: none.", super::disks::LONG)?;
    for round in 1..=2 {
        server.attach(&holder, "xvda", "files")?;
        holder.says_times("disks: xvda=131072.", round)?;
        server.detach(&holder, "xvda")?;
        holder.says_times("disks: none.", round + 1)?;
    }
    bench.host.xl(&["destroy", &holder.name])?;
    holder.gone(PATIENCE)?;

    let words = "role=blk-mount";
    let disks = server.disks(&[("xvda", "files")]);
    let mounted = Guest::linux_with(bench.host, &format!("{}-3", bench.name), words, &[&disks])?;
    mounted.says_within("blk-mount: mounted.", super::disks::LONG)?;
    bench.host.xl(&["destroy", &mounted.name])?;
    mounted.gone(PATIENCE)?;
    server.idle()?;
    server.stop()
}
