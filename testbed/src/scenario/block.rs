//! Our guest as the one that exercises block backends, against Linux's own.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Bench;
use super::disks::plain;
use crate::disk::{Census, Disk, Kind, Stamp, disks};
use crate::guest::Guest;
use crate::host::PATIENCE;

/// MiB of most disks here.
const SIZE: u32 = 16;

/// Sectors of 512 bytes in a MiB.
const MIB: u64 = 2048;

/// The most time that a guest may take for its tests; scenarios have limits of their own.
pub(super) const LONG: Duration = Duration::from_secs(1400);

/// Words in the last line of a run, whatever its result.
pub(super) const END: &str = " skipped; seed ";

impl<'a> Bench<'a> {
    /// Starts our guest with disks; `options` say what it does with them.
    fn exerciser(&self, number: u32, options: &str, list: &[(&Disk, &str)]) -> Result<Guest<'a>> {
        let name = format!("{}-{number}", self.name);
        let extra = format!("extra=\"vchan.role=none {options}\"");
        Guest::create_from(self.host, "xl/block.xl", &name, &[&disks(list), &extra])
    }

    /// Runs it to its end, and returns what it printed.
    pub(super) fn exercises(
        &self,
        number: u32,
        options: &str,
        list: &[(&Disk, &str)],
    ) -> Result<String> {
        let guest = self.exerciser(number, options, list)?;
        guest.says_within(END, LONG)?;
        guest.gone(PATIENCE)?;
        Ok(guest.console())
    }

    /// The same, for tests that must pass.
    pub(super) fn passes(
        &self,
        number: u32,
        options: &str,
        list: &[(&Disk, &str)],
    ) -> Result<String> {
        let console = self.exercises(number, options, list)?;
        if !console.contains(" passed, 0 failed, ") {
            let from = console.find("TAP version").unwrap_or(0);
            bail!("with {options} the guest printed:\n{}", &console[from..]);
        }
        Ok(console)
    }
}

pub(super) fn data(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    let options = "blk.run=report,verify,seq,rand,flush,boundary,segments,lifecycle,write blk.destroy=xvda \
                   blk.size=all blk.seed=77 blk.generation=5 blk.loops=8";
    let console = bench.passes(1, options, &[(&disk, "xvda")])?;
    ensure!(
        console.contains("\"feature-flush-cache\":\"1\""),
        "the report does not show the backend's keys:\n{console}"
    );
    // A C program finds in dom0 what the guest wrote, and the guest what that wrote.
    disk.stamped(Stamp { seed: 77, generation: 5, ..Stamp::default() })?;
    disk.stamp(Stamp { seed: 78, generation: 6, ..Stamp::default() })?;
    bench.passes(
        2,
        "blk.run=verify,seq blk.size=all blk.seed=78 blk.generation=6",
        &[(&disk, "xvda")],
    )?;
    let console =
        bench.exercises(3, "blk.run=verify blk.seed=78 blk.generation=7", &[(&disk, "xvda")])?;
    let found =
        console.contains("not ok 1 - xvda verify") && console.contains("is of generation 6");
    ensure!(found, "old stamps are not named:\n{console}");
    disk.remove()?;
    before.unchanged(bench.host)
}

/// Linux waits for what was written before a barrier, but does not keep what is written after it
/// from being done sooner, though blkif.h asks for both. A program that waits for the answer to a
/// barrier is safe, and nobody else.
pub(super) fn barrier(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    let console = bench.exercises(1, "blk.run=barrier blk.destroy=xvda", &[(&disk, "xvda")])?;
    let passed = console.contains("ok 1 - xvda barrier: at 64 places");
    ensure!(
        passed || console.contains("writes after a barrier were done before it"),
        "no result:\n{console}"
    );
    ensure!(
        !console.contains("writes before a barrier"),
        "a write before a barrier was done after it:\n{console}"
    );
    disk.remove()
}

pub(super) fn kinds(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let all = [
        bench.disk("4k", Kind::Loop { mib: SIZE, sector: 4096, read_only: false })?,
        bench.disk("ram", Kind::Ram { mib: SIZE })?,
        bench.disk("null", Kind::Null { mib: SIZE, sector: 512, keeps: true })?,
    ];
    let list = [(&all[0], "xvda"), (&all[1], "xvdb"), (&all[2], "xvdc")];
    let options = "blk.run=report,verify,rand,flush,boundary,segments,discard blk.destroy=xvda,xvdb,xvdc blk.size=2M";
    bench.passes(1, options, &list)?;
    for disk in all {
        disk.remove()?;
    }
    before.unchanged(bench.host)
}

pub(super) fn read_only(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", Kind::Loop { mib: SIZE, sector: 512, read_only: true })?;
    let sum = disk.checksum(0, None)?;
    let console =
        bench.passes(1, "blk.run=report,seq,rand,boundary,segments", &[(&disk, "xvda")])?;
    ensure!(
        console.contains(", read-only"),
        "the guest does not see that the disk is read-only:\n{console}"
    );
    // Asked to write, the guest says why it does not.
    let console = bench.exercises(2, "blk.run=seq blk.destroy=xvda", &[(&disk, "xvda")])?;
    ensure!(
        console.contains("the disk is read-only"),
        "a write to a read-only disk is not refused:\n{console}"
    );
    ensure!(disk.checksum(0, None)? == sum, "the read-only disk was written");
    disk.remove()
}

pub(super) fn features(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    bench.passes(1, "blk.run=features blk.destroy=xvda", &[(&disk, "xvda")])?;
    disk.remove()
}

pub(super) fn hostile(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let (victim, witness) = (bench.disk("a", plain(SIZE))?, bench.disk("b", plain(SIZE))?);
    let options = "blk.disk=xvda blk.run=hostile blk.hostile=yes blk.destroy=xvda";
    let console = bench.exercises(1, options, &[(&victim, "xvda"), (&witness, "xvdb")])?;
    fails_only(&console, LINUX_FAILS)?;
    // dom0 lives, and its backend serves the next guest.
    bench.passes(2, "blk.run=report,rand blk.destroy=xvda", &[(&victim, "xvda")])?;
    victim.remove()?;
    witness.remove()?;
    before.unchanged(bench.host)
}

/// Checks that Linux's backend fails: docs/block-bugs.md.
const LINUX_FAILS: &[(&str, &str)] = &[
    ("barrier", "writes after a barrier were done before it"),
    ("hostile", "a secure discard that is not offered: was answered with 0"),
];

/// Everything at once, on Linux's backend: it fails no check but those that it deserves to fail,
/// and on a read-only disk none.
pub(super) fn conform(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let kinds = [
        (plain(SIZE), "all,hostile", LINUX_FAILS),
        (Kind::Loop { mib: SIZE, sector: 4096, read_only: false }, "all,hostile", LINUX_FAILS),
        (Kind::Loop { mib: SIZE, sector: 512, read_only: true }, "report,segments,hostile", &[]),
    ];
    for (number, (kind, tests, expected)) in (1..).zip(kinds) {
        let (disk, other) = (bench.disk("a", kind)?, bench.disk("b", plain(SIZE))?);
        let options = format!(
            "blk.disk=xvda blk.run={tests} blk.hostile=yes blk.destroy=xvda blk.size=2M blk.bytes=4M"
        );
        let console = bench.exercises(number, &options, &[(&disk, "xvda"), (&other, "xvdb")])?;
        fails_only(&console, expected).with_context(|| format!("{kind:?}"))?;
        disk.remove()?;
        other.remove()?;
    }
    before.unchanged(bench.host)
}

/// The same with several rings: what is forbidden on one leaves the other alone.
pub(super) fn queues(bench: &Bench) -> Result<()> {
    const LIMIT: &str = "/sys/module/xen_blkback/parameters/max_queues";
    let before = Census::take(bench.host)?;
    let limit = bench.host.shell(&format!("modprobe xen-blkback; cat {LIMIT}"))?;
    // As many as the host has processors, which may be one, unless it is told.
    bench.host.shell(&format!("echo 4 >{LIMIT}"))?;
    let disk = bench.disk("a", plain(SIZE))?;
    let options = "blk.run=report,rand,flush,features,hostile blk.hostile=yes blk.destroy=xvda \
                   blk.size=2M";
    let console = bench.exercises(1, options, &[(&disk, "xvda")]);
    bench.host.shell(&format!("echo {} >{LIMIT}", limit.trim()))?;
    let console = console?;
    ensure!(
        console.contains("multi-queue-max-queues = \"4\""),
        "the backend does not offer four rings:\n{console}"
    );
    fails_only(&console, LINUX_FAILS)?;
    disk.remove()?;
    before.unchanged(bench.host)
}

/// Checks that no check failed but some of those named, each by its test and its first words.
pub(super) fn fails_only(console: &str, expected: &[(&str, &str)]) -> Result<()> {
    let mut test = "";
    for line in console.lines() {
        let mut is_expected = true;
        if line.starts_with("not ok ") {
            test = line.split([' ', ':']).nth(5).unwrap_or_default();
            is_expected = expected.iter().any(|(name, _)| *name == test);
        } else if let Some(detail) = line.strip_prefix("    - \"") {
            let fits = |(name, words): &(&str, &str)| *name == test && detail.starts_with(words);
            is_expected = expected.iter().any(fits);
        }
        ensure!(
            is_expected,
            "{test} failed, where only {expected:?} may: {line}\n{}",
            &console[console.find("TAP version").unwrap_or(0)..]
        );
    }
    Ok(())
}

pub(super) fn hotplug(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    let guest = bench.exerciser(1, "", &[])?;
    for round in 1..=10 {
        disk.attach(&guest, "xvda")?;
        guest.says_times(&format!("xvda: {SIZE} MiB, sectors of 512 bytes"), round)?;
        disk.detach(&guest, "xvda")?;
        guest.says_times("xvda is gone", round)?;
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    disk.remove()?;
    before.unchanged(bench.host)
}

/// A disk whose sectors take more than 32 bits to count: data on both sides of the border, and at
/// its two ends.
pub(super) fn huge(bench: &Bench) -> Result<()> {
    const TIB: u32 = 1 << 20;
    const BORDER: u64 = 1 << 32;
    let disk = bench.disk("a", plain(3 * TIB))?;
    let console =
        bench.passes(1, "blk.run=report,boundary blk.destroy=xvda", &[(&disk, "xvda")])?;
    ensure!(console.contains("xvda report: 3145728 MiB, "), "another size is reported:\n{console}");
    let first = BORDER - MIB / 2;
    let options = format!(
        "blk.run=write blk.destroy=xvda blk.first={first} blk.size=1M blk.seed=9 blk.generation=1"
    );
    bench.passes(2, &options, &[(&disk, "xvda")])?;
    let written = Stamp { seed: 9, generation: 1, first, sectors: Some(MIB) };
    disk.stamped(written)?;
    disk.stamp(Stamp { seed: 10, generation: 2, ..written })?;
    let options =
        format!("blk.run=verify blk.first={first} blk.size=1M blk.seed=10 blk.generation=2");
    bench.passes(3, &options, &[(&disk, "xvda")])?;
    disk.remove()
}

pub(super) fn console(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    disk.stamp(Stamp { seed: 5, ..Stamp::default() })?;
    let guest = bench.exerciser(1, "", &[(&disk, "xvda")])?;
    guest.says("xvda: 16 MiB")?;
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    for (typed, shown) in [
        ("blk list", "xvda: 16 MiB, sectors of 512 bytes"),
        ("blk info xvda", "events_received: "),
        // The bytes "RINGSIDE", and then the sector's number.
        ("blk read xvda 3", "52 49 4e 47 53 49 44 45 03 00"),
        ("blk read xvdb 0", "no such disk or command"),
        ("blk run verify xvda blk.seed=5", "ok 1 - xvda verify"),
        ("blk run seq,flush xvda", "not ok 2 - xvda flush: overwrites the disk"),
        ("blk run report xvda", "ok 1 - xvda report"),
        ("vchan status", "clients  0 connected"),
    ] {
        console.write(format!("{typed}\r").as_bytes())?;
        console.wait_for(shown, PATIENCE)?;
    }
    console.write(b"poweroff\r")?;
    guest.gone(PATIENCE)?;
    disk.stamped(Stamp { seed: 5, ..Stamp::default() })?;
    disk.remove()
}

pub(super) fn resize(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    let guest = bench.exerciser(1, "blk.run=resize blk.destroy=xvda", &[(&disk, "xvda")])?;
    guest.says("waiting for another size")?;
    disk.resize(2 * SIZE)?;
    guest.says_within(
        &format!("from {} to {} sectors", u64::from(SIZE) * MIB, u64::from(2 * SIZE) * MIB),
        LONG,
    )?;
    guest.says(" 1 passed, 0 failed, ")?;
    guest.gone(PATIENCE)?;
    disk.remove()
}
