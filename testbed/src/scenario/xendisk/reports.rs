//! The same run of the exerciser on all backends that a host has, for docs/block-reports.md.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::super::Bench;
use super::super::block::{END, LONG};
use super::super::disks::plain;
use super::{EXPORTED, Image, TERMINATE};
use crate::disk::{Disk, Kind};
use crate::guest::Guest;
use crate::host::PATIENCE;

/// MiB of each disk.
const SIZE: u32 = 16;

/// The run.
const OPTIONS: &str = "blk.disk=xvda blk.run=all,hostile blk.hostile=yes blk.destroy=xvda \
                       blk.size=2M blk.bytes=4M blk.seed=7";

/// Disks of other backends, by the names of their reports.
const DISKS: [(&str, Kind); 4] = [
    ("blkback", plain(SIZE)),
    ("blkback-4k", Kind::Loop { mib: SIZE, sector: 4096, read_only: false }),
    ("qdisk-raw", Kind::QdiskRaw { mib: SIZE }),
    ("qdisk-qcow2", Kind::Qcow2 { mib: SIZE }),
];

/// Storages of xen-disk: a name, a shell command before, and the stack; PATH stands for a file of
/// 16 MiB.
const STORAGES: [(&str, &str, &str); 8] = [
    ("ram", "true", "ram:size=16M"),
    ("file", "true", "file:PATH"),
    ("mmap", "true", "mmap:PATH"),
    ("cow", "true", "cow:PATH"),
    ("vhd", "out/xen-disk convert file:PATH vhd:PATH.vhd", "vhd:PATH.vhd"),
    ("qcow2", "out/xen-disk convert file:PATH qcow2:PATH.qcow2", "qcow2:PATH.qcow2"),
    ("object", "true", "object:PATH.store,size=16M,chunk=16K,cache=PATH.cache,limit=16M"),
    ("nbd", "true", "nbd+unix:///?socket=PATH.sock"),
];

/// Runs all of them, one after another, and keeps what each guest printed. It is no test: what a
/// backend fails stands in its report.
pub fn reports(bench: &Bench) -> Result<()> {
    let folder = bench.host.logs.join("block-reports");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let other = bench.disk("other", plain(1))?;
    let all = DISKS.len() + STORAGES.len();
    for number in 0..all {
        let (name, console) = match DISKS.get(number) {
            Some((name, kind)) => {
                let disk = bench.disk("a", *kind)?;
                let list = [(&disk, "xvda"), (&other, "xvdb")];
                let console = bench.exercises(number as u32 + 1, OPTIONS, &list)?;
                disk.remove()?;
                (name.to_string(), console)
            }
            None => {
                let storage = STORAGES[number - DISKS.len()];
                let console = xen_disk(bench, number as u32 + 1, storage, &other);
                let name = format!("xen-disk-{}", storage.0);
                (name.clone(), console.with_context(|| name)?)
            }
        };
        ensure!(console.contains("ok 12 - xvda hostile"), "{name} printed:\n{console}");
        // The number keeps the order.
        let path = folder.join(format!("{:02}-{name}.log", number + 1));
        fs::write(&path, console).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("testbed: {name}: see {}", path.display());
    }
    other.remove()
}

/// Runs it on a storage of xen-disk, and returns what the guest printed.
fn xen_disk(
    bench: &Bench,
    number: u32,
    (name, prepare, stack): (&str, &str, &str),
    other: &Disk,
) -> Result<String> {
    let image = Image::new(bench, "reported", SIZE)?;
    let named = |text: &str| text.replace("PATH", &image.path);
    bench.host.shell(&named(prepare))?;
    let server = (name == "nbd")
        .then(|| {
            let (file, socket) = (named("file:PATH"), named("PATH.sock"));
            let words = ["out/xen-disk", "export", &file, "--socket", &socket];
            let server = bench.host.spawn(&words)?;
            server.wait_for(EXPORTED, PATIENCE).map(|_| server)
        })
        .transpose()?;
    let extra = format!("extra=\"vchan.role=none {OPTIONS}\"");
    let guest_name = format!("{}-{number}", bench.name);
    let guest = Guest::create_from(bench.host, "xl/block.xl", &guest_name, &["-p", &extra])?;
    let serving = bench.xen_disk(&guest, &["--stack", &named(stack), "--vdev", "xvda"])?;
    other.attach(&guest, "xvdb")?;
    bench.host.xl(&["unpause", &guest.name])?;
    guest.says_within(END, LONG)?;
    guest.gone(PATIENCE)?;
    serving.wait(PATIENCE)?.expect(4)?;
    if let Some(server) = server {
        server.signal(TERMINATE)?;
        server.wait(PATIENCE)?.expect(0)?;
    }
    Ok(guest.console())
}
