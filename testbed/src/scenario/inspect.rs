//! `vchan ls` and `vchan dump`: looking at vchans of others without touching them.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::{KILL, PROMPT};
use super::linux::Linux;
use crate::host::PATIENCE;

/// The signal that asks to end.
const TERM: i32 = 15;

pub(super) fn vchans(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let of_linux = format!("/local/domain/{}/data", linux.domid);
    let guest = bench.other_guest(
        2,
        &["extra=\"vchan.path=data/vchan/0/echo vchan.left=1024 vchan.right=2048\""],
    )?;
    let of_guest = format!("/local/domain/{}/data/vchan/0/echo", guest.domid()?);

    // A server that reads nothing, and a client whose bytes stay in the ring.
    linux
        .run(&format!("vchan-rogue 0 {of_linux}/deaf deaf >ready 2>&1 & until grep ready ready; do sleep 0.1; done"))?;
    let client =
        bench.host.spawn(&["out/vchan", "connect", &linux.domid, "--path", "data/deaf", "-v"])?;
    client.write(b"five!")?;
    client.wait_for("Connected to domain", PATIENCE)?;
    // A channel of dom0's own, whose pages only the client sees.
    let listen = [
        "out/vchan",
        "listen",
        &linux.domid,
        "--port",
        "log",
        "--left",
        "64K",
        "--right",
        "1M",
        "-v",
    ];
    let server = bench.host.spawn(&listen)?;
    server.wait_for("Waiting for a client", PATIENCE)?;
    let of_dom0 = format!("/local/domain/0/data/vchan/{}/log", linux.domid);

    let listed = |path: &str| -> Result<Vec<String>> {
        let table = bench.host.shell("out/vchan ls")?;
        let row = table
            .lines()
            .map(|line| line.split_whitespace().map(str::to_string).collect::<Vec<_>>());
        row.into_iter()
            .find(|row| row.get(2).is_some_and(|cell| cell == path))
            .with_context(|| format!("there is no {path} in\n{table}"))
    };
    for (path, server, client, rest) in [
        (format!("{of_linux}/deaf"), &*linux.domid, "0", ["connected", "5/4096", "0/4096"]),
        (format!("{of_linux}/vchan/0/sh"), &linux.domid, "0", ["waiting", "0/8192", "0/8192"]),
        (of_guest, &guest.domid()?, "0", ["waiting", "0/1024", "0/2048"]),
        (of_dom0.clone(), "0", &linux.domid, ["-", "-", "-"]),
    ] {
        let row = listed(&path)?;
        ensure!(row[..2] == [server, client] && row[5..] == rest, "{path} is listed as {row:?}");
    }
    let json = bench.host.shell("out/vchan ls --json")?;
    for words in [
        format!(r#""path":"{of_linux}/deaf","#),
        r#""state":"connected","left":{"order":12,"size":4096,"used":5,"prod":5,"cons":0}"#
            .to_string(),
        format!(r#""reason":"its page is granted to domain {}, not to this one""#, linux.domid),
    ] {
        ensure!(json.contains(&words), "there is no {words} in\n{json}");
    }

    let keys = bench.host.shell(&format!("xenstore-ls -p {of_dom0}"))?;
    let readable = keys.matches(&format!("(n0,r{})", linux.domid)).count();
    ensure!(readable == 2, "the keys are not for the client alone:\n{keys}");

    dumped(bench, &linux)?;

    // Nobody has noticed anything.
    ensure!(client.running(), "the client has ended: {}", client.said());
    client.signal(TERM)?;
    client.wait(PROMPT)?.expect(128 + TERM)?;
    let answer = bench
        .host
        .shell(&format!("echo still here | out/vchan connect {} --port echo", guest.domid()?))?;
    ensure!(answer == "STILL HERE\n", "the guest answered {answer:?}");

    server.signal(KILL)?;
    server.wait(PROMPT)?;
    listed(&of_dom0).context("a killed server's keys")?;
    let server = bench.host.spawn(&listen)?;
    server.wait_for("Waiting for a client", PATIENCE)?;
    // Its side has nothing to say, or the client would wait for that.
    server.close_stdin()?;
    // The client finds the keys of the second.
    linux.run("echo after all | vchan connect 0 --port log --timeout 20")?;
    server.wait_for("after all\n", PATIENCE)?;
    server.wait(PROMPT)?.success()?;
    ensure!(listed(&of_dom0).is_err(), "a server that has ended left its keys behind");
    Ok(())
}

fn dumped(bench: &Bench, linux: &Linux) -> Result<()> {
    let dump = format!("out/vchan dump {} --path data/deaf", linux.domid);
    let text = bench.host.shell(&dump)?;
    for words in [
        "state       connected",
        "left        to the server: order 12, 5/4096 bytes used, prod 5, cons 0",
        "right       to the client: order 12, 0/4096 bytes used, prod 0, cons 0",
        "\n00 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00\n0c 00 0c 00 01 01 ",
    ] {
        ensure!(text.contains(words), "there is no {words:?} in\n{text}");
    }
    let json = bench.host.shell(&format!("{dump} --json"))?;
    ensure!(
        json.contains(r#""cli_live":1,"srv_live":1,"#),
        "the client and the server are not there in\n{json}"
    );
    bench
        .host
        .exec(&["out/vchan", "dump", &linux.domid, "--path", "data/nothing"], PATIENCE)?
        .expect(3)?;
    Ok(())
}
