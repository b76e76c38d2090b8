//! Every byte that goes into the guest comes back in upper case, in order.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Bench;
use crate::client::Process;
use crate::guest::Guest;

/// The most time that a transfer of megabytes may take under emulation.
const LONG: Duration = Duration::from_secs(150);

pub(super) fn line(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    guest.echoes("hello from dom0")?;
    // Line by line: each reply comes before the next line is typed.
    let client = guest.client()?;
    for (typed, reply) in [("one", "ONE\n"), ("two 2", "TWO 2\n"), ("Ümläut", "ÜMLäUT\n")] {
        let seen = client.written();
        client.write(format!("{typed}\n").as_bytes())?;
        client.wait_for(reply, LONG)?;
        ensure!(
            client.written() == seen + reply.len(),
            "more came back than was sent after {typed:?}"
        );
    }
    client.close_stdin()?;
    client.wait(LONG)?.success()?;
    Ok(())
}

pub(super) fn random(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    transfer(bench, &guest, 16 << 20, "")?.wait(LONG)?.success()?;
    Ok(())
}

pub(super) fn slow_reader(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    // It takes one byte, then nothing for a while: both rings fill up meanwhile.
    let pausing = "| { dd bs=1 count=1 2>/dev/null; sleep 2; cat; }";
    transfer(bench, &guest, 2 << 20, pausing)?.wait(LONG)?.success()?;
    Ok(())
}

pub(super) fn two_guests(bench: &Bench) -> Result<()> {
    let guests = [bench.guest(&[])?, bench.other_guest(2, &[])?];
    let transfers: Vec<_> =
        guests.iter().map(|guest| transfer(bench, guest, 4 << 20, "")).collect::<Result<_>>()?;
    for transfer in transfers {
        transfer.wait(LONG)?.success()?;
    }
    Ok(())
}

pub(super) fn small_rings(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&["extra=\"vchan.left=1024 vchan.right=2048\""])?;
    guest.echoes("through the smallest rings")?;
    transfer(bench, &guest, 1 << 20, "")?.wait(LONG)?.success()?;
    let guest = bench.other_guest(2, &["extra=\"vchan.left=65536 vchan.right=1048576\""])?;
    transfer(bench, &guest, 4 << 20, "")?.wait(LONG)?.success()?;
    Ok(())
}

/// Starts a transfer of `size` random bytes through our client, whose output
/// goes through `filter`; it exits with 0 if what comes back is right.
pub(super) fn transfer(bench: &Bench, guest: &Guest, size: usize, filter: &str) -> Result<Process> {
    let client = format!("out/vchan connect {} --timeout 20", guest.domid()?);
    transfer_by(bench, &client, &guest.name, size, filter)
}

/// The same through any `client` command.
pub(super) fn transfer_by(
    bench: &Bench,
    client: &str,
    name: &str,
    size: usize,
    filter: &str,
) -> Result<Process> {
    // bash, because the client's own exit code counts, wherever it stands.
    let script = format!(
        "set -o pipefail; folder=/tmp/{name}; mkdir -p $folder && cd $folder && head -c {size} /dev/urandom >sent && \
         LC_ALL=C tr a-z A-Z <sent >wanted && cd $OLDPWD && {client} <$folder/sent {filter} >$folder/got && \
         cmp $folder/wanted $folder/got; code=$?; rm -r $folder; exit $code"
    );
    bench.host.spawn(&["bash", "-c", &script])
}
