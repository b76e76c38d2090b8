//! xen-disk and Linux guests.

use anyhow::{Result, ensure};

use super::super::Bench;
use super::super::disks::LONG;
use super::{HANGUP, INTERRUPT, Image, KILL, TERMINATE};
use crate::disk::{Census, Stamp};
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

pub fn session(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::with_file(bench, 128)?;
    let sum = image.sum()?;
    let guest = bench.linux(1, "role=blk-session disk=xvdb", &[])?;
    let serving =
        bench.xen_disk(&guest, &["--path", &image.path, "--backend", "cow", "--vdev", "xvdb"])?;
    guest.says_within("blk-session: changed.", LONG)?;
    let listed = bench.host.shell("out/xen-disk list")?;
    ensure!(
        listed.contains("xvdb") && listed.contains("Connected"),
        "xen-disk list shows:\n{listed}"
    );
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

pub fn storages(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    for (number, name) in [(1, "file"), (2, "verify"), (3, "mmap"), (4, "overlay")] {
        let image = Image::new(bench, name, 16)?;
        let stamp = Stamp { seed: 5, generation: u64::from(number), ..Stamp::default() };
        let guest =
            bench.linux(number, &format!("role=blk-write disk=xvdb {}", stamp.words()), &[])?;
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

pub fn ext4(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    for (number, name) in [(1, "file"), (2, "mmap")] {
        let image = Image::new(bench, name, 64)?;
        let guest = bench.linux(number, "role=blk-fs disk=xvdb", &[])?;
        let serving = bench
            .xen_disk(&guest, &["--path", &image.path, "--backend", name, "--vdev", "xvdb"])?;
        guest.says_within("linux-guest: done: files ", LONG)?;
        guest.gone(LONG)?;
        serving.wait(PATIENCE)?.expect(4)?;
        bench.host.shell(&format!("e2fsck -f -n {}", image.path))?;
    }
    bench.nothing_left(&before)
}

pub fn killed(bench: &Bench) -> Result<()> {
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
        ensure!(
            serving.said().contains("Going on with device"),
            "xen-disk said:\n{}",
            serving.said()
        );
    }
    guest.says_within("linux-guest: done: xvdb is as it should be", LONG)?;
    guest.gone(LONG)?;
    serving.wait(PATIENCE)?.expect(4)?;
    image.stamped(stamp)?;
    bench.nothing_left(&before)
}

/// A disk that was only in a killed server's memory is not gone on with, but taken away.
pub fn lost(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let guest = bench.linux(1, "role=blk-write disk=xvdb", &[])?;
    let words = ["--stack", "ram:size=64M", "--vdev", "xvdb"];
    let serving = bench.xen_disk(&guest, &words)?;
    serving.signal(KILL)?;
    serving.wait(PATIENCE)?;
    let again =
        bench.host.spawn(&[&["out/xen-disk", "connect", &guest.name], &words[..]].concat())?;
    let refused = again.wait(PATIENCE)?.expect(6)?;
    ensure!(
        refused.stderr.contains("is gone with the killed server"),
        "xen-disk said:\n{}",
        refused.stderr
    );
    bench.host.shell(&format!("out/xen-disk disconnect {} xvdb --force", guest.name))?;
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    bench.nothing_left(&before)
}

pub fn destroyed(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "destroyed", 64)?;
    let guest = bench.linux(1, "role=blk-write disk=xvdb", &[])?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvdb"])?;
    ensure!(until(LONG, || Ok(image.kib()? > 0))?, "the guest writes nothing");
    bench.host.xl(&["destroy", &guest.name])?;
    serving.wait(PATIENCE)?.expect(4)?;
    bench.nothing_left(&before)
}

pub fn in_use(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::with_file(bench, 32)?;
    let guest = bench.linux(1, "role=blk-mount disk=xvdb", &[])?;
    let serving =
        bench.xen_disk(&guest, &["--path", &image.path, "--backend", "mmap", "--vdev", "xvdb"])?;
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

/// Disks that are resized, with their length before, in MiB. Nothing of one is in the way of the
/// next.
const GROWING: [(&str, u32); 4] = [
    ("file:PATH", 16),
    ("file:PATH", 48),
    ("overlay:\"PATH.overlay\"/file:PATH", 80),
    ("object:PATH.store,size=16M", 16),
];

pub fn resize(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let image = Image::new(bench, "grows", 16)?;
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    // What the guest says once more after something was done.
    let after = |said: &str, work: &dyn Fn() -> Result<()>| {
        let times = guest.console().matches(said).count();
        work()?;
        guest.says_times(said, times + 1)
    };
    for (stack, mib) in GROWING {
        let stack = stack.replace("PATH", &image.path);
        let size = |mib: u32| format!("disks: xvdb={}.", mib * 2048);
        let times = guest.console().matches(&size(mib)).count();
        let serving = bench.xen_disk(&guest, &["--stack", &stack, "--vdev", "xvdb"])?;
        guest.says_times(&size(mib), times + 1)?;
        after(&size(mib + 32), &|| {
            bench
                .host
                .shell(&format!("out/xen-disk resize {} xvdb {}M", guest.name, mib + 32))
                .map(drop)
        })?;
        let refused = bench.host.shell(&format!("out/xen-disk resize {} xvdb 1M", guest.name));
        ensure!(refused.is_err(), "a disk was made shorter without being asked twice");
        after("disks: none.", &|| {
            bench.host.shell(&format!("out/xen-disk disconnect {} xvdb", guest.name))?;
            serving.wait(PATIENCE)?.expect(0).map(drop)
        })?;
    }
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    let length = || bench.host.shell(&format!("stat -c %s {}", image.path));
    ensure!(
        length()?.trim() == (80 << 20).to_string(),
        "the disk below the overlay has {} bytes",
        length()?
    );
    bench
        .host
        .shell(&format!("out/xen-disk commit 'overlay:\"{0}.overlay\"/file:{0}'", image.path))?;
    ensure!(
        length()?.trim() == (112 << 20).to_string(),
        "after the commit it has {} bytes",
        length()?
    );
    bench.nothing_left(&before)
}

/// A configuration is read again while its disks are in use, and systemd's protocol is kept.
pub fn reload(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let images = [Image::new(bench, "one", 16)?, Image::new(bench, "two", 32)?];
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    let config = format!("{}.toml", images[0].path);
    let write = |vdevs: &[(&str, &Image)]| {
        let disks = vdevs.iter().map(|(vdev, image)| {
            let (vm, path) = (&guest.name, &image.path);
            format!("[[disk]]\nvm = \"{vm}\"\nvdev = \"{vdev}\"\npath = \"{path}\"\n")
        });
        bench.host.shell(&format!("cat >{config} <<'END'\n{}END", disks.collect::<String>()))
    };
    let serving = {
        write(&[("xvdb", &images[0])])?;
        bench.host.spawn(&["out/xen-disk", "serve", &config])?
    };
    guest.says("disks: xvdb=32768.")?;
    let reload = |said: &str| {
        serving.signal(HANGUP)?;
        serving.wait_for(said, PATIENCE)
    };
    write(&[("xvdb", &images[0]), ("xvdc", &images[1])])?;
    reload("1 disks added, 0 taken away, 2 in all")?;
    guest.says("disks: xvdb=32768 xvdc=65536.")?;
    bench.host.shell(&format!("echo nonsense >>{config}"))?;
    reload("everything stays as it was")?;
    write(&[("xvdc", &images[1])])?;
    reload("0 disks added, 1 taken away, 1 in all")?;
    guest.says("disks: xvdc=65536.")?;
    bench.host.shell(&format!(
        "printf '[[disk]]\\nvm = \"{}\"\\nvdev = \"xvdd\"\\npath = \"/root/elsewhere\"\\n' >>{config}",
        guest.name
    ))?;
    reload("needs the file /root/elsewhere, outside of folders: start xen-disk again")?;
    orders(bench, &guest, &images[0].path)?;
    serving.signal(TERMINATE)?;
    serving.wait(PATIENCE)?.expect(0)?;
    guest.says_times("disks: none.", 2)?;
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    bench.nothing_left(&before)
}

/// Adds the image at `path` by an order, asks for it, and removes it again, beside xvdc.
fn orders(bench: &Bench, guest: &Guest, path: &str) -> Result<()> {
    let order = |text: &str| bench.host.shell(&format!("out/xen-disk order '{text}'"));
    let name = format!("{{\"vm\":\"{}\",\"vdev\":\"xvde\"}}", guest.name);
    let keys = name.replace('}', &format!(",\"path\":\"{path}\"}}"));
    ensure!(order(&format!("{{\"add\":{keys}}}"))? == "\"done\"\n", "the order was not obeyed");
    guest.says("disks: xvdc=65536 xvde=32768.")?;
    ensure!(order(&format!("{{\"add\":{keys}}}")).is_err(), "a disk was added twice");
    // What an order added outlasts a reload.
    order("\"reload\"")?;
    for (text, part) in [
        ("\"list\"".to_string(), "\"added\":true"),
        ("\"metrics\"".into(), "xen_disk_up"),
        (format!("{{\"disk\":[{name},\"stats\"]}}"), "\"state\":\"Connected\""),
        (format!("{{\"remove\":{name}}}"), "done"),
    ] {
        let said = order(&text)?;
        ensure!(said.contains(part), "the answer to {text} is {said}");
    }
    guest.says_times("disks: xvdc=65536.", 2)
}

pub fn serve(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let images =
        (1..=4).map(|n| Image::new(bench, &format!("disk-{n}"), 16)).collect::<Result<Vec<_>>>()?;
    let mut config = String::new();
    for (n, (image, stack)) in
        images.iter().zip(["file:PATH", "mmap:PATH", "verify/file:PATH", "file:PATH"]).enumerate()
    {
        let (guest, vdev) = (n / 2 + 1, ["xvdb", "xvdc"][n % 2]);
        let stack = stack.replace("PATH", &image.path);
        config += &format!(
            "[[disk]]\nvm = \"{}-{guest}\"\nvdev = \"{vdev}\"\nstack = \"{stack}\"\n",
            bench.name
        );
    }
    let path = format!("{}.toml", images[0].path);
    bench.host.shell(&format!("cat >{path} <<'END'\n{config}END"))?;
    let log = format!("{}.log", images[0].path);
    let serving = bench.shell(&format!("exec out/xen-disk serve {path} 2>{log}"))?;
    let said = || bench.host.shell(&format!("cat {log}"));
    let waits =
        |count: usize| until(LONG, || Ok(said()?.matches("Waiting for domain").count() >= count));
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
