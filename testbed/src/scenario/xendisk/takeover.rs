//! Disks of killed servers: what the guest was told is written is there for the next server, which
//! must have the same disk.

use anyhow::{Context, Result, ensure};

use super::super::Bench;
use super::super::disks::LONG;
use super::{EXPORTED, Image, KILL, TERMINATE};
use crate::client::Process;
use crate::disk::{Census, Stamp};
use crate::host::{PATIENCE, until};

/// Kills the server of formats that keep tables of their own, again and again, while a guest writes
/// without flushes and then reads everything back.
pub fn unflushed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let formats = [
        ("overlay:\"PATH.over\"/file:PATH", "PATH.over"),
        ("vhd:PATH.vhd", "PATH.vhd"),
        ("qcow2:PATH.qcow2", "PATH.qcow2"),
    ];
    for (number, (stack, file)) in (1..).zip(formats) {
        let image = Image::new(bench, &format!("unflushed-{number}"), 32)?;
        let (stack, file) = (stack.replace("PATH", &image.path), file.replace("PATH", &image.path));
        if !stack.starts_with("overlay") {
            bench.host.shell(&format!("out/xen-disk convert file:{} {stack}", image.path))?;
        }
        let stamp = Stamp { seed: 11, ..Stamp::default() };
        let words = format!("role=blk-write disk=xvdb {}", stamp.words());
        let guest = bench.linux(number, &words, &[])?;
        let words = ["--stack", &stack, "--vdev", "xvdb"];
        let mut serving = bench.xen_disk(&guest, &words)?;
        let kib = || -> Result<u64> {
            let printed = bench.host.shell(&format!("du -k {file} | cut -f1"))?;
            printed.trim().parse().with_context(|| format!("du prints {printed:?}"))
        };
        for _ in 0..2 {
            let first = kib()?;
            ensure!(until(LONG, || Ok(kib()? > first + 1024))?, "the guest writes nothing");
            serving.signal(KILL)?;
            serving.wait(PATIENCE)?;
            serving = bench.xen_disk(&guest, &words)?;
            let said = serving.said();
            ensure!(said.contains("Going on with device"), "xen-disk said:\n{said}");
        }
        guest
            .says_within("linux-guest: done: xvdb is as it should be", LONG)
            .with_context(|| stack.clone())?;
        guest.gone(LONG)?;
        serving.wait(PATIENCE)?.expect(4)?;
    }
    bench.nothing_left(&before)
}

/// Kills the NBD server below a disk, and starts it again, while a guest writes without flushes and
/// then reads everything back. The server loses with its memory what no flush has covered.
pub fn server(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "exported", 32)?;
    let socket = format!("{}.sock", image.path);
    let served = format!("powercut/file:{}", image.path);
    let export = || -> Result<Process> {
        let words = ["out/xen-disk", "export", &served, "--socket", &socket];
        let server = bench.host.spawn(&words)?;
        server.wait_for(EXPORTED, PATIENCE)?;
        Ok(server)
    };
    let mut server = export()?;
    let stamp = Stamp { seed: 13, ..Stamp::default() };
    let guest = bench.linux(1, &format!("role=blk-write disk=xvdb {}", stamp.words()), &[])?;
    // With little memory for writes, it flushes now and then.
    let stack = format!("nbd:\"nbd+unix:///?socket={socket}\",unflushed=2M");
    let serving = bench.xen_disk(&guest, &["--stack", &stack, "--vdev", "xvdb"])?;
    for _ in 0..2 {
        let first = image.kib()?;
        ensure!(until(LONG, || Ok(image.kib()? > first + 1024))?, "the guest writes nothing");
        server.signal(KILL)?;
        server.wait(PATIENCE)?;
        server = export()?;
    }
    guest.says_within("linux-guest: done: xvdb is as it should be", LONG)?;
    guest.gone(LONG)?;
    serving.wait(PATIENCE)?.expect(4)?;
    server.signal(TERMINATE)?;
    server.wait(PATIENCE)?.expect(0)?;
    image.stamped(stamp)?;
    bench.nothing_left(&before)
}

/// Another image, another length and another mode are refused at the number of a killed server's
/// disk, and the guest waits unharmed until the right one comes.
pub fn another_disk(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let (image, other) = (Image::new(bench, "mine", 64)?, Image::new(bench, "other", 64)?);
    let stamp = Stamp { seed: 12, ..Stamp::default() };
    let guest = bench.linux(1, &format!("role=blk-write disk=xvdb {}", stamp.words()), &[])?;
    let right = ["--path", &image.path, "--vdev", "xvdb"];
    let serving = bench.xen_disk(&guest, &right)?;
    ensure!(until(LONG, || Ok(image.kib()? > 1024))?, "the guest writes nothing");
    serving.signal(KILL)?;
    serving.wait(PATIENCE)?;
    let sum = other.sum()?;
    for wrong in [
        vec!["--path", &other.path, "--vdev", "xvdb"],
        vec!["--path", &image.path, "--vdev", "xvdb", "--readonly"],
        vec!["--stack", "discard:size=64M", "--vdev", "xvdb"],
    ] {
        let words = [&["out/xen-disk", "connect", &guest.name], &wrong[..]].concat();
        let refused = bench.host.spawn(&words)?.wait(PATIENCE)?.expect(2)?;
        let said = &refused.stderr;
        ensure!(
            said.contains(&image.path) && said.contains("xen-disk disconnect"),
            "xen-disk {wrong:?} said:\n{said}"
        );
    }
    ensure!(other.sum()? == sum, "the other image was written");
    let serving = bench.xen_disk(&guest, &right)?;
    guest.says_within("linux-guest: done: xvdb is as it should be", LONG)?;
    guest.gone(LONG)?;
    serving.wait(PATIENCE)?.expect(4)?;
    image.stamped(stamp)?;
    bench.nothing_left(&before)
}

/// A frontend that leaves while the storage still works for it, for longer than the time limit, can
/// connect again only when the storage has ended that: an old write could overwrite a newer one.
pub fn drained(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "drained", 16)?;
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    // Linux reads the first sectors of a new disk.
    let stack = format!("delay:45s/file:{}", image.path);
    let serving = bench.xen_disk(&guest, &["--stack", &stack, "--vdev", "xvdb"])?;
    let stats = format!("out/xen-disk stats --json {} xvdb", guest.name);
    let in_flight = || {
        // An emulated host may be too slow for an answer in time.
        let asked = bench.host.shell(&stats).unwrap_or_default();
        Ok(asked.contains("\"state\":\"Connected\"") && !asked.contains("\"in_flight\":0,"))
    };
    ensure!(until(PATIENCE, in_flight)?, "the guest reads nothing");

    let domid = guest.domid()?;
    let front = format!("/local/domain/{domid}/device/vbd/51728/state");
    let back = format!("/local/domain/0/backend/xen-disk/{domid}/51728/state");
    let state = || -> Result<String> {
        Ok(bench.host.shell(&format!("xenstore-read {back}"))?.trim().to_string())
    };
    // What a guest's own reset of the device writes.
    bench.host.shell(&format!("xenstore-write {front} 6"))?;
    serving.wait_for("the storage did not end", PATIENCE)?;
    ensure!(until(PATIENCE, || Ok(state()? == "6"))?, "the backend is in state {}", state()?);
    bench.host.shell(&format!("sleep 1; xenstore-write {front} 1"))?;
    let ended = "the storage has ended all operations";
    // The state is read before the log: a new connection never comes first.
    let connects = || -> Result<bool> {
        let now = state()?;
        ensure!(
            now == "6" || serving.said().contains(ended),
            "in state {now}, and the storage still works for the old connection:\n{}",
            serving.said()
        );
        Ok(now == "2")
    };
    ensure!(until(LONG, connects)?, "the frontend is not let in again:\n{}", serving.said());
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    serving.wait(LONG)?.expect(4)?;
    bench.nothing_left(&before)
}
