//! Linux as frontend and as backend: shows that the disks and the guest with
//! which ours are tried are right themselves.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::disks::{LONG, plain};
use crate::disk::{Census, Kind, Mapping, Stamp};
use crate::host::PATIENCE;

/// MiB of most disks here.
const SIZE: u32 = 16;

/// Sectors of 512 bytes in a MiB.
const MIB: u64 = 2048;

pub(super) fn stamps(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(SIZE))?;
    let stamp = Stamp { seed: 0x5eed, generation: 3, ..Stamp::default() };
    bench.linux_does(1, &format!("role=blk-write {}", stamp.words()), &[(&disk, "xvda")])?;
    disk.stamped(stamp)?;
    // What was written and what is wrong are told apart.
    let blamed =
        disk.stamped(Stamp { generation: 4, ..stamp }).err().map(|error| format!("{error:#}"));
    ensure!(
        blamed.as_ref().is_some_and(|text| text.contains("generation 3")),
        "blk-stamp blames {blamed:?}"
    );
    disk.remove()?;
    before.unchanged(bench.host)
}

pub(super) fn hotplug(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    let plain = bench.disk("plain", plain(SIZE))?;
    let large =
        bench.disk("large", Kind::Loop { mib: 2 * SIZE, sector: 4096, read_only: false })?;
    let size = |mib: u32| u64::from(mib) * MIB;

    // Once as most people write it, which runs Xen's own script.
    bench.host.xl(&["block-attach", &guest.name, &format!("phy:{},xvda,w", plain.path())])?;
    guest.says(&format!("disks: xvda={}.", size(SIZE)))?;
    large.attach(&guest, "xvdb")?;
    guest.says(&format!("disks: xvda={} xvdb={}.", size(SIZE), size(2 * SIZE)))?;
    let listed = bench.host.xl(&["block-list", &guest.name])?;
    ensure!(
        listed.matches("/local/domain/0/backend/vbd/").count() == 2,
        "xl block-list shows:\n{listed}"
    );
    large.detach(&guest, "xvdb")?;
    guest.says_times(&format!("disks: xvda={}.", size(SIZE)), 2)?;
    plain.resize(3 * SIZE)?;
    guest.says(&format!("disks: xvda={}.", size(3 * SIZE)))?;
    plain.detach(&guest, "xvda")?;
    guest.says_times("disks: none.", 2)?;

    for disk in [plain, large] {
        disk.remove()?;
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    before.unchanged(bench.host)
}

pub(super) fn kinds(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let sector = 4096;
    let delayed = bench.disk("under", plain(SIZE))?;
    let all = [
        bench.disk("null", Kind::Null { mib: SIZE, sector: 512, keeps: true })?,
        bench.disk("null-4k", Kind::Null { mib: SIZE, sector, keeps: true })?,
        bench.disk("ram", Kind::Ram { mib: SIZE })?,
        bench.disk("4k", Kind::Loop { mib: SIZE, sector, read_only: false })?,
        bench.disk("read-only", Kind::Loop { mib: SIZE, sector: 512, read_only: true })?,
        bench.disk("file", Kind::File { mib: SIZE })?,
        delayed.mapped(&format!("{}-delay", bench.name), Mapping::Delay { ms: 1 })?,
    ];
    let stamp = Stamp { seed: 9, generation: 1, ..Stamp::default() };
    for disk in &all {
        disk.stamp(stamp).with_context(|| format!("dom0 writes {}", disk.path()))?;
    }
    let sums = all.iter().map(|disk| disk.checksum(0, None)).collect::<Result<Vec<_>>>()?;
    ensure!(
        sums.iter().all(|sum| *sum == sums[0]),
        "dom0 reads different data from each: {sums:?}"
    );
    let names: Vec<String> =
        ('a'..='z').take(all.len()).map(|letter| format!("xvd{letter}")).collect();
    let list: Vec<_> = all.iter().zip(names.iter().map(String::as_str)).collect();
    bench.linux_does(
        1,
        &format!("role=blk-verify disk={} {}", names.join(","), stamp.words()),
        &list,
    )?;
    for disk in all {
        disk.remove()?;
    }
    before.unchanged(bench.host)
}

pub(super) fn ext4(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(64))?;
    let empty = disk.checksum(0, None)?;
    let files = bench.linux_does(1, "role=blk-fs", &[(&disk, "xvda")])?;
    ensure!(files.contains("files "), "the guest says no checksum of its files: {files}");
    ensure!(disk.checksum(0, None)? != empty, "nothing of the filesystem is on the disk");
    disk.fsck()?;
    disk.remove()?;
    before.unchanged(bench.host)
}

pub(super) fn errors(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let bad = Mapping::Error { first: MIB, count: 8 };
    let disk = bench.disk("a", plain(SIZE))?.mapped(&format!("{}-error", bench.name), bad)?;
    let fine = Stamp { seed: 1, sectors: Some(MIB), ..Stamp::default() };
    bench.linux_does(1, &format!("role=blk-write {}", fine.words()), &[(&disk, "xvda")])?;
    let whole = Stamp { sectors: None, ..fine };
    let failed =
        bench.linux_does(2, &format!("role=blk-verify {}", whole.words()), &[(&disk, "xvda")]);
    let said = failed.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        said.contains(&format!("at sector {MIB}")),
        "the guest does not report sector {MIB}: {said:?}"
    );
    // While it is in use: healed, and broken as a whole.
    disk.remap(Mapping::Linear)?;
    disk.stamped(fine)?;
    for (mapping, words) in [
        (Mapping::AllFail, "Input/output error"),
        (Mapping::Flakey { up: 0, down: 600 }, "Input/output error"),
        (Mapping::Zero, "is all zeros"),
    ] {
        disk.remap(mapping)?;
        let said = disk.stamped(fine).err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(said.contains(words), "{mapping:?} reads as: {said}");
    }
    disk.remove()?;
    before.unchanged(bench.host)
}

pub(super) fn qdisk(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    for (number, kind) in [(1, Kind::QdiskRaw { mib: SIZE }), (2, Kind::Qcow2 { mib: SIZE })] {
        let disk = bench.disk("a", kind)?;
        let stamp = Stamp { seed: 77, generation: number.into(), ..Stamp::default() };
        bench.linux_does(
            number,
            &format!("role=blk-write {}", stamp.words()),
            &[(&disk, "xvda")],
        )?;
        disk.stamped(stamp).with_context(|| format!("{kind:?}"))?;
        disk.remove()?;
    }
    before.unchanged(bench.host)
}
