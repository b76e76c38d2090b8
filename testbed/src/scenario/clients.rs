//! Clients that come and go, well or badly, ours and others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, echo};
use crate::client::Process;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// The most time that is still prompt under emulation.
pub(super) const PROMPT: Duration = Duration::from_secs(10);

/// The signal that nobody can refuse.
pub(super) const KILL: i32 = 9;

pub(super) fn series(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    for number in 0..20 {
        guest.echoes(&format!("client {number}"))?;
    }
    guest.says_times("client left", 20)
}

pub(super) fn killed(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    for round in 0..3 {
        let client = format!("out/vchan connect {} --timeout 20", guest.domid()?);
        stream(bench, &client)?.signal(KILL)?;
        guest.echoes(&format!("after the kill {round}"))?;
    }
    Ok(())
}

/// Starts an endless stream through `client` and waits until it flows.
pub(super) fn stream(bench: &Bench, client: &str) -> Result<Process> {
    let script = format!(
        "cat /dev/urandom | {client} | {{ head -c 1000000 >/dev/null; echo flowing; cat >/dev/null; }}"
    );
    let process = bench.shell(&script)?;
    process.wait_for("flowing", PATIENCE)?;
    Ok(process)
}

pub(super) fn no_server(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let domid = guest.domid()?;
    let elsewhere = ["out/vchan", "connect", &domid, "--path", "data/nothing", "--timeout", "2"];
    let begun = Instant::now();
    gives_up(bench, &elsewhere)?;
    ensure!(begun.elapsed() >= Duration::from_secs(1), "it gave up before its timeout");
    gives_up(bench, &["out/vchan", "connect", "32000", "--timeout", "2"])?;
    guest.echoes("still there")
}

fn gives_up(bench: &Bench, argv: &[&str]) -> Result<()> {
    let finished = bench.host.exec(argv, PATIENCE)?.expect(3)?;
    ensure!(!finished.stderr.trim().is_empty(), "it gave up without saying why");
    Ok(())
}

pub(super) fn server_destroyed(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let client = attached(&guest)?;
    bench.host.xl(&["destroy", &guest.name])?;
    let finished = client.wait(PROMPT)?.expect(4)?;
    ensure!(!finished.stderr.trim().is_empty(), "the client left without saying why");
    Ok(())
}

/// A client that has got its first reply and stays.
pub(super) fn attached(guest: &Guest) -> Result<Process> {
    let client = guest.client()?;
    client.write(b"attached\n")?;
    client.wait_for("ATTACHED\n", PATIENCE)?;
    Ok(client)
}

pub(super) fn c_client(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let line = format!("echo 'hello from C' | {}", c_command(bench, &guest)?);
    let reply = bench.host.shell(&line)?;
    ensure!(reply == "HELLO FROM C\n", "the C client got {reply:?}");
    echo::transfer_by(bench, &c_command(bench, &guest)?, &guest.name, 4 << 20, "")?
        .wait(PATIENCE)?
        .success()?;
    guest.echoes("and ours again")
}

pub(super) fn c_client_killed(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    stream(bench, &c_command(bench, &guest)?)?.signal(KILL)?;
    guest.echoes("after a killed C client")?;
    stream(bench, &c_command(bench, &guest)?)?.signal(KILL)?;
    echo::transfer_by(bench, &c_command(bench, &guest)?, &guest.name, 1 << 20, "")?
        .wait(PATIENCE)?
        .success()?;
    Ok(())
}

fn c_command(bench: &Bench, guest: &Guest) -> Result<String> {
    let program = format!("{}{}", bench.vchan_env(), bench.host.peer("vchan-client"));
    Ok(format!("{program} {} data/vchan", guest.domid()?))
}

/// Rounds of the soak, of five clients each; the first is not counted, since what grows for it may
/// stay.
const ROUNDS: u32 = 5;

pub(super) fn soak(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&["extra=\"vchan.left=4096 vchan.right=65536\""])?;
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    let mut before = None;
    let ours = format!("out/vchan connect {} --timeout 20 --linger 20", guest.domid()?);
    let theirs = c_command(bench, &guest)?;
    for round in 1..=ROUNDS {
        let transfer = |client: &str, size: u32, filter: &str| -> Result<()> {
            let sent = echo::transfer_by(bench, client, &guest.name, size as usize, filter)?
                .wait(PATIENCE)?
                .success();
            sent.with_context(|| format!("round {round}: {client}"))?;
            Ok(())
        };
        // Odd sizes of everything: what is sent, and how it is written and read.
        transfer(&ours, 70_001 * round, &format!("| dd bs={} 2>/dev/null", 77 + 1000 * round))?;
        transfer(&theirs.replacen(' ', &format!(" -s {round} "), 1), 50_003 * round, "")?;
        transfer(&theirs.replacen(' ', &format!(" -p -s {round} "), 1), 10_007 * round, "")?;
        stream(bench, &ours)?.signal(KILL)?;
        stream(bench, &theirs)?.signal(KILL)?;
        if round == 1 {
            guest.says_times("client left", 5)?;
            before = Some(in_use(bench, &guest, &console)?);
        }
    }
    guest.says_times("client left", 5 * ROUNDS as usize)?;
    let before = before.context("there was no first round")?;
    let as_before = |now: &InUse| now.heap <= before.heap && now.rest == before.rest;
    let same = until(PROMPT, || Ok(as_before(&in_use(bench, &guest, &console)?)))?;
    ensure!(same, "before: {before:?}\nafter: {:?}", in_use(bench, &guest, &console)?);
    guest.echoes("and one more")
}

/// Resources that a guest uses.
#[derive(Debug)]
pub(super) struct InUse {
    /// Bytes of heap.
    pub heap: u64,
    /// Grants, ports and keys, as text to be compared.
    pub rest: String,
}

pub(super) fn in_use(bench: &Bench, guest: &Guest, console: &Process) -> Result<InUse> {
    let (seen, domid) = (console.written(), guest.domid()?);
    console.write(b"status\r")?;
    let said = || {
        let output = console.output_after(seen, Duration::from_millis(100)).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    };
    let done = until(PATIENCE, || Ok(said().contains("by a peer that left")))?;
    let said = said();
    ensure!(done, "the console shows no status:\n{said}");
    let line = |name: &str| {
        let found = said.lines().find_map(|line| line.trim().strip_prefix(name));
        found.map(str::trim).with_context(|| format!("the status has no {name}:\n{said}"))
    };
    let heap = line("heap ")?.split(' ').next().unwrap_or_default().parse()?;
    let count = "ports $(lsevtchn $id | wc -l) keys $(xenstore-ls /local/domain/$id/data | wc -l)";
    let rest = bench.host.shell(&format!("id={domid}; echo {count}"))?;
    Ok(InUse { heap, rest: format!("grants {} {}", grants(line("grants ")?)?, rest.trim()) })
}

/// Returns the number of grants in use, without those that a peer has not yet let go of: it does so
/// in its own time, and they are free from the next release on.
fn grants(line: &str) -> Result<usize> {
    let numbers: Vec<usize> =
        line.split(' ').filter_map(|word| word.trim_end_matches(',').parse().ok()).collect();
    let [used, _frames, _limit, mapped] = numbers[..] else {
        bail!("a line about grants in another form: {line}")
    };
    used.checked_sub(mapped).with_context(|| format!("more are mapped than in use: {line}"))
}

/// Clients that stay, of which not all have room in 8 MiB.
const CROWD: usize = 40;

/// Newcomers are turned away once memory is short, and nobody else is harmed.
pub(super) fn crowd(bench: &Bench) -> Result<()> {
    let rings = "extra=\"vchan.left=131072 vchan.right=131072\"";
    let guest = bench.guest(&["memory=8", "shadow_memory=1", rings])?;
    let domid = guest.domid()?;
    let (mut inside, mut refused) = (Vec::new(), 0);
    for number in 0..CROWD {
        let client = bench.host.spawn(&["out/vchan", "connect", &domid, "--timeout", "3"])?;
        // A client that is turned away may be gone before it has sent anything.
        let _ = client.write(format!("client {number}\n").as_bytes());
        match client.wait_for(&format!("CLIENT {number}\n"), PROMPT) {
            Ok(()) => inside.push(client),
            Err(_) => refused += 1,
        }
        if refused == 3 {
            break;
        }
    }
    ensure!(inside.len() >= 8, "only {} clients have room:\n{}", inside.len(), guest.console());
    ensure!(refused > 0, "{CROWD} clients of 256 KiB have room in 8 MiB");
    for client in &inside {
        client.write(b"still here\n")?;
        client.wait_for("STILL HERE\n", PATIENCE)?;
    }
    for client in inside {
        client.close_stdin()?;
        client.wait(PATIENCE)?.success()?;
    }
    guest.echoes("room again")?;
    ensure!(!guest.console().contains("PANIC"), "it panicked:\n{}", guest.console());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_a_peer_still_maps_are_not_counted() {
        let line = "27 in use, 1 of 64 frames, 1 still mapped by a peer that left";
        assert_eq!(grants(line).unwrap(), 26);
        assert!(grants("27 in use").is_err());
    }
}
