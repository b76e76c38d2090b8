//! xen-disk beside xl, and with what privileges it serves.

use anyhow::{Result, ensure};

use super::super::Bench;
use super::super::disks::{LONG, plain};
use super::{Image, TERMINATE};
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// Checks what xl does with a guest that has a disk of xen-disk's, and with other disks of it.
pub fn xl(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let (image, other) = (Image::new(bench, "ours", 16)?, bench.disk("theirs", plain(32))?);
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvdb"])?;
    guest.says("disks: xvdb=32768.")?;

    let shown = || bench.host.xl(&["block-list", &guest.name]);
    let ours = format!("/local/domain/0/backend/xen-disk/{}/51728", guest.domid()?);
    ensure!(shown()?.contains(&ours), "xl block-list does not show the disk:\n{}", shown()?);
    // Refused, with the disk as it was: libxl does not know such backends.
    for words in [&["xvdb"][..], &["51728", "force"]] {
        let detached = bench.host.xl(&[&["block-detach", &guest.name], words].concat());
        ensure!(detached.is_err(), "xl block-detach says that it has detached the disk");
    }
    ensure!(
        other.attach(&guest, "xvdb").is_err(),
        "xl block-attach gives another disk the same number"
    );
    other.attach(&guest, "xvdc")?;
    guest.says("disks: xvdb=32768 xvdc=65536.")?;
    other.detach(&guest, "xvdc")?;
    guest.says_times("disks: xvdb=32768.", 2)?;
    // It is still served, and obeys.
    bench.host.shell(&format!("out/xen-disk resize {} xvdb 48M", guest.name))?;
    guest.says("disks: xvdb=98304.")?;
    ensure!(shown()?.contains(&ours), "xl block-list has lost the disk:\n{}", shown()?);
    bench.host.shell(&format!("out/xen-disk disconnect {} xvdb", guest.name))?;
    serving.wait(PATIENCE)?.expect(0)?;
    ensure!(!shown()?.contains(&ours), "xl block-list shows a disk that is gone:\n{}", shown()?);
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvdb"])?;
    guest.says_times("disks: xvdb=98304.", 2)?;
    bench.host.xl(&["destroy", &guest.name])?;
    serving.wait(PATIENCE)?.expect(4)?;
    guest.gone(PATIENCE)?;

    let name = format!("{}-2", bench.name);
    let guest =
        Guest::create_from(bench.host, "xl/block.xl", &name, &["extra=\"vchan.role=none\""])?;
    let serving = bench.xen_disk(&guest, &["--path", &image.path, "--vdev", "xvda"])?;
    guest.says("xvda: 48 MiB")?;
    bench.host.xl(&["shutdown", &guest.name])?;
    serving.wait(PATIENCE)?.expect(4)?;
    guest.gone(PATIENCE)?;
    other.remove()?;
    bench.nothing_left(&before)
}

/// Checks the rights of a process that serves: with `connect` it has those of its descriptors.
pub fn powers(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let images = [Image::new(bench, "one", 16)?, Image::new(bench, "two", 16)?];
    let guest = bench.linux(1, "role=blk-hold", &[])?;
    guest.says_within("blk-hold: disks: none.", LONG)?;
    let serving = bench.xen_disk(&guest, &["--path", &images[0].path, "--vdev", "xvdb"])?;
    guest.says("disks: xvdb=32768.")?;
    confined(bench, "0000000000000000", &guest.domid()?)?;
    bench.host.shell(&format!("out/xen-disk resize {} xvdb 32M", guest.name))?;
    guest.says("disks: xvdb=65536.")?;
    bench.host.shell(&format!("out/xen-disk disconnect {} xvdb", guest.name))?;
    serving.wait(PATIENCE)?.expect(0)?;
    guest.says_times("disks: none.", 2)?;

    // A server that waits for domains opens files later, also those of other users.
    let config = format!("{}.toml", images[0].path);
    let disk = |vdev: &str, image: &Image| {
        format!("[[disk]]\nvm = \"{}\"\nvdev = \"{vdev}\"\npath = \"{}\"\n", guest.name, image.path)
    };
    let text = disk("xvdb", &images[0]) + &disk("xvdc", &images[1]);
    bench.host.shell(&format!(
        "chown 1000:1000 {0} && chmod 600 {0}; cat >{config} <<'END'\n{text}END",
        images[1].path
    ))?;
    let serving = bench.shell(&format!("exec out/xen-disk serve {config}"))?;
    guest.says("disks: xvdb=65536 xvdc=32768.")?;
    // Of as many domains as there are.
    confined(bench, "0000000000000002", "65535")?;
    bench.host.shell(&format!("out/xen-disk resize {} xvdc 24M", guest.name))?;
    guest.says("disks: xvdb=65536 xvdc=49152.")?;
    serving.signal(TERMINATE)?;
    serving.wait(PATIENCE)?.expect(0)?;
    guest.says_times("disks: none.", 3)?;
    bench.host.xl(&["destroy", &guest.name])?;
    guest.gone(PATIENCE)?;
    bench.nothing_left(&before)
}

/// Makes sure that all threads of the one xen-disk have just these capabilities, no way to others,
/// a filter of system calls, and the user of that number, which opens files as root.
fn confined(bench: &Bench, capabilities: &str, own: &str) -> Result<()> {
    let user = 1_963_000_000 + own.parse::<u32>()?;
    let users = format!("{user}\t{user}\t{user}\t0");
    let ask = "cat /proc/$(pidof xen-disk)/task/*/status";
    let all = || {
        let status = bench.host.shell(ask)?;
        let has = |name: &str, value: &str| {
            let mut found = status
                .lines()
                .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .peekable();
            found.peek().is_some() && found.all(|word| word.trim() == value)
        };
        let capabilities = ["CapEff", "CapPrm"].iter().all(|set| has(set, capabilities));
        Ok(capabilities
            && has("CapInh", &"0".repeat(16))
            && has("NoNewPrivs", "1")
            && has("Seccomp", "2")
            && has("Uid", &users)
            && has("Gid", &users))
    };
    ensure!(
        until(PATIENCE, all)?,
        "xen-disk serves with more than it needs:\n{}",
        bench.host.shell(ask)?
    );
    Ok(())
}
