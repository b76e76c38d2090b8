//! Our guest against more backends, and for longer.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::disks::plain;
use crate::disk::{Census, Kind, Mapping, Stamp};

/// MiB of the disks here.
const SIZE: u32 = 16;

/// Sectors of 512 bytes in a MiB.
const MIB: u64 = 2048;

/// What Linux has written ours finds, and the other way round.
pub(super) fn linux(bench: &Bench) -> Result<()> {
    let disk = bench.disk("a", plain(SIZE))?;
    let theirs = Stamp { seed: 21, generation: 1, ..Stamp::default() };
    bench.linux_does(1, &format!("role=blk-write {}", theirs.words()), &[(&disk, "xvda")])?;
    bench.passes(2, "blk.run=verify,seq blk.size=all blk.seed=21 blk.generation=1", &[(&disk, "xvda")])?;
    bench.passes(3, "blk.run=write blk.size=all blk.seed=22 blk.generation=2 blk.destroy=xvda", &[(&disk, "xvda")])?;
    let ours = Stamp { seed: 22, generation: 2, ..Stamp::default() };
    bench.linux_does(4, &format!("role=blk-verify {}", ours.words()), &[(&disk, "xvda")])?;
    disk.remove()
}

/// A disk of which a part cannot be read: that is said, with the place, and the rest is read.
pub(super) fn errors(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let bad = Mapping::Error { first: 4 * MIB, count: 8 };
    let disk = bench.disk("a", plain(SIZE))?.mapped(&format!("{}-error", bench.name), bad)?;
    let console = bench.exercises(1, "blk.run=report,seq blk.size=all", &[(&disk, "xvda")])?;
    ensure!(console.contains("ok 1 - xvda report"), "no report:\n{console}");
    ensure!(console.contains("not ok 2 - xvda seq"), "sectors that cannot be read are read:\n{console}");
    disk.remap(Mapping::Delay { ms: 2 })?;
    bench.passes(2, "blk.run=seq,rand,flush,lifecycle blk.destroy=xvda blk.size=2M", &[(&disk, "xvda")])?;
    disk.remap(Mapping::AllFail)?;
    let console = bench.exercises(3, "blk.run=rand", &[(&disk, "xvda")])?;
    ensure!(console.contains("not ok 1 - xvda rand"), "a disk that fails is read:\n{console}");
    disk.remove()?;
    before.unchanged(bench.host)
}

/// QEMU as the backend.
pub(super) fn qdisk(bench: &Bench) -> Result<()> {
    let tests = "report,verify,seq,rand,boundary,flush,features,lifecycle";
    for (number, kind) in [(1, Kind::QdiskRaw { mib: SIZE }), (2, Kind::Qcow2 { mib: SIZE })] {
        let disk = bench.disk("a", kind)?;
        let options = format!("blk.run={tests} blk.destroy=xvda blk.size=2M blk.loops=10");
        bench.passes(number, &options, &[(&disk, "xvda")]).with_context(|| format!("{kind:?}"))?;
        disk.remove()?;
    }
    Ok(())
}

/// All combinations of features, and many connections.
pub(super) fn sweep(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    bench.passes(1, "blk.run=features-all blk.destroy=xvda blk.size=256K", &[(&disk, "xvda")])?;
    bench.passes(2, "blk.run=lifecycle blk.loops=200 blk.destroy=xvda", &[(&disk, "xvda")])?;
    disk.remove()?;
    before.unchanged(bench.host)
}
