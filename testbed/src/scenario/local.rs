//! `vchan proxy`, between our guest and programs that know nothing of vchan.

use anyhow::{Context, Result};

use super::Bench;
use super::clients::PROMPT;
use super::interop::{ANSWERED, client_guest};
use crate::client::Process;
use crate::host::PATIENCE;

/// Number of bytes that a local program sends.
const SENT: u32 = 200_000;

/// The signal that asks to end.
const TERM: i32 = 15;

/// Seed of a program that leaves in the middle.
const LEAVES: u32 = 0;

pub(super) fn proxy(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let domid = guest.domid()?;
    // An emulated dom0 has not done so.
    bench.host.shell("ip link set lo up")?;
    let socket = format!("/tmp/{}", guest.name);
    let start = |door: &[&str], says: &str| -> Result<Process> {
        let proxy = bench
            .host
            .spawn(&[&["out/vchan", "proxy", &domid, "--linger", "20"], door].concat())?;
        proxy.wait_for(says, PATIENCE)?;
        Ok(proxy)
    };
    for (kind, place, door) in
        [("unix", &*socket, ["--unix", &socket]), ("tcp", "7011", ["--tcp", "127.0.0.1:7011"])]
    {
        let proxy = start(&door, "Listening on")?;
        for seed in [1, LEAVES, 2] {
            local(bench, &[kind, place], seed)
                .with_context(|| format!("the proxy said:\n{}", proxy.said()))?;
        }
        proxy.signal(TERM)?;
        proxy.wait(PROMPT)?.expect(128 + TERM)?;
    }
    bench.host.shell(&format!("test ! -e {socket}"))?;

    let proxy = start(&["--pty"], "The terminal is /dev/pts/")?;
    let said = proxy.said();
    let device = said
        .lines()
        .find_map(|line| line.strip_prefix("The terminal is "))
        .context("no terminal")?;
    for seed in [3, 4] {
        local(bench, &["pty", device], seed)
            .with_context(|| format!("the proxy said:\n{}", proxy.said()))?;
    }
    // The guest closes its channels before its domain ends: that is the end of the terminal, too.
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    proxy.wait(PROMPT)?.success()?;
    Ok(())
}

/// A local program that sends bytes and checks the answers.
fn local(bench: &Bench, place: &[&str], seed: u32) -> Result<()> {
    let (program, sent, seed) =
        (bench.host.peer("local-client"), SENT.to_string(), seed.to_string());
    bench.host.exec(&[&[&*program], place, &[&*sent, &*seed]].concat(), PATIENCE)?.success()?;
    Ok(())
}

pub(super) fn proxy_server(bench: &Bench) -> Result<()> {
    // Another address, and its name.
    bench.host.shell(
        "ip link set lo up; ip addr replace 192.0.2.1/32 dev lo; \
         grep -q fileserver /etc/hosts || echo '192.0.2.1 fileserver' >>/etc/hosts",
    )?;
    let socket = format!("/tmp/{}", bench.name);
    for (number, place, door) in [
        (1, "7012", ["--tcp", "127.0.0.1:7012"]),
        (2, &socket, ["--unix", &socket]),
        (3, "192.0.2.1:7013", ["--tcp", "fileserver:7013"]),
    ] {
        let server = bench.host.spawn(&[&bench.host.peer("local-client"), "server", place])?;
        server.wait_for("serving", PATIENCE)?;
        let guest = client_guest(bench, number, "0", "data/vchan")?;
        let proxy = bench
            .host
            .spawn(&[&["out/vchan", "proxy", &guest.domid()?, "--server"], &door[..]].concat())?;
        guest.says(ANSWERED).with_context(|| format!("the proxy said:\n{}", proxy.said()))?;
        guest.gone(PATIENCE)?;
        // There will be no more clients.
        proxy.wait(PROMPT)?.expect(4)?;
        bench.host.shell("! xenstore-exists /local/domain/0/data/vchan/ring-ref")?;
        server.signal(TERM)?;
    }
    bench.host.shell(&format!("rm {socket}"))?;
    Ok(())
}
