//! xen-disk's storages, each under all that our guest can do to a disk.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::Bench;
use super::{EXPORTED, Image, TERMINATE};
use crate::disk::{Census, Stamp};
use crate::guest::Guest;
use crate::host::PATIENCE;

/// The most time that a guest may take for its tests.
const PATIENT: Duration = Duration::from_secs(500);

/// Tests of a disk that keeps what is written; it is overwritten.
const ALL: &str = "blk.run=report,verify,seq,rand,flush,barrier,discard,features,boundary,segments,lifecycle,hostile \
                   blk.hostile=yes blk.destroy=xvda";

/// Tests of one that reads as zeros whatever is written, or cannot be written.
const READING: &str = "blk.run=report,seq,rand,features,boundary,segments,lifecycle";

/// The test of what the protocol forbids, and nothing else.
const HOSTILE: &str = "blk.run=hostile blk.hostile=yes blk.destroy=xvda";

/// Has our guest try all that `options` say with a disk of xen-disk's, and leaves one beside it
/// alone, which must go on working. `stack` is what it is kept in, and `prepare` a shell command
/// that makes what that needs; PATH stands for a file of 16 MiB.
fn exercise(bench: &Bench, number: u32, prepare: &str, stack: &str, options: &str) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = Image::new(bench, "exercised", 16)?;
    let named = |text: &str| text.replace("PATH", &disk.path);
    bench.host.shell(&named(prepare))?;
    let stamp = Stamp { seed: 9, ..Stamp::default() };
    let image = Image::new(bench, "stamped", 16)?;
    let stamps = bench.host.peer("blk-stamp");
    bench.host.shell(&format!("{stamps} write {} {}", image.path, stamp.options()))?;
    let extra = format!("extra=\"vchan.role=none {options} blk.disk=xvda blk.seed=9\"");
    // It runs once both are there.
    let name = format!("{}-{number}", bench.name);
    let guest = Guest::create_from(bench.host, "xl/block.xl", &name, &["-p", &extra])?;
    let victim = bench.xen_disk(&guest, &["--stack", &named(stack), "--vdev", "xvda"])?;
    let witness = bench
        .xen_disk(&guest, &["--stack", &format!("verify/file:{}", image.path), "--vdev", "xvdb"])?;
    bench.host.xl(&["unpause", &guest.name])?;
    guest.says_within(" skipped; seed 9", PATIENT)?;
    guest.gone(PATIENCE)?;
    let console = guest.console();
    let tests = console.find("TAP version").unwrap_or(0);
    ensure!(
        console.contains(" passed, 0 failed, "),
        "with {stack} the guest printed:\n{}",
        &console[tests..]
    );
    for serving in [victim, witness] {
        serving.wait(PATIENCE)?.expect(4)?;
    }
    image.stamped(stamp)?;
    drop((disk, image));
    bench.nothing_left(&before)
}

/// All of it, on a disk that keeps what is written.
fn all(bench: &Bench, prepare: &str, stack: &str) -> Result<()> {
    exercise(bench, 1, prepare, stack, ALL)
}

/// Tests that are possible with one that does not.
fn reading(bench: &Bench, prepare: &str, stack: &str) -> Result<()> {
    exercise(bench, 1, prepare, stack, READING)?;
    exercise(bench, 2, prepare, stack, HOSTILE)
}

pub fn ram(bench: &Bench) -> Result<()> {
    all(bench, "true", "ram:size=16M")
}

pub fn file(bench: &Bench) -> Result<()> {
    all(bench, "true", "file:PATH")
}

pub fn mmap(bench: &Bench) -> Result<()> {
    all(bench, "true", "mmap:PATH")
}

pub fn cow(bench: &Bench) -> Result<()> {
    all(bench, "true", "cow:PATH")
}

pub fn overlay(bench: &Bench) -> Result<()> {
    all(bench, "true", "overlay:\"PATH.overlay\"/file:PATH")
}

pub fn vhd(bench: &Bench) -> Result<()> {
    all(bench, "out/xen-disk convert file:PATH vhd:PATH.vhd", "vhd:PATH.vhd")
}

pub fn qcow2(bench: &Bench) -> Result<()> {
    all(bench, "out/xen-disk convert file:PATH qcow2:PATH.qcow2", "qcow2:PATH.qcow2")
}

pub fn object(bench: &Bench) -> Result<()> {
    // Of the size of what is written: every flush keeps its chunks, and an emulated host has little
    // room for garbage.
    all(bench, "true", "object:PATH.store,size=16M,chunk=16K,cache=PATH.cache,limit=16M")
}

/// A disk at a server of its own: both are xen-disk.
pub fn nbd(bench: &Bench) -> Result<()> {
    let image = Image::new(bench, "exported", 16)?;
    let socket = format!("{}.sock", image.path);
    let served = format!("file:{}", image.path);
    let words = ["out/xen-disk", "export", &served, "--socket", &socket];
    let server = bench.host.spawn(&words)?;
    server.wait_for(EXPORTED, PATIENCE)?;
    all(bench, "true", &format!("nbd+unix:///?socket={socket}"))?;
    server.signal(TERMINATE)?;
    server.wait(PATIENCE)?.expect(0).map(drop)
}

pub fn layers(bench: &Bench) -> Result<()> {
    let layers = "throttle:rate=1G,iops=100000/delay:100us,jitter=50us/log:\"PATH.log\"/verify";
    all(bench, "true", &format!("{layers}/file:PATH"))
}

pub fn discard(bench: &Bench) -> Result<()> {
    reading(bench, "true", "discard:size=16M")
}

pub fn vmdk(bench: &Bench) -> Result<()> {
    reading(bench, MAKE_VMDK, "vmdk:PATH.vmdk,trusted")
}

/// Makes a vmdk image of three extents: a flat file's first half, zeros, and the rest of the file,
/// elsewhere.
const MAKE_VMDK: &str = "name=$(basename PATH); cat >PATH.vmdk <<END
# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType=\"custom\"
RW 16384 FLAT \"$name\" 0
RW 8192 ZERO
RW 8192 FLAT \"$name\" 24576
ddb.adapterType = \"ide\"
END";
