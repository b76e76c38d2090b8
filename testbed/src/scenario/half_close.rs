//! The end of input travels, each direction on its own, and the status of a command with it.

use super::Bench;
use super::linux::Linux;
use crate::host::PATIENCE;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// Servers in dom0 for clients in a Linux guest, and in the guest for clients in dom0: programs
/// that say nothing before their input has ended, or long after.
pub(super) fn programs(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    for (port, command) in [
        ("sort", "sort"),
        ("count", "wc -c"),
        ("late", "sh -c 'cat >/dev/null; sleep 5; echo late'"),
        ("three", "sh -c 'cat >/dev/null; exit 3'"),
        ("killed", "sh -c 'kill -9 $$'"),
        ("cat", "cat"),
    ] {
        linux.run(&format!("vchan exec --port {port} 0 -- {command} >>servers 2>&1 &"))?;
        let key = format!("/local/domain/{}/data/vchan/0/{port}/ring-ref", linux.domid);
        bench.published(&key)?;
    }
    let connect = |port: &str| format!("out/vchan connect --port {port} {}", linux.domid);
    let ends = |input: &str, port: &str, code: i32, output: &str| -> Result<()> {
        let line = format!("printf '{input}' | {}", connect(port));
        let finished = bench.host.exec(&["sh", "-c", &line], PATIENCE)?.expect(code)?;
        ensure!(finished.stdout == output.as_bytes(), "{port} said {:?}", finished.stdout);
        Ok(())
    };
    ends("b\\na\\nc\\n", "sort", 0, "a\nb\nc\n")?;
    ends("12345", "count", 0, "5\n")?;
    ends("x", "late", 0, "late\n")?;
    ends("", "late", 0, "late\n")?;
    ends("x", "three", 3, "")?;
    ends("", "killed", 128 + 9, "")?;
    let script = format!(
        "mkdir -p /tmp/tree/there && cd /tmp/tree && head -c 300000 /dev/urandom >there/file && \
         cd $OLDPWD && tar -C /tmp/tree -cf - there | {} >/tmp/tree/back && \
         mkdir /tmp/tree/new && tar -C /tmp/tree/new -xf /tmp/tree/back && \
         cmp /tmp/tree/there/file /tmp/tree/new/there/file; code=$?; rm -r /tmp/tree; exit $code",
        connect("cat")
    );
    bench.host.shell(&script).context("tar through a vchan")?;
    Ok(())
}

/// The echo guest closes once it has seen the end of the input: no silence is waited for.
pub(super) fn echo(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let line = format!("echo hi | out/vchan connect {} -v", guest.domid()?);
    let begun = Instant::now();
    let finished = bench.host.exec(&["sh", "-c", &line], PATIENCE)?.expect(0)?;
    ensure!(finished.stdout == b"HI\n", "it said {:?}", finished.stdout);
    let summary = "3 bytes sent, 3 received; the server closed first";
    ensure!(finished.stderr.contains(summary), "without {summary:?}:\n{}", finished.stderr);
    ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    Ok(())
}
