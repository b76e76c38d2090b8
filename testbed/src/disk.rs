//! Disks of dom0 for guests: made with a few words, given to a guest when it is
//! created or later, checked from dom0, and taken away again.
//!
//! ```ignore
//! let disk = Disk::new(host, "stamps", Kind::Loop { mib: 32, sector: 512, read_only: false })?;
//! let settings = disks(&[(&disk, "xvda")]);
//! let guest = Guest::linux_with(host, name, "role=blk-write seed=7", &[&settings])?;
//! disk.stamped(Stamp { seed: 7, ..Stamp::default() })?;
//! disk.remove()?;
//! ```

mod census;
mod kind;

use anyhow::{Context, Result, ensure};

pub use census::Census;
pub use kind::{Kind, Mapping, Stamp};

use crate::guest::Guest;
use crate::host::{Host, PATIENCE, until};
use crate::image::BLOCK_QUICK_PATH;

/// A disk in dom0; dropping it takes it away as far as that is possible.
pub struct Disk<'a> {
    host: &'a Host,
    name: String,
    kind: Kind,
    /// The block device, or the file where xl is given a file.
    path: String,
    under: Option<Box<Disk<'a>>>,
    gone: bool,
}

impl<'a> Disk<'a> {
    /// Makes a disk. `name` tells it from other disks that exist at the time.
    pub fn new(host: &'a Host, name: &str, kind: Kind) -> Result<Disk<'a>> {
        Disk::made(host, name, kind, None)
    }

    /// Puts a device-mapper target above this disk; the whole is one disk again.
    pub fn mapped(self, name: &str, mapping: Mapping) -> Result<Disk<'a>> {
        let kind = Kind::Mapped(mapping);
        Disk::made(self.host, name, kind, Some(Box::new(self)))
    }

    fn made(
        host: &'a Host,
        name: &str,
        kind: Kind,
        under: Option<Box<Disk<'a>>>,
    ) -> Result<Disk<'a>> {
        let script = kind.create(name, under.as_ref().map_or("", |disk| &disk.path));
        let path = run(host, &script)
            .with_context(|| format!("cannot make the disk {name} ({kind:?})"))?;
        let path = path.trim().to_string();
        ensure!(path.starts_with('/'), "making the disk {name} printed {path:?} and not a path");
        Ok(Disk { host, name: name.to_string(), kind, path, under, gone: false })
    }

    /// The block device, or the file where xl is given a file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns its description for xl: one word of a `disk=` list.
    pub fn spec(&self, vdev: &str) -> String {
        // Xen's own script takes seconds of an emulated CPU.
        let script = self.host.emulated().then_some(BLOCK_QUICK_PATH);
        self.kind.spec(&self.path, vdev, script)
    }

    /// Gives it to a running guest as `vdev`.
    pub fn attach(&self, guest: &Guest, vdev: &str) -> Result<()> {
        self.host.xl(&["block-attach", &guest.name, &self.spec(vdev)]).map(drop)
    }

    /// Takes it from a running guest.
    pub fn detach(&self, guest: &Guest, vdev: &str) -> Result<()> {
        self.host.xl(&["block-detach", &guest.name, vdev]).map(drop)
    }

    /// Replaces what is mapped to where, while the disk is in use.
    pub fn remap(&self, mapping: Mapping) -> Result<()> {
        let under = self
            .under
            .as_ref()
            .with_context(|| format!("the disk {} is not a mapped one", self.name))?;
        run(self.host, &Kind::remap(&self.name, &under.path, mapping)).map(drop)
    }

    /// Makes a loop disk larger or smaller while it is in use. The kernel's
    /// backend tells the guest with the next request that it gets.
    pub fn resize(&self, mib: u32) -> Result<()> {
        let script = self.kind.resize(&self.name, &self.path, mib);
        let script =
            script.with_context(|| format!("a disk of kind {:?} cannot be resized", self.kind))?;
        run(self.host, &script).map(drop)
    }

    /// The SHA-256 of `sectors` sectors of 512 bytes from `first` on, or of all.
    pub fn checksum(&self, first: u64, sectors: Option<u64>) -> Result<String> {
        let count = sectors.map_or(String::new(), |count| format!("count={}", count * 512));
        let script = self.kind.with_raw(
            &self.path,
            &format!(
                "dd if=$raw bs=64K iflag=skip_bytes,count_bytes skip={} {count} status=none | sha256sum",
                first * 512
            ),
        );
        let sum = run(self.host, &script)?;
        Ok(sum.split_whitespace().next().context("sha256sum printed nothing")?.to_string())
    }

    /// Returns the line that our guest's test `sum` prints of it as `vdev`.
    pub fn sums(&self, vdev: &str) -> Result<String> {
        let program = self.host.peer("blk-sum");
        run(self.host, &self.kind.with_raw(&self.path, &format!("{program} -l {vdev} $raw")))
    }

    /// Writes something else over the beginning of a sector of 512 bytes.
    pub fn damage(&self, sector: u64) -> Result<()> {
        let path = self.kind.writable(&self.name, &self.path);
        run(
            self.host,
            &format!(
                "printf damaged | dd of={path} bs=512 seek={sector} conv=notrunc,fsync status=none"
            ),
        )
        .map(drop)
    }

    /// Writes stamped sectors, before a guest has the disk.
    pub fn stamp(&self, stamp: Stamp) -> Result<()> {
        let path = self.kind.writable(&self.name, &self.path);
        let program = self.host.peer("blk-stamp");
        run(self.host, &format!("{program} write {path} {}", stamp.options())).map(drop)
    }

    /// Makes sure that there are stamped sectors, after a guest had the disk.
    pub fn stamped(&self, stamp: Stamp) -> Result<()> {
        let program = self.host.peer("blk-stamp");
        let check = format!("{program} verify $raw {}", stamp.options());
        run(self.host, &self.kind.with_raw(&self.path, &check)).map(drop)
    }

    /// Makes sure that an ext4 filesystem on it has no fault.
    pub fn fsck(&self) -> Result<()> {
        run(self.host, &self.kind.with_raw(&self.path, "e2fsck -f -n $raw")).map(drop)
    }

    /// Takes it away. A backend may hold it for a moment after the guest is gone.
    pub fn remove(mut self) -> Result<()> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<()> {
        self.gone = true;
        let script = self.kind.delete(&self.name, &self.path);
        let ask = || Ok(self.host.exec(&["bash", "-c", &script], PATIENCE)?.expect(0).is_ok());
        ensure!(until(PATIENCE, ask)?, "the disk {} stays in use: '{script}' fails", self.name);
        self.under.take().map_or(Ok(()), |under| under.remove())
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if !self.gone {
            // After a failure, while the guest may still have it: whatever can be undone at once.
            let _ = self
                .host
                .exec(&["bash", "-c", &self.kind.delete(&self.name, &self.path)], PATIENCE);
        }
    }
}

/// The `disk=` setting for `xl create` that gives a guest these disks.
pub fn disks(list: &[(&Disk, &str)]) -> String {
    let specs: Vec<String> =
        list.iter().map(|(disk, vdev)| format!("'{}'", disk.spec(vdev))).collect();
    format!("disk=[{}]", specs.join(","))
}

/// Takes away whatever disks there are of an emulated host, after a failure
/// and once no guest has them any more.
pub fn sweep(host: &Host) {
    if host.emulated() {
        let _ = host.exec(&["bash", "-c", kind::SWEEP], PATIENCE);
    }
}

/// Runs a script with bash: busybox's shell would prefer its own lesser `dd`, `losetup` and
/// `blockdev`.
fn run(host: &Host, script: &str) -> Result<String> {
    host.exec(&["bash", "-c", script], PATIENCE)?.success()
}
