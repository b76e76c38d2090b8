//! Our guest against more backends, and for longer.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::block::fails_only;
use super::disks::plain;
use crate::disk::{Census, Kind, Mapping, Stamp};
use crate::host::{PATIENCE, until};

/// MiB of the disks here.
const SIZE: u32 = 16;

/// Sectors of 512 bytes in a MiB.
const MIB: u64 = 2048;

/// Everything that Linux has written ours finds, and the other way round.
pub(super) fn linux(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    let theirs = Stamp { seed: 21, generation: 1, ..Stamp::default() };
    bench.linux_does(1, &format!("role=blk-write {}", theirs.words()), &[(&disk, "xvda")])?;
    bench.passes(
        2,
        "blk.run=verify,seq blk.size=all blk.seed=21 blk.generation=1",
        &[(&disk, "xvda")],
    )?;
    bench.passes(
        3,
        "blk.run=write blk.size=all blk.seed=22 blk.generation=2 blk.destroy=xvda",
        &[(&disk, "xvda")],
    )?;
    let ours = Stamp { seed: 22, generation: 2, ..Stamp::default() };
    bench.linux_does(4, &format!("role=blk-verify {}", ours.words()), &[(&disk, "xvda")])?;
    disk.remove()
}

/// A filesystem that Linux made: our guest finds each sector with the checksum that it has for
/// Linux, leaves all of them as they are when it writes to the rest of the disk, and names one that
/// was changed.
pub(super) fn ext4(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let (disk, table) = (bench.disk("a", plain(2 * SIZE))?, bench.disk("sums", plain(1))?);
    let both = [(&disk, "xvda"), (&table, "xvdb")];
    let (said, _) = bench.linux_says(1, &format!("role=blk-fs fs={SIZE}M sums=xvdb"), &both)?;
    let theirs = sums(&said);
    ensure!(
        theirs.len() == 2 * SIZE as usize + 1,
        "Linux says {} checksums:\n{said}",
        theirs.len()
    );
    let options = "blk.disk=xvda blk.run=sum blk.sums=xvdb";
    let said = bench.passes(2, &format!("{options} blk.size=all"), &both)?;
    ensure!(sums(&said) == theirs, "our guest says other checksums than Linux: {theirs:?}\n{said}");
    ensure!(sums(&disk.sums("xvda")?) == theirs, "the file has other checksums than {theirs:?}");

    let part = format!("blk.first={} blk.size={SIZE}M blk.destroy=xvda", u64::from(SIZE) * MIB);
    let tests = "seq,rand,verify,write,flush,discard,features";
    bench.passes(3, &format!("blk.disk=xvda blk.run={tests} blk.seed=31 {part}"), &both)?;
    disk.fsck()?;
    let filesystem = format!("{options} blk.first=0 blk.size={SIZE}M");
    bench.passes(4, &filesystem, &both)?;
    let changed = 12_345;
    disk.damage(changed)?;
    let said = bench.exercises(5, &filesystem, &both)?;
    let named = said.contains(&format!("sector {changed} has the checksum "))
        && said.contains("message: 1 of ");
    ensure!(named, "one changed sector is not named:\n{said}");
    let differ: Vec<_> = sums(&said).into_iter().filter(|line| !theirs.contains(line)).collect();
    ensure!(
        differ.len() == 2 && differ[0].contains("\"first\":12288,"),
        "other parts differ: {differ:?}"
    );
    disk.remove()?;
    table.remove()?;
    before.unchanged(bench.host)
}

/// The lines with checksums.
fn sums(said: &str) -> Vec<String> {
    said.lines()
        .map(|line| line.trim_end().trim_start_matches("# "))
        .filter(|line| line.starts_with("{\"sum\":"))
        .map(str::to_string)
        .collect()
}

/// A disk of which a part cannot be read: that is said, with the place, and the rest is read.
pub(super) fn errors(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let bad = Mapping::Error { first: 4 * MIB, count: 8 };
    let disk = bench.disk("a", plain(SIZE))?.mapped(&format!("{}-error", bench.name), bad)?;
    let console = bench.exercises(1, "blk.run=report,seq blk.size=all", &[(&disk, "xvda")])?;
    ensure!(console.contains("ok 1 - xvda report"), "no report:\n{console}");
    ensure!(
        console.contains("not ok 2 - xvda seq"),
        "sectors that cannot be read are read:\n{console}"
    );
    disk.remap(Mapping::Delay { ms: 2 })?;
    bench.passes(
        2,
        "blk.run=seq,rand,flush,lifecycle blk.destroy=xvda blk.size=2M",
        &[(&disk, "xvda")],
    )?;
    disk.remap(Mapping::AllFail)?;
    let console = bench.exercises(3, "blk.run=rand", &[(&disk, "xvda")])?;
    ensure!(console.contains("not ok 1 - xvda rand"), "a disk that fails is read:\n{console}");
    disk.remove()?;
    before.unchanged(bench.host)
}

/// A disk that works for a second and fails for one, and again: what it failed to do is said, what
/// it said it did is there, and nothing waits for ever. One that forgets what it said it had
/// written is found out.
pub(super) fn flakey(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let flakey = Mapping::Flakey { up: 1, down: 1 };
    let disk = bench.disk("a", plain(SIZE))?.mapped(&format!("{}-flakey", bench.name), flakey)?;
    let options = "blk.run=faults blk.destroy=xvda blk.seed=41 blk.size=4M";
    let console = bench.passes(1, &format!("{options} blk.loops=100"), &[(&disk, "xvda")])?;
    ensure!(
        !console.contains("faults: 0 requests failed"),
        "no request met a failing disk:\n{console}"
    );
    disk.remap(Mapping::Linear)?;
    let console = bench.passes(2, &format!("{options} blk.loops=2"), &[(&disk, "xvda")])?;
    ensure!(console.contains("faults: 0 requests failed"), "a disk that works fails:\n{console}");
    disk.remap(Mapping::Forgets)?;
    let console = bench.exercises(3, &format!("{options} blk.loops=2"), &[(&disk, "xvda")])?;
    let found = console.contains("not ok 1 - xvda faults") && console.contains("is of generation ");
    ensure!(found, "writes that are not done are not found:\n{console}");
    disk.remap(Mapping::Linear)?;
    bench.passes(4, "blk.run=seq,rand,verify blk.destroy=xvda blk.size=all", &[(&disk, "xvda")])?;
    disk.remove()?;
    before.unchanged(bench.host)
}

/// Checks that QEMU's backend fails: it takes requests of no segments, sectors whose place in bytes
/// is beyond 64 bits for those at the beginning, and secure discards for others
/// (docs/block-bugs.md).
const QEMU_FAILS: &[(&str, &str)] = &[
    ("hostile", "a read of 0 segments: was answered with 0"),
    ("hostile", "a write of 0 segments: was answered with 0"),
    ("hostile", "a write at 2^63: was answered with 0"),
    ("hostile", "a read at 2^55: was answered with 0"),
    ("hostile", "a secure discard that is not offered: was answered with 0"),
    ("hostile", "sector 0 was changed by a request that was refused"),
];

/// QEMU as the backend.
pub(super) fn qdisk(bench: &Bench) -> Result<()> {
    let tests = "report,verify,seq,rand,boundary,flush,features,lifecycle";
    for (number, kind) in [(1, Kind::QdiskRaw { mib: SIZE }), (2, Kind::Qcow2 { mib: SIZE })] {
        let disk = bench.disk("a", kind)?;
        let options = format!("blk.run={tests} blk.destroy=xvda blk.size=2M blk.loops=10");
        bench.passes(number, &options, &[(&disk, "xvda")]).with_context(|| format!("{kind:?}"))?;
        disk.remove()?;
    }
    let disk = bench.disk("a", Kind::QdiskRaw { mib: SIZE })?;
    let options = "blk.run=all,hostile blk.hostile=yes blk.destroy=xvda blk.size=2M blk.bytes=4M";
    let console = bench.exercises(3, options, &[(&disk, "xvda")])?;
    fails_only(&console, QEMU_FAILS)?;
    disk.remove()
}

/// A thousand connections, every other one closed in the middle of requests, leave nothing behind:
/// not in the guest, which counts its grants, ports and memory, not in dom0, nor in xenstore.
pub(super) fn loops(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    // What the first guest brings that stays is there after this one.
    bench.passes(1, "blk.run=seq", &[(&disk, "xvda")])?;
    let counted = || bench.host.exec(&["bash", "-c", COUNTS], PATIENCE)?.success();
    let counts = counted()?;
    let console = bench.passes(2, "blk.run=lifecycle blk.loops=1000", &[(&disk, "xvda")])?;
    ensure!(
        console.contains("lifecycle: 1000 connections, "),
        "it did not connect as often:\n{console}"
    );
    let same = until(PATIENCE, || Ok(counted()? == counts))?;
    ensure!(
        same,
        "dom0 has other event channels or nodes than before:\n{counts}and now:\n{}",
        counted()?
    );
    disk.remove()?;
    before.unchanged(bench.host)
}

/// Prints how many event channels dom0 has, and how many nodes xenstore.
const COUNTS: &str = "set -o pipefail; lsevtchn 0 | wc -l && xenstore-ls / | wc -l";

/// All combinations of features.
pub(super) fn sweep(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    bench.passes(1, "blk.run=features-all blk.destroy=xvda blk.size=256K", &[(&disk, "xvda")])?;
    disk.remove()?;
    before.unchanged(bench.host)
}
