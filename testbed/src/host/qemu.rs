//! The emulated machine: QEMU with Xen, a dom0, and a channel to its agent.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{HostConfig, serial};
use crate::cli::{Dom0, Xenstored};
use crate::client::Client;
use crate::image::{Image, Tree};
use crate::progress::Progress;

/// Time limit of a boot on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// Features of the emulated CPU: AMD's SVM with nested paging for the guests,
/// and random numbers so that nobody waits for entropy.
const CPU: &str = "qemu64,+svm,+npt,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";

/// Xen's own options. Memory is not scrubbed, so that it is not touched.
const XEN: &str = "console=com1 com1=115200,8n1 dom0_max_vcpus=1 bootscrub=0 loglvl=info guest_loglvl=all noreboot";

/// dom0's memory in MiB: half of it can be files, disks of guests among them.
const DOM0_MEMORY: u32 = 1024;

/// dom0's memory when it runs QEMU for guests.
const DOM0_MEMORY_WITH_QEMU: u32 = 1408;

/// dom0's options; a comma would end them.
const DOM0: &str = "console=hvc0 quiet panic=-1 rdinit=/init clocksource=xen";

/// Makes time a count of executed instructions, two nanoseconds each, and all
/// else that could differ from run to run the same.
const COUNTED: [&str; 6] =
    ["-icount", "shift=1,sleep=off", "-rtc", "base=2026-01-01T00:00:00,clock=vm", "-seed", "1"];

/// A running QEMU; dropping it ends it.
pub struct Qemu {
    child: Child,
    /// File of all that Xen, dom0 and port 0xE9 of the guests wrote.
    pub serial: PathBuf,
}

impl Qemu {
    /// Boots `image` with `extra` on top as `config` says, keeping its files in
    /// `folder`, and waits until its agent answers.
    pub fn boot(
        image: &Image,
        extra: &Tree,
        config: &HostConfig,
        folder: &Path,
        progress: &Progress,
    ) -> Result<(Qemu, Client)> {
        lay_out(image, extra, folder)?;
        let (ours, theirs) = UnixStream::pair()?;
        let serial = folder.join("host.log");
        let child = command(config, folder)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(fs::File::create(folder.join("qemu.log"))?)
            .spawn()
            .context("cannot start QEMU through setpriv (package util-linux)")?;
        let client = Client::new(ours.try_clone()?, ours);
        let mut qemu = Qemu { child, serial };
        qemu.wait(&client, folder, progress)?;
        BOOT_FILES.iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
        Ok((qemu, client))
    }

    fn wait(&mut self, client: &Client, folder: &Path, progress: &Progress) -> Result<()> {
        const STAGE: &str = "booting Xen and dom0 under emulation";
        progress.stage(STAGE);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let greeted = client.greeted(Duration::from_millis(250));
            if matches!(greeted, Ok(true)) {
                return Ok(());
            }
            let log = self.log();
            progress.detail(STAGE, serial::latest(&log));
            let status = self.child.try_wait()?;
            let why = match (serial::trouble(&log), status) {
                (Some(_), _) => "the emulated host failed while booting".to_string(),
                (None, Some(status)) => format!("QEMU ended while booting ({status})"),
                _ if Instant::now() > deadline => {
                    format!("the emulated host did not come up within {PATIENCE:?}")
                }
                _ => continue,
            };
            let errors = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
            bail!(
                "{why}; the whole log is {}\n{}{errors}",
                self.serial.display(),
                serial::excerpt(&log)
            );
        }
    }

    /// The serial line's text so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files that QEMU reads when it starts: hypervisor, dom0's kernel and root.
const BOOT_FILES: [&str; 3] = ["xen", "vmlinuz", "root.cpio"];

/// Puts the boot files where QEMU's command line can name them without commas
/// and spaces.
fn lay_out(image: &Image, extra: &Tree, folder: &Path) -> Result<()> {
    let [xen, kernel, root] = BOOT_FILES;
    for (name, target) in [(xen, &image.xen), (kernel, &image.kernel)] {
        let link = folder.join(name);
        std::os::unix::fs::symlink(target, &link)
            .with_context(|| format!("cannot create {}", link.display()))?;
    }
    let mut bytes = Vec::new();
    for path in [&image.root].into_iter().chain(&image.parts) {
        bytes.extend(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    bytes.extend(extra.archive());
    fs::write(folder.join(root), bytes).context("cannot write dom0's root")
}

fn command(config: &HostConfig, folder: &Path) -> Command {
    // setpriv ends QEMU with us, however we end.
    let mut command = Command::new("setpriv");
    command.current_dir(folder).args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    command.args(["-accel", "tcg,thread=single", "-smp", "1", "-cpu", CPU]);
    if config.counted {
        command.args(COUNTED);
    }
    command.args(["-m", &config.memory.to_string()]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-nic",
        "none",
    ]);
    command.args(["-serial", "file:host.log"]);
    command.args(["-chardev", "stdio,id=agent,signal=off", "-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=agent,name=ringside"]);
    let dom0 = if config.qemu { DOM0_MEMORY_WITH_QEMU } else { DOM0_MEMORY };
    let kind = if config.on.dom0 == Dom0::Pvh { " dom0=pvh" } else { "" };
    let xen = format!("{XEN} dom0_mem={dom0}M,max:{dom0}M{kind}");
    command.args(["-kernel", "xen", "-append", &xen]);
    let mut linux = DOM0.to_string();
    if config.counted {
        linux += " nokaslr";
    }
    if config.on.xenstored == Xenstored::Oxenstored {
        linux += " xenstored=oxenstored";
    }
    command.args(["-initrd", &format!("vmlinuz {linux},root.cpio")]);
    command
}
