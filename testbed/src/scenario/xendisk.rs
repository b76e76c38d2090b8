//! xen-disk and Linux guests: disks that are plugged in and out while the guest runs.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::disks::LONG;
use crate::client::Process;
use crate::disk::{Census, Stamp};
use crate::guest::Guest;
use crate::host::{Host, PATIENCE, until};

/// Where images lie in dom0.
const FOLDER: &str = "/tmp/ringside-xen-disk";

/// SIGINT, which Ctrl-C sends, SIGTERM and SIGKILL.
const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;
const KILL: i32 = 9;

/// What xen-disk says when a disk is plugged in.
const READY: &str = "Press Control+C to disconnect device.";

/// An image file in dom0, removed when it is dropped.
struct Image<'a> {
    host: &'a Host,
    path: String,
}

impl<'a> Image<'a> {
    /// A sparse file.
    fn new(bench: &Bench<'a>, label: &str, mib: u32) -> Result<Image<'a>> {
        let path = format!("{FOLDER}/{}-{label}", bench.name);
        bench.host.shell(&format!("mkdir -p {FOLDER} && truncate -s {mib}M {path}"))?;
        Ok(Image { host: bench.host, path })
    }

    /// The same with an ext4 filesystem that has one file.
    fn with_file(bench: &Bench<'a>, mib: u32) -> Result<Image<'a>> {
        let image = Image::new(bench, "golden", mib)?;
        let path = &image.path;
        let made = format!(
            "mkdir {path}.d && echo golden >{path}.d/file && mkfs.ext4 -q -F -d {path}.d {path} && rm -r {path}.d"
        );
        bench.host.shell(&made)?;
        Ok(image)
    }

    fn sum(&self) -> Result<String> {
        self.host.shell(&format!("sha256sum <{}", self.path))
    }

    /// How much of it is there, in KiB.
    fn kib(&self) -> Result<u64> {
        let printed = self.host.shell(&format!("du -k {} | cut -f1", self.path))?;
        printed.trim().parse().with_context(|| format!("du prints {printed:?}"))
    }

    fn stamped(&self, stamp: Stamp) -> Result<()> {
        let program = self.host.peer("blk-stamp");
        self.host.shell(&format!("{program} verify {} {}", self.path, stamp.options())).map(drop)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = self.host.shell(&format!("rm -rf {0} {0}.*", self.path));
    }
}

impl<'a> Bench<'a> {
    /// Starts `xen-disk connect` and waits until the disk is plugged in.
    fn xen_disk(&self, guest: &Guest, words: &[&str]) -> Result<Process> {
        let serving = self.host.spawn(&[&["out/xen-disk", "connect", &guest.name, "--verbose"], words].concat())?;
        serving.wait_for(READY, PATIENCE)?;
        Ok(serving)
    }

    /// Makes sure that xenstore has nothing of a disk of ours, and the rest is as it was.
    fn nothing_left(&self, before: &Census) -> Result<()> {
        let ask = "xenstore-ls /local/domain/0/backend/xen-disk 2>/dev/null; ls /run/xen-disk";
        let clean = || Ok(self.host.shell(ask)?.trim().is_empty());
        ensure!(until(PATIENCE, clean)?, "xen-disk left behind: {}", self.host.shell(ask)?);
        before.unchanged(self.host)
    }
}

pub(super) fn session(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::with_file(bench, 128)?;
    let sum = image.sum()?;
    let guest = bench.linux(1, "role=blk-session disk=xvdb", &[])?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--backend", "cow", "--vdev", "xvdb"])?;
    guest.says_within("blk-session: changed.", LONG)?;
    let listed = bench.host.shell("out/xen-disk list")?;
    ensure!(listed.contains("xvdb") && listed.contains("Connected"), "xen-disk list shows:\n{listed}");
    let stats = bench.host.shell(&format!("out/xen-disk stats {} xvdb", guest.name))?;
    ensure!(stats.contains("reads") && stats.contains("latency"), "xen-disk stats shows:\n{stats}");
    serving.signal(INTERRUPT)?;
    serving.wait_for("Received signal, requesting hot-unplug.", PATIENCE)?;
    serving.wait(PATIENCE)?.expect(0)?;
    guest.says_within("the disk is gone", PATIENCE)?;
    guest.gone(LONG)?;
    ensure!(image.sum()? == sum, "the golden image has changed");
    bench.nothing_left(&before)
}

pub(super) fn storages(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    for (number, name) in [(1, "file"), (2, "verify"), (3, "mmap"), (4, "overlay")] {
        let image = Image::new(bench, name, 16)?;
        let stamp = Stamp { seed: 5, generation: u64::from(number), ..Stamp::default() };
        let guest = bench.linux(number, &format!("role=blk-write disk=xvdb {}", stamp.words()), &[])?;
        let path = &image.path;
        let stack = match name {
            "verify" => format!("verify/throttle:rate=1G/file:{path}"),
            "overlay" => format!("overlay:\"{path}.overlay\"/file:{path}"),
            _ => format!("{name}:{path}"),
        };
        let serving = bench.xen_disk(&guest, &["--stack", &stack, "--vdev", "xvdb"])?;
        guest.says_within("linux-guest: done: xvdb is as it should be", LONG)?;
        guest.gone(LONG)?;
        // The disk goes with its domain, which is not what was asked for.
        serving.wait(PATIENCE)?.expect(4)?;
        if name == "overlay" {
            bench.host.shell(&format!("out/xen-disk commit '{stack}'"))?;
        }
        image.stamped(stamp)?;
    }
    bench.nothing_left(&before)
}

pub(super) fn killed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "killed", 64)?;
    let stamp = Stamp { seed: 6, ..Stamp::default() };
    let guest = bench.linux(1, &format!("role=blk-write disk=xvdb {}", stamp.words()), &[])?;
    let words = ["--path", &image.path, "--vdev", "xvdb"];
    let mut serving = bench.xen_disk(&guest, &words)?;
    for _ in 0..3 {
        let first = image.kib()?;
        ensure!(until(LONG, || Ok(image.kib()? > first + 1024))?, "the guest writes nothing");
        serving.signal(KILL)?;
        serving.wait(PATIENCE)?;
        serving = bench.xen_disk(&guest, &words)?;
        ensure!(serving.said().contains("Going on with device"), "xen-disk said:\n{}", serving.said());
    }
    guest.says_within("linux-guest: done: xvdb is as it should be", LONG)?;
    guest.gone(LONG)?;
    serving.wait(PATIENCE)?.expect(4)?;
    image.stamped(stamp)?;
    bench.nothing_left(&before)
}

pub(super) fn destroyed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "destroyed", 64)?;
    let guest = bench.linux(1, "role=blk-write disk=xvdb", &[])?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvdb"])?;
    ensure!(until(LONG, || Ok(image.kib()? > 0))?, "the guest writes nothing");
    bench.host.xl(&["destroy", &guest.name])?;
    serving.wait(PATIENCE)?.expect(4)?;
    bench.nothing_left(&before)
}

pub(super) fn in_use(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::with_file(bench, 32)?;
    let guest = bench.linux(1, "role=blk-mount disk=xvdb", &[])?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--backend", "mmap", "--vdev", "xvdb"])?;
    guest.says_within("blk-mount: mounted.", LONG)?;
    // Linux keeps a disk that is mounted; the second time it is not asked.
    serving.signal(INTERRUPT)?;
    serving.wait_for("requesting hot-unplug", PATIENCE)?;
    ensure!(serving.running(), "the disk was taken from a guest that has it mounted");
    serving.signal(INTERRUPT)?;
    serving.wait_for("tearing down the backend", PATIENCE)?;
    serving.wait(PATIENCE)?.expect(5)?;
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    bench.nothing_left(&before)
}

pub(super) fn resize(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "grows", 16)?;
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    // Twice: nothing of the first is in the way of the second.
    for (round, mib) in [(1, 16), (2, 48)] {
        let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvdb"])?;
        let size = |mib: u32| format!("disks: xvdb={}.", mib * 2048);
        guest.says_times(&size(mib), round)?;
        bench.host.shell(&format!("out/xen-disk resize {} xvdb {}M", guest.name, mib + 32))?;
        guest.says(&size(mib + 32))?;
        let refused = bench.host.shell(&format!("out/xen-disk resize {} xvdb 1M", guest.name));
        ensure!(refused.is_err(), "a disk was made shorter without being asked twice");
        bench.host.shell(&format!("out/xen-disk disconnect {} xvdb", guest.name))?;
        serving.wait(PATIENCE)?.expect(0)?;
        guest.says_times("disks: none.", round + 1)?;
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    bench.nothing_left(&before)
}

pub(super) fn serve(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let images = (1..=4).map(|n| Image::new(bench, &format!("disk-{n}"), 16)).collect::<Result<Vec<_>>>()?;
    let mut config = String::new();
    for (n, (image, stack)) in
        images.iter().zip(["file:PATH", "mmap:PATH", "verify/file:PATH", "file:PATH"]).enumerate()
    {
        let (guest, vdev) = (n / 2 + 1, ["xvdb", "xvdc"][n % 2]);
        let stack = stack.replace("PATH", &image.path);
        config += &format!("[[disk]]\nvm = \"{}-{guest}\"\nvdev = \"{vdev}\"\nstack = \"{stack}\"\n", bench.name);
    }
    let path = format!("{}.toml", images[0].path);
    bench.host.shell(&format!("cat >{path} <<'END'\n{config}END"))?;
    let log = format!("{}.log", images[0].path);
    let serving = bench.shell(&format!("exec out/xen-disk serve {path} 2>{log}"))?;
    let said = || bench.host.shell(&format!("cat {log}"));
    let waits = |count: usize| until(LONG, || Ok(said()?.matches("Waiting for domain").count() >= count));
    ensure!(waits(4)?, "xen-disk said:\n{}", said()?);
    let open = || bench.host.shell("ls /proc/$(pidof xen-disk)/fd | wc -l");

    let mut counts = Vec::new();
    for (round, seed) in [(1, 3), (2, 4)] {
        let stamp = Stamp { seed, ..Stamp::default() };
        let words = format!("role=blk-write disk=xvdb,xvdc {}", stamp.words());
        let guests = [bench.linux(1, &words, &[])?, bench.linux(2, &words, &[])?];
        for guest in guests {
            guest.says_within("linux-guest: done: xvdb,xvdc is as it should be", LONG)?;
            guest.gone(LONG)?;
        }
        ensure!(waits(4 * (round + 1))?, "xen-disk said:\n{}", said()?);
        images.iter().try_for_each(|image| image.stamped(stamp))?;
        counts.push(open()?);
    }
    ensure!(counts[0] == counts[1], "descriptors are left open: {counts:?}");
    serving.signal(TERMINATE)?;
    serving.wait(PATIENCE)?.expect(0)?;
    bench.nothing_left(&before)
}

/// What our guest tries with a disk; all of it is in the way of a disk beside.
const EXERCISE: &str = "blk.run=report,verify,seq,rand,flush,barrier,discard,features,boundary,lifecycle,hostile \
                        blk.hostile=yes";

/// Has our guest try all it can with one disk, and leaves one beside it alone, which must go on working.
fn exercise(bench: &Bench, stack: &str) -> Result<()> {
    let stamp = Stamp { seed: 9, ..Stamp::default() };
    let image = Image::new(bench, "stamped", 16)?;
    let stamps = bench.host.peer("blk-stamp");
    bench.host.shell(&format!("{stamps} write {} {}", image.path, stamp.options()))?;
    let extra = format!("extra=\"vchan.role=none {EXERCISE} blk.disk=xvda blk.destroy=xvda blk.seed=9\"");
    // It runs once both are there.
    let guest = Guest::create_from(bench.host, "xl/block.xl", &bench.name, &["-p", &extra])?;
    let victim = bench.xen_disk(&guest, &["--stack", stack, "--vdev", "xvda"])?;
    let witness = bench.xen_disk(&guest, &["--stack", &format!("verify/file:{}", image.path), "--vdev", "xvdb"])?;
    bench.host.xl(&["unpause", &guest.name])?;
    guest.says_within(" skipped; seed 9", LONG)?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    let tests = console.find("TAP version").unwrap_or(0);
    ensure!(console.contains(" passed, 0 failed, "), "with {stack} the guest printed:\n{}", &console[tests..]);
    for serving in [victim, witness] {
        serving.wait(PATIENCE)?.expect(4)?;
    }
    image.stamped(stamp)
}

pub(super) fn exercised(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    exercise(bench, "ram:size=16M")?;
    bench.nothing_left(&before)
}

fn exercised_image(bench: &Bench, stack: &str) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "exercised", 16)?;
    exercise(bench, &stack.replace("PATH", &image.path))?;
    bench.nothing_left(&before)
}

pub(super) fn exercised_file(bench: &Bench) -> Result<()> {
    exercised_image(bench, "file:PATH")
}

pub(super) fn exercised_mmap(bench: &Bench) -> Result<()> {
    exercised_image(bench, "mmap:PATH")
}

pub(super) fn exercised_cow(bench: &Bench) -> Result<()> {
    exercised_image(bench, "cow:PATH")
}

pub(super) fn exercised_overlay(bench: &Bench) -> Result<()> {
    exercised_image(bench, "overlay:\"PATH.overlay\"/file:PATH")
}
