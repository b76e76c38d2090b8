//! Clients that come and go, well or badly, ours and others.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, echo};
use crate::client::Process;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// What is prompt under emulation.
pub(super) const PROMPT: Duration = Duration::from_secs(10);

/// The signal that nobody can refuse.
const KILL: i32 = 9;

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
fn stream(bench: &Bench, client: &str) -> Result<Process> {
    let script =
        format!("cat /dev/urandom | {client} | {{ head -c 1000000 >/dev/null; echo flowing; cat >/dev/null; }}");
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
    echo::transfer_by(bench, &c_command(bench, &guest)?, &guest.name, 4 << 20, "")?.wait(PATIENCE)?.success()?;
    guest.echoes("and ours again")
}

pub(super) fn c_client_killed(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    stream(bench, &c_command(bench, &guest)?)?.signal(KILL)?;
    guest.echoes("after a killed C client")?;
    stream(bench, &c_command(bench, &guest)?)?.signal(KILL)?;
    echo::transfer_by(bench, &c_command(bench, &guest)?, &guest.name, 1 << 20, "")?.wait(PATIENCE)?.success()?;
    Ok(())
}

fn c_command(bench: &Bench, guest: &Guest) -> Result<String> {
    Ok(format!("{} {} data/vchan", bench.host.peer("vchan-client"), guest.domid()?))
}
