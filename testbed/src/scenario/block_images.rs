//! The other images of our guest on disks: with a workload, and without the exerciser.

use anyhow::{Result, ensure};

use super::Bench;
use super::block::{END, LONG};
use super::disks::plain;
use crate::disk::{Census, Kind, Stamp, disks};
use crate::guest::Guest;
use crate::host::PATIENCE;

/// MiB of the disks here.
const SIZE: u32 = 16;

/// The workload on several disks at once, in the image that has it: blocks are checked on the way,
/// and a disk that may not be written is only read.
pub(super) fn mix(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let all = [bench.disk("a", plain(SIZE))?, bench.disk("b", Kind::Ram { mib: SIZE })?];
    let list = [(&all[0], "xvda"), (&all[1], "xvdb")];
    let run = |number: u32, words: &str, end: &str| -> Result<String> {
        let name = format!("{}-{number}", bench.name);
        let extra = format!("extra=\"vchan.role=none blk.run=mix {words}\"");
        let kernel = "kernel=\"out/ringside-mix.elf\"";
        let settings = [kernel, &disks(&list), &extra];
        let guest = Guest::create_from(bench.host, "xl/block.xl", &name, &settings)?;
        guest.says_within(end, LONG)?;
        guest.gone(PATIENCE)?;
        Ok(guest.console())
    };
    let words = "blk.mix=read:60,write:30,discard:2,flush:8,most:32K,depth:8,hot:25,seconds:11";
    let console = run(1, &format!("blk.destroy=xvda,xvdb blk.size=4M {words}"), END)?;
    ensure!(console.contains(" passed, 0 failed, "), "it failed:\n{console}");
    for disk in ["xvda", "xvdb"] {
        let beats = console.matches(&format!("{{\"beat\":{{\"disk\":\"{disk}\"")).count();
        ensure!(beats >= 2, "{beats} lines tell of {disk}:\n{console}");
    }
    all[0].stamp(Stamp { seed: 3, ..Stamp::default() })?;
    let console = run(2, "blk.destroy=xvdb blk.mix=seconds:3,iops:200", END)?;
    ensure!(console.contains(" passed, 0 failed, "), "it failed:\n{console}");
    all[0].stamped(Stamp { seed: 3, ..Stamp::default() })?;
    run(3, "blk.mix=read:1,numjobs:4", "'numjobs'")?;
    for disk in all {
        disk.remove()?;
    }
    before.unchanged(bench.host)
}

/// The image without the exerciser: it serves, connects and shows disks, and says what it has not.
pub(super) fn image(bench: &Bench) -> Result<()> {
    const KERNEL: &str = "kernel=\"out/ringside-block.elf\"";
    let disk = bench.disk("a", plain(SIZE))?;
    disk.stamp(Stamp { seed: 5, ..Stamp::default() })?;
    let guest = bench.guest(&[KERNEL, &disks(&[(&disk, "xvda")])])?;
    guest.says("xvda: 16 MiB, sectors of 512 bytes")?;
    guest.echoes("beside a disk")?;
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    for (typed, shown) in [
        ("blk list", "xvda: 16 MiB, sectors of 512 bytes"),
        ("blk info xvda", "events_received: "),
        ("blk keys xvda", "feature-flush-cache = 1"),
        ("blk read xvda 3", "52 49 4e 47 53 49 44 45 03 00"),
        ("blk run report xvda", "this image has no block exerciser, boot ringside.elf for it"),
    ] {
        console.write(format!("{typed}\r").as_bytes())?;
        console.wait_for(shown, PATIENCE)?;
    }
    disk.detach(&guest, "xvda")?;
    guest.says("xvda is gone")?;
    for (number, word, says) in [
        (2, "blk.run=report", "blk.run=report: this image has no block exerciser"),
        (3, "vchan.role=client", "vchan.role=client: this image has no client"),
    ] {
        let name = format!("{}-{number}", bench.name);
        let extra = format!("extra=\"{word}\"");
        Guest::create(bench.host, &name, &[KERNEL, &extra])?.says(says)?;
    }
    disk.remove()
}
