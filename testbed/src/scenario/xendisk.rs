//! xen-disk and its guests: disks that are plugged in and out while the guest runs.

pub(super) mod beside;
pub(super) mod devices;
pub(super) mod driver;
pub(super) mod exercise;
pub(super) mod reports;
pub(super) mod session;
pub(super) mod takeover;
pub(super) mod toolstack;

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::client::Process;
use crate::disk::{Census, Stamp};
use crate::guest::Guest;
use crate::host::{Host, PATIENCE, until};

/// Folder of dom0 for images.
const FOLDER: &str = "/tmp/ringside-xen-disk";

/// SIGHUP, SIGINT, which Ctrl-C sends, SIGTERM and SIGKILL.
const HANGUP: i32 = 1;
const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;
const KILL: i32 = 9;

/// Words of xen-disk when a disk is plugged in.
const READY: &str = "Press Control+C to disconnect device.";

/// Words of xen-disk when clients can connect to an export.
const EXPORTED: &str = "Press Control+C to end.";

/// An image file in dom0, removed when it is dropped.
struct Image<'a> {
    host: &'a Host,
    path: String,
}

impl<'a> Image<'a> {
    /// A sparse file.
    fn new(bench: &Bench<'a>, label: &str, mib: u32) -> Result<Image<'a>> {
        let path = format!("{FOLDER}/{}-{label}", bench.name);
        bench.host.shell(&format!("mkdir -p {FOLDER} && truncate -s {mib}M {path}"))?;
        Ok(Image { host: bench.host, path })
    }

    /// The same with an ext4 filesystem that has one file.
    fn with_file(bench: &Bench<'a>, mib: u32) -> Result<Image<'a>> {
        let image = Image::new(bench, "golden", mib)?;
        let path = &image.path;
        let made = format!(
            "mkdir {path}.d && echo golden >{path}.d/file && mkfs.ext4 -q -F -d {path}.d {path} && rm -r {path}.d"
        );
        bench.host.shell(&made)?;
        Ok(image)
    }

    fn sum(&self) -> Result<String> {
        self.host.shell(&format!("sha256sum <{}", self.path))
    }

    /// Returns the space that it takes, in KiB.
    fn kib(&self) -> Result<u64> {
        let printed = self.host.shell(&format!("du -k {} | cut -f1", self.path))?;
        printed.trim().parse().with_context(|| format!("du prints {printed:?}"))
    }

    fn stamped(&self, stamp: Stamp) -> Result<()> {
        let program = self.host.peer("blk-stamp");
        self.host.shell(&format!("{program} verify {} {}", self.path, stamp.options())).map(drop)
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        let _ = self.host.shell(&format!("rm -rf {0} {0}.*", self.path));
    }
}

impl<'a> Bench<'a> {
    /// Starts `xen-disk connect` and waits until the disk is plugged in.
    fn xen_disk(&self, guest: &Guest, words: &[&str]) -> Result<Process> {
        let serving = self
            .host
            .spawn(&[&["out/xen-disk", "connect", &guest.name, "--verbose"], words].concat())?;
        serving.wait_for(READY, PATIENCE)?;
        Ok(serving)
    }

    /// Makes sure that xenstore has nothing of a disk of ours, and the rest is as it was.
    fn nothing_left(&self, before: &Census) -> Result<()> {
        let ask = "xenstore-ls /local/domain/0/backend/xen-disk 2>/dev/null; ls /run/xen-disk";
        let clean = || Ok(self.host.shell(ask)?.trim().is_empty());
        ensure!(until(PATIENCE, clean)?, "xen-disk left behind: {}", self.host.shell(ask)?);
        before.unchanged(self.host)
    }
}
