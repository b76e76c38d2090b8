//! A guest is saved, restored and migrated, and serves on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::attached;
use super::disks::plain;
use super::durable::{ended, survives};
use crate::client::Process;
use crate::disk::Census;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// Time that xl may take to save, restore or migrate a guest of 32 MiB under emulation.
const TRANSFER: Duration = Duration::from_secs(120);

/// Runs xl with `arguments`, which move a guest's memory.
pub(super) fn transfer(bench: &Bench, arguments: &[&str]) -> Result<()> {
    bench.host.exec(&[&["xl"], arguments].concat(), TRANSFER)?.success()?;
    Ok(())
}

/// Checks that `guest` went on as another domain for the `round`th time, and serves.
fn restored(guest: &Guest, before: &str, round: usize) -> Result<()> {
    guest.says_times("restored as domain", round)?;
    ensure!(guest.domid()? != before, "the restored domain has the number of the old one");
    // Published again, under its new number.
    guest.says_times("published again", round)?;
    guest.echoes("hello after the restore")
}

fn save_and_restore(bench: &Bench, guest: &Guest, rounds: usize) -> Result<()> {
    let file = format!("/tmp/{}.save", guest.name);
    for round in 1..=rounds {
        let before = guest.domid()?;
        transfer(bench, &["save", &guest.name, &file])
            .with_context(|| format!("round {round}: {}", guest.console()))?;
        transfer(bench, &["restore", &file])?;
        restored(guest, &before, round).with_context(|| format!("round {round}"))?;
    }
    bench.host.shell(&format!("rm {file}"))?;
    // Orders of the toolstack reach it as before.
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    guest.gone(PATIENCE)
}

pub(super) fn idle(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    guest.echoes("hello before the save")?;
    save_and_restore(bench, &guest, 3)
}

pub(super) fn many_rounds(bench: &Bench) -> Result<()> {
    save_and_restore(bench, &bench.guest(&[])?, 20)
}

pub(super) fn checkpoint(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let domid = guest.domid()?;
    let client = attached(&guest)?;
    let file = format!("/tmp/{}.save", guest.name);
    for round in 1..=3 {
        transfer(bench, &["save", "-c", &guest.name, &file])?;
        guest.says_times("the suspend was cancelled", round)?;
        ensure!(guest.domid()? == domid, "it goes on as another domain");
        // The client of before is still there, and another can come.
        let line = format!("round {round}\n");
        client.write(line.as_bytes())?;
        client.wait_for(&line.to_uppercase(), PATIENCE)?;
        guest.echoes("beside it")?;
    }
    client.close_stdin()?;
    client.wait(PATIENCE)?.success()?;
    // What was saved at the last checkpoint can be restored once the original is gone.
    bench.host.xl(&["destroy", &guest.name])?;
    transfer(bench, &["restore", &file])?;
    restored(&guest, &domid, 1)?;
    bench.host.shell(&format!("rm {file}"))?;
    Ok(())
}

pub(super) fn migrate(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    for round in 1..=3 {
        let before = guest.domid()?;
        // Without ssh: to the same host.
        transfer(bench, &["migrate", "-s", "", &guest.name, "xl migrate-receive"])
            .with_context(|| format!("round {round}: {}", guest.console()))?;
        // Its console is logged under the name that it comes with, which is not yet this one.
        ensure!(guest.domid()? != before, "round {round}: it has the number of the old one");
        guest.echoes("hello after the migration").with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

pub(super) fn with_client(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let before = guest.domid()?;
    let client = attached(&guest)?;
    let file = format!("/tmp/{}.save", guest.name);
    transfer(bench, &["save", &guest.name, &file])?;
    // The old domain is gone with its end of the channel: exit code 4, the other side died.
    client.wait(PATIENCE)?.expect(4)?;
    transfer(bench, &["restore", &file])?;
    restored(&guest, &before, 1)?;
    // The guest's own end of that channel ended with a reason, and its pages are free again.
    guest.says("client left: number 1")?;
    bench.host.shell(&format!("rm {file}"))?;
    Ok(())
}

/// Starts a transfer that goes on until [`Endless::stop`], so that a save comes into the middle of
/// it however fast the host is, and waits until a part of it has come back.
struct Endless<'a> {
    bench: &'a Bench<'a>,
    /// With the files `sent`, `got` and, to end it, `stop`.
    folder: String,
    client: Process,
}

impl<'a> Endless<'a> {
    fn begin(bench: &'a Bench<'a>, guest: &Guest) -> Result<Self> {
        let folder = format!("/tmp/{}", guest.name);
        bench.host.shell(&format!("rm -rf {folder}; mkdir {folder}"))?;
        let client = format!("out/vchan connect {} --timeout 20", guest.domid()?);
        // A pause after each part keeps the files small. What is recorded has been sent or will be.
        let script = format!(
            "set -o pipefail; until [ -e {folder}/stop ]; do \
             head -c 100000 /dev/urandom || break; sleep 0.02; done | \
             tee {folder}/sent | {client} >{folder}/got"
        );
        let client = bench.host.spawn(&["bash", "-c", &script])?;
        let endless = Endless { bench, folder, client };
        let part = || Ok(endless.size("got")? > 300_000);
        ensure!(until(PATIENCE, part)?, "nothing of the transfer comes back");
        Ok(endless)
    }

    fn size(&self, file: &str) -> Result<usize> {
        let size = format!("stat -c %s {}/{file} 2>/dev/null || echo 0", self.folder);
        Ok(self.bench.host.shell(&size)?.trim().parse()?)
    }

    /// Compares what has come back with what was sent, of which it may be a part.
    fn compare(&self) -> Result<usize> {
        let got = self.size("got")?;
        // bullseye's cmp cannot be told to stop, and more may come meanwhile.
        self.bench.host.shell(&format!(
            "cd {} && head -c {got} got >part && \
             LC_ALL=C tr a-z A-Z <sent | head -c {got} | cmp - part && rm part",
            self.folder
        ))?;
        Ok(got)
    }

    /// Ends it; all of it must have come back. Returns its bytes.
    fn stop(self) -> Result<usize> {
        self.bench.host.shell(&format!("touch {}/stop", self.folder))?;
        self.client.wait(TRANSFER)?.success()?;
        let got = self.compare()?;
        ensure!(got == self.size("sent")?, "a part of the transfer is missing");
        Ok(got)
    }

    /// Waits until the client says that the other end is gone: exit code 4. What has come back is
    /// the beginning of the transfer.
    fn cut_off(self) -> Result<()> {
        self.client.wait(TRANSFER)?.expect(4)?;
        self.compare()?;
        Ok(())
    }
}

pub(super) fn with_transfer(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let before = guest.domid()?;
    let file = format!("/tmp/{}.save", guest.name);
    // A suspend that is cancelled is nothing but a pause.
    let sending = Endless::begin(bench, &guest)?;
    transfer(bench, &["save", "-c", &guest.name, &file])?;
    guest.says("the suspend was cancelled")?;
    let bytes = sending.stop()?;
    guest.says(&format!("client left: number 1, {bytes} bytes echoed"))?;
    // In one that is not, the channel ends, and both ends say so: exit code 4 and a warning.
    let sending = Endless::begin(bench, &guest)?;
    transfer(bench, &["save", &guest.name, &file])?;
    sending.cut_off()?;
    transfer(bench, &["restore", &file])?;
    restored(&guest, &before, 1)?;
    guest.says("WARN  echo: client left: number 2, ")?;
    Endless::begin(bench, &guest)?.stop()?;
    bench.host.shell(&format!("rm {file}"))?;
    Ok(())
}

/// Rounds that a guest with disks writes unless it is ended before.
const ENDLESS: u32 = 1 << 30;

/// Everything that was durable, or written before a barrier, when the guest was saved, is there
/// after the restore, and so is all that comes later.
pub(super) fn with_disks(bench: &Bench) -> Result<()> {
    let before = Census::take(bench.host)?;
    let disk = bench.disk("a", plain(16))?;
    for (number, test) in [(1, "durable"), (3, "ordered")] {
        let options = format!("blk.disk=xvda blk.seed={number} blk.size=2M");
        let words = format!("blk.run={test} blk.destroy=xvda blk.loops={ENDLESS} {options}");
        let guest = bench.held(number, &words, &[(&disk, "xvda")])?;
        bench.let_go(&guest)?;
        bench.until_more(&guest, 0)?;
        let file = format!("/tmp/{}.save", guest.name);
        for round in 1..=3 {
            let rounds = bench.recorded(&guest)?;
            transfer(bench, &["save", &guest.name, &file])?;
            transfer(bench, &["restore", &file])?;
            guest.says_times("restored as domain", round)?;
            bench.until_more(&guest, rounds).with_context(|| format!("{test}, save {round}"))?;
            let rounds = bench.recorded(&guest)?;
            transfer(bench, &["save", "-c", &guest.name, &file])?;
            guest.says_times("the suspend was cancelled", round)?;
            bench.until_more(&guest, rounds).with_context(|| format!("{test}, save -c {round}"))?;
        }
        let rounds = bench.destroyed(&guest)?;
        bench.host.shell(&format!("rm {file}"))?;
        let words =
            format!("blk.run={test}-check blk.durable={rounds} blk.loops={ENDLESS} {options}");
        let guest = bench.held(number + 1, &words, &[(&disk, "xvda")])?;
        bench.let_go(&guest)?;
        survives(&ended(&guest)?)?;
    }
    disk.remove()?;
    before.unchanged(bench.host)
}
