//! The guest's console, as a person at it sees it.

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::client::Process;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// Types `command` at `xl console`; returns the console, which shows the reply.
fn type_at(bench: &Bench, guest: &Guest, command: &str) -> Result<Process> {
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    console.write(format!("{command}\r").as_bytes())?;
    Ok(console)
}

pub(super) fn commands(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let console = type_at(bench, &guest, "status")?;
    console.wait_for("grants   ", PATIENCE)?;
    console.write(b"help\r")?;
    console.wait_for("poweroff    end the domain", PATIENCE)?;
    console.write(b"nonsense\r")?;
    console.wait_for("'nonsense': try help", PATIENCE)?;
    guest.echoes("beside the console")?;
    console.write(b"poweroff\r")?;
    guest.gone(PATIENCE)
}

/// The connection to xenstore begins anew, and all that depends on it goes on.
pub(super) fn reconnect(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let console = type_at(bench, &guest, "reconnect")?;
    // Either answer has this word.
    console.wait_for("connection", PATIENCE)?;
    if !console.said().contains("this xenstored offers no reconnection") {
        // What is published is there, and the watches are set: a client comes, and an order.
        for round in 1..4 {
            console.wait_for("xenstored has begun the connection anew", PATIENCE)?;
            guest.echoes(&format!("begun anew {round} times"))?;
            console.write(b"reconnect\r")?;
        }
    }
    guest.echoes("whatever xenstored offers")?;
    bench.host.shell(&format!("xl shutdown {}", guest.name))?;
    guest.gone(PATIENCE)
}

pub(super) fn grants_grow(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&["extra=\"vchan.left=1048576 vchan.right=1048576\""])?;
    super::echo::transfer(bench, &guest, 4 << 20, "")?.wait(PATIENCE)?.success()?;
    let _console = type_at(bench, &guest, "status")?;
    guest.says("still mapped")?;
    let log = guest.console();
    let (used, frames) =
        usage(&log).with_context(|| format!("the console tells of no grants:\n{log}"))?;
    // A ring of 1 MiB has 256 pages, and a frame of the table 512 entries.
    ensure!(
        used > 512 && frames > 1,
        "{used} grants in {frames} frames are fewer than two such rings take"
    );
    Ok(())
}

/// The numbers in `grants   521 in use, 2 of 64 frames, …`.
fn usage(log: &str) -> Option<(u32, u32)> {
    let line = log.lines().rev().find_map(|line| line.trim().strip_prefix("grants "))?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grants_of_the_last_status_are_read() {
        let log = "grants   9 in use, 1 of 64 frames, 0 x\r\nfoo\ngrants   521 in use, 2 of 64 frames, 0 y\r\n";
        assert_eq!(usage(log), Some((521, 2)));
        assert_eq!(usage("grants none"), None);
    }
}
