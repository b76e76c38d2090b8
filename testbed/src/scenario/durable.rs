//! The power of a disk is cut while our guest writes: what it was told to be flushed is there when
//! another guest looks, and a disk that lied about it is found out.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::disks::{LONG, plain};
use crate::client::Process;
use crate::disk::{Census, Disk, Mapping, disks};
use crate::guest::Guest;
use crate::host::{Host, PATIENCE, until};

/// SIGKILL, and the signal at which the layer `powercut` cuts the power.
const KILL: i32 = 9;
const CUT: i32 = 10;

/// Rounds of writes after which a guest ends by itself.
const ROUNDS: u32 = 3000;

/// Rounds that must be durable before something is done to the disk.
pub(super) const ENOUGH: u32 = 12;

/// Words in the last line of a run, whatever its result.
const END: &str = " skipped; seed ";

/// A file in dom0 that is a disk, removed when it is dropped.
struct Image<'a> {
    host: &'a Host,
    path: String,
}

impl<'a> Image<'a> {
    fn new(bench: &Bench<'a>) -> Result<Image<'a>> {
        let path = format!("/tmp/{}.raw", bench.name);
        bench.host.shell(&format!("rm -rf {path} {path}.*; truncate -s 16M {path}"))?;
        Ok(Image { host: bench.host, path })
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = self.host.shell(&format!("rm -rf {0} {0}.*", self.path));
    }
}

/// Which test, and with which data.
#[derive(Clone, Copy)]
struct Try {
    test: &'static str,
    seed: u32,
}

impl Try {
    fn write(self) -> String {
        self.options("", "blk.destroy=xvda")
    }

    fn check(self, durable: u32) -> String {
        self.options("-check", &format!("blk.durable={durable}"))
    }

    fn options(self, phase: &str, more: &str) -> String {
        let Try { test, seed } = self;
        format!(
            "blk.run={test}{phase} blk.disk=xvda blk.seed={seed} blk.loops={ROUNDS} blk.size=2M {more}"
        )
    }
}

impl<'a> Bench<'a> {
    /// Our guest, which waits until it is let go, and then does what `options` say.
    pub(super) fn held(
        &self,
        number: u32,
        options: &str,
        list: &[(&Disk, &str)],
    ) -> Result<Guest<'a>> {
        let extra = format!("extra=\"vchan.role=none {options}\"");
        Guest::create_from(
            self.host,
            "xl/block.xl",
            &format!("{}-{number}", self.name),
            &["-p", &disks(list), &extra],
        )
    }

    /// The same, with a disk of xen-disk that is kept in `stack`.
    fn on_stack(&self, number: u32, options: &str, stack: &str) -> Result<(Guest<'a>, Process)> {
        let guest = self.held(number, options, &[])?;
        let serving = self.serve(&guest, stack)?;
        Ok((guest, serving))
    }

    fn serve(&self, guest: &Guest, stack: &str) -> Result<Process> {
        let words = ["out/xen-disk", "connect", &guest.name, "--vdev", "xvda", "--stack", stack];
        let serving = self.host.spawn(&words)?;
        serving.wait_for("Press Control+C", PATIENCE)?;
        Ok(serving)
    }

    pub(super) fn let_go(&self, guest: &Guest) -> Result<()> {
        self.host.xl(&["unpause", &guest.name]).map(drop)
    }

    /// Waits until the guest has recorded that enough is durable beyond this number of rounds.
    pub(super) fn until_more(&self, guest: &Guest, rounds: u32) -> Result<()> {
        let enough = until(LONG, || Ok(self.recorded(guest)? >= rounds + ENOUGH))?;
        ensure!(
            enough,
            "{} has recorded {} rounds:\n{}",
            guest.name,
            self.recorded(guest)?,
            guest.console()
        );
        Ok(())
    }

    /// Destroys a guest whose disk nobody serves: how many rounds it has recorded.
    pub(super) fn destroyed(&self, guest: &Guest) -> Result<u32> {
        let rounds = self.recorded(guest)?;
        self.host.xl(&["destroy", &guest.name])?;
        guest.gone(PATIENCE)?;
        Ok(rounds)
    }

    /// Returns the number of rounds that the guest has recorded as durable.
    pub(super) fn recorded(&self, guest: &Guest) -> Result<u32> {
        let key = format!("/local/domain/{}/data/report/xvda/durable", guest.domid()?);
        let value = self.host.shell(&format!("xenstore-read {key} 2>/dev/null || echo 0"))?;
        value.trim().parse().with_context(|| format!("{key} is {value:?}"))
    }

    /// Has a guest look at what is in the image: what it printed.
    fn looks(&self, number: u32, options: &str, image: &Image) -> Result<String> {
        self.looks_at(number, options, &format!("file:{}", image.path))
    }

    fn looks_at(&self, number: u32, options: &str, stack: &str) -> Result<String> {
        let (guest, serving) = self.on_stack(number, options, stack)?;
        self.let_go(&guest)?;
        let console = ended(&guest)?;
        serving.wait(PATIENCE)?;
        Ok(console)
    }
}

/// Waits for the end of a guest that ends by itself: what it printed.
pub(super) fn ended(guest: &Guest) -> Result<String> {
    guest.says_within(END, LONG)?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    let tests = console.find("TAP version").unwrap_or(0);
    Ok(console[tests..].to_string())
}

/// The number of durable rounds in what the guest printed.
fn durable(console: &str) -> Result<u32> {
    let printed = || console.split_once("\"blk.durable=")?.1.split_once(';')?.0.parse().ok();
    let rounds =
        printed().with_context(|| format!("no number of durable rounds in:\n{console}"))?;
    ensure!(
        (ENOUGH..ROUNDS).contains(&rounds),
        "{rounds} rounds were durable when the disk failed:\n{console}"
    );
    Ok(rounds)
}

pub(super) fn survives(console: &str) -> Result<()> {
    ensure!(console.contains(" 1 passed, 0 failed, "), "what was flushed is lost:\n{console}");
    Ok(())
}

fn found_out(console: &str) -> Result<()> {
    let found =
        console.contains(" 0 passed, 1 failed, ") && console.contains(", was durable in round ");
    ensure!(found, "a disk that lies is not found out:\n{console}");
    Ok(())
}

/// The power goes after some writes, as the stack says, and the disk is looked at.
fn by_rule(bench: &Bench, number: u32, tried: Try, above: &str) -> Result<String> {
    let image = Image::new(bench)?;
    let stack =
        format!("{above}powercut:after=200,keep=0.5,seed={}/file:{}", tried.seed, image.path);
    let (guest, serving) = bench.on_stack(number, &tried.write(), &stack)?;
    bench.let_go(&guest)?;
    let rounds = durable(&ended(&guest)?)?;
    serving.wait(PATIENCE)?;
    bench.looks(number + 1, &tried.check(rounds), &image)
}

pub(super) fn flushed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    survives(&by_rule(bench, 1, Try { test: "durable", seed: 1 }, "")?)?;
    found_out(&by_rule(bench, 3, Try { test: "durable", seed: 2 }, "fault:op=flush,silent/")?)?;
    before.unchanged(bench.host)
}

pub(super) fn barriers(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    survives(&by_rule(bench, 1, Try { test: "ordered", seed: 3 }, "")?)?;
    found_out(&by_rule(bench, 3, Try { test: "ordered", seed: 4 }, "fault:op=flush,silent/")?)?;
    before.unchanged(bench.host)
}

/// The power goes at a signal, and with the server that is killed; the guest that waits for the
/// next one dies, too.
pub(super) fn killed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    for (number, test, above, signal) in [
        (1, "durable", "powercut:keep=0.3/", CUT),
        (3, "durable", "powercut/", KILL),
        (5, "ordered", "powercut/", KILL),
    ] {
        let (image, tried) = (Image::new(bench)?, Try { test, seed: 5 });
        let stack = format!("{above}file:{}", image.path);
        let (guest, serving) = bench.on_stack(number, &tried.write(), &stack)?;
        bench.let_go(&guest)?;
        bench.until_more(&guest, 0)?;
        serving.signal(signal)?;
        let rounds = match signal {
            CUT => durable(&ended(&guest)?)?,
            _ => bench.destroyed(&guest)?,
        };
        serving.wait(PATIENCE)?;
        survives(&bench.looks(number + 1, &tried.check(rounds), &image)?).with_context(|| stack)?;
    }
    before.unchanged(bench.host)
}

/// Every storage that has in its file what was answered: its server is killed, the next one goes
/// on, and is killed, too.
pub(super) fn storages(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let stacks = [
        "file:PATH",
        "mmap:PATH",
        "overlay:\"PATH.overlay\"/file:PATH",
        "vhd:PATH.vhd",
        "qcow2:PATH.qcow2",
    ];
    for (number, stack) in (1..).step_by(2).zip(stacks) {
        let (image, tried) = (Image::new(bench)?, Try { test: "durable", seed: 8 });
        let stack = stack.replace("PATH", &image.path);
        if stack.starts_with("vhd") || stack.starts_with("qcow2") {
            bench.host.shell(&format!("out/xen-disk convert file:{} {stack}", image.path))?;
        }
        let (guest, mut serving) = bench.on_stack(number, &tried.write(), &stack)?;
        bench.let_go(&guest)?;
        bench.until_more(&guest, 0)?;
        serving.signal(KILL)?;
        serving.wait(PATIENCE)?;
        let rounds = bench.recorded(&guest)?;
        serving = bench.serve(&guest, &stack)?;
        bench.until_more(&guest, rounds)?;
        serving.signal(KILL)?;
        serving.wait(PATIENCE)?;
        let rounds = bench.destroyed(&guest)?;
        survives(&bench.looks_at(number + 1, &tried.check(rounds), &stack)?)
            .with_context(|| stack)?;
    }
    before.unchanged(bench.host)
}

/// Linux's backend over a device that begins to fail, and over one that takes writes and drops
/// them.
pub(super) fn blkback(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk =
        bench.disk("a", plain(16))?.mapped(&format!("{}-cut", bench.name), Mapping::Linear)?;
    let list = [(&disk, "xvda")];
    for (number, seed, mapping) in [(1, 6, Mapping::AllFail), (3, 7, Mapping::Forgets)] {
        let tried = Try { test: "durable", seed };
        let guest = bench.held(number, &tried.write(), &list)?;
        bench.let_go(&guest)?;
        bench.until_more(&guest, 0)?;
        disk.remap(mapping)?;
        if mapping == Mapping::Forgets {
            bench.until_more(&guest, bench.recorded(&guest)?)?;
            disk.remap(Mapping::AllFail)?;
        }
        let rounds = durable(&ended(&guest)?)?;
        disk.remap(Mapping::Linear)?;
        let guest = bench.held(number + 1, &tried.check(rounds), &list)?;
        bench.let_go(&guest)?;
        let console = ended(&guest)?;
        if mapping == Mapping::AllFail { survives(&console)? } else { found_out(&console)? }
    }
    disk.remove()?;
    before.unchanged(bench.host)
}
