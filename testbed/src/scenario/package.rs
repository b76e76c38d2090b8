//! The package that `make dist` makes: installed in dom0, used from where it puts things, removed.

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::guest::{Guest, READY};
use crate::host::{PATIENCE, until};

/// dpkg's own folders, which a dom0 without packages does not have.
const DPKG: &str = "mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers /var/log && \
                    touch /var/lib/dpkg/status /var/lib/dpkg/available";

/// Lists all files of dom0 but those that come and go, or that dpkg keeps for itself.
const FILES: &str = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
                     -o -path '/var/l*' -o -path /root \\) -prune -o -print | sort";

/// The tools where the package puts them.
const VCHAN: &str = "/usr/sbin/vchan";
const XEN_DISK: &str = "/usr/sbin/xen-disk";

pub(super) fn install(bench: &Bench) -> Result<()> {
    let host = bench.host;
    let deb = host
        .shell("ls out/dist/*_amd64.deb")
        .context("there is no package in out/dist: run make dist")?;
    host.shell(DPKG)?;
    let before = host.shell(FILES)?;
    host.shell(&format!("dpkg -i {} 2>&1", deb.trim()))?;
    used(bench)?;
    // An administrator's own setting is asked about by dpkg, and goes only with --purge.
    host.shell("echo '# mine' >>/etc/xen/ringside-echo.xl; dpkg -r ringside 2>&1")?;
    host.shell("tail -n1 /etc/xen/ringside-echo.xl | grep -q mine && ! test -e /usr/sbin/vchan")?;
    host.shell("dpkg -P ringside 2>&1")?;
    let after = host.shell(FILES)?;
    ensure!(before == after, "files before:\n{before}\nand after it was removed:\n{after}");
    Ok(())
}

/// Runs an echo and a disk from the installed paths alone.
fn used(bench: &Bench) -> Result<()> {
    let host = bench.host;
    for tool in [VCHAN, XEN_DISK] {
        let version = host.shell(&format!("{tool} --version"))?;
        let built = host.shell(&format!("out/{} --version", &tool["/usr/sbin/".len()..]))?;
        ensure!(version == built && version.contains('('), "{tool} is {version}, not {built}");
        let name = &tool["/usr/sbin/".len()..];
        host.shell(&format!("zcat /usr/share/man/man8/{name}.8.gz | grep -q '^.SH FILES'"))?;
    }
    let guest = Guest::create_from(host, "/etc/xen/ringside-echo.xl", &bench.name, &[])?;
    guest.says(READY)?;
    let echo = format!("cd /; echo installed | {VCHAN} connect {} --timeout 20", guest.name);
    ensure!(host.shell(&echo)? == "INSTALLED\n", "the echo is another");
    // xl reads the kernel again, in another folder than it was called in.
    host.xl(&["reboot", &guest.name])?;
    guest.says_times(READY, 2)?;
    ensure!(host.shell(&echo)? == "INSTALLED\n", "the echo after the reboot is another");
    host.xl(&["destroy", &guest.name])?;

    let name = format!("{}-disk", bench.name);
    let image = format!("/tmp/{name}.raw");
    host.shell(&format!("truncate -s 16M {image}"))?;
    let extra = "extra=\"vchan.role=none blk.run=seq,flush blk.disk=xvda blk.destroy=xvda\"";
    let guest = Guest::create_from(host, "/etc/xen/ringside-block.xl", &name, &["-p", extra])?;
    let words = [XEN_DISK, "connect", &guest.name, "--vdev", "xvda", "--path", &image];
    let serving = host.spawn(&words)?;
    serving.wait_for("Press Control+C to disconnect device.", PATIENCE)?;
    host.xl(&["unpause", &guest.name])?;
    guest.says_within(" passed, 0 failed, ", PATIENCE * 3)?;
    guest.gone(PATIENCE)?;
    serving.wait(PATIENCE)?.expect(4)?;
    let gone = until(PATIENCE, || Ok(!host.shell("ls /run/xen-disk")?.contains("xvda")))?;
    ensure!(gone, "the disk's socket stays");
    // The same by xl's script, which finds the tool where it is installed.
    let spec = format!("vdev=xvda,backendtype=phy,script=block-ringside,format=raw,target={image}");
    let disk = format!("disk=['{spec}']");
    let name = format!("{}-xl", bench.name);
    let guest = Guest::create_from(host, "/etc/xen/ringside-block.xl", &name, &[&disk, extra])?;
    guest.says_within(" passed, 0 failed, ", PATIENCE * 3)?;
    guest.gone(PATIENCE)?;
    host.shell(&format!("rm {image}")).map(drop)
}
