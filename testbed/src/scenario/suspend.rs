//! A guest is saved, restored and migrated, and serves on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::clients::attached;
use super::disks::plain;
use super::durable::{ended, survives};
use super::{Bench, echo};
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

/// Bytes of a transfer that a save comes into.
const SENT: usize = 16 << 20;

/// Starts a transfer to `guest`, and waits until a part of it has come back.
fn begun(bench: &Bench, guest: &Guest) -> Result<Process> {
    let sending = echo::transfer(bench, guest, SENT, "")?;
    let got = format!("stat -c %s /tmp/{}/got 2>/dev/null || echo 0", guest.name);
    let part = || Ok(bench.host.shell(&got)?.trim().parse::<usize>()? > SENT / 16);
    ensure!(until(PATIENCE, part)?, "nothing of the transfer comes back");
    Ok(sending)
}

pub(super) fn with_transfer(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let before = guest.domid()?;
    let file = format!("/tmp/{}.save", guest.name);
    // A suspend that is cancelled is nothing but a pause.
    let sending = begun(bench, &guest)?;
    transfer(bench, &["save", "-c", &guest.name, &file])?;
    guest.says("the suspend was cancelled")?;
    sending.wait(TRANSFER)?.success()?;
    guest.says("client left: number 1, 16777216 bytes echoed")?;
    // In one that is not, the channel ends, and both ends say so: exit code 4 and a warning.
    let sending = begun(bench, &guest)?;
    transfer(bench, &["save", &guest.name, &file])?;
    sending.wait(TRANSFER)?.expect(4)?;
    transfer(bench, &["restore", &file])?;
    restored(&guest, &before, 1)?;
    guest.says("WARN  echo: client left: number 2, ")?;
    begun(bench, &guest)?.wait(TRANSFER)?.success()?;
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
