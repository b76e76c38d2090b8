//! Peers that lie in the shared page and in xenstore, beside honest ones.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::attached;
use super::echo::{transfer, transfer_by};
use super::interop::lingering;
use super::linux::Linux;
use crate::client::Finished;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// Acts that break the protocol, with the words that the guest's console must have for it.
const VIOLATIONS: &[(&str, &str)] = &[
    ("prod-beyond", "left ring"),
    ("prod-far", "left ring"),
    ("prod-back", "left ring"),
    ("cons-ahead", "right ring"),
    ("cons-back", "right ring"),
    ("live", "cli_live is 7"),
];

/// Acts that must change nothing.
const NUISANCES: &[&str] = &["own", "orders", "notify", "storm"];

pub(super) fn clients(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let other = bench.other_guest(2, &[])?;
    let domid = guest.domid()?;
    let honest = attached(&guest)?;
    let transfers = [transfer(bench, &guest, 8 << 20, "")?, transfer(bench, &other, 8 << 20, "")?];
    guest.says_times("client connected", 2)?;
    other.says("client connected")?;

    let attack = |name: &str| {
        let program = bench.host.peer("vchan-attack");
        let finished = bench.host.exec(&[&program, &domid, "data/vchan", name], PATIENCE)?;
        finished.success().with_context(|| format!("attack {name}"))
    };
    let undisturbed = |after: &str| {
        honest.write(format!("after {after}\n").as_bytes())?;
        honest.wait_for(&format!("AFTER {}\n", after.to_uppercase()), PATIENCE)
    };
    for (number, (name, words)) in VIOLATIONS.iter().enumerate() {
        attack(name)?;
        guest
            .says_times("broke the protocol", number + 1)
            .with_context(|| format!("attack {name}"))?;
        let log = guest.console();
        let blamed =
            log.lines().rfind(|line| line.contains("broke the protocol")).unwrap_or_default();
        ensure!(
            blamed.contains(words),
            "of the attack {name} the console says {blamed:?}, without {words:?}"
        );
        undisturbed(name)?;
    }
    for name in NUISANCES {
        attack(name)?;
        undisturbed(name)?;
    }
    for transfer in transfers {
        transfer.wait(PATIENCE)?.success()?;
    }
    honest.close_stdin()?;
    honest.wait(PATIENCE)?.success()?;
    guest.echoes("and the next one")
}

/// Lies of a server, the exit code with which `vchan connect` ends, and the words with which it
/// blames them.
pub(super) const LIES: &[(&str, i32, &str)] = &[
    ("left-9", 5, "left ring: order 9 "),
    ("right-21", 5, "right ring: order 21 "),
    ("both-10", 5, "the rings overlap"),
    ("both-11", 5, "the rings overlap"),
    ("20-10", 5, "the rings overlap"),
    ("srv-live", 5, "srv_live is 7"),
    ("cli-live", 5, "cli_live is 7"),
    ("gone", 3, "the server is gone"),
    ("busy", 3, "in use by another client"),
    ("bad-grants", 3, "cannot map"),
    ("bad-page", 3, "cannot map"),
    ("bad-port", 3, "cannot bind"),
    ("key-text", 5, "is not a decimal number"),
    ("key-huge", 5, "is not a decimal number"),
    ("key-negative", 5, "is not a decimal number"),
    ("full", 5, "right ring"),
    ("prod-beyond", 5, "right ring"),
    ("prod-far", 5, "right ring"),
    ("prod-back", 5, "right ring"),
    ("cons-ahead", 5, "left ring"),
    ("cons-back", 5, "left ring"),
    ("live", 5, "srv_live is 7"),
];

/// Acts of a server to its own harm alone.
pub(super) const QUIRKS: &[&str] = &["own", "orders", "notify", "storm"];

/// Servers that say nothing more: how a measuring client ends, and what it says.
const SILENT: &[(&str, i32, &str)] =
    &[("deaf", 3, "nothing came back for 3s"), ("vanish", 4, "died")];

pub(super) fn servers(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let domid = &linux.domid;
    let all: Vec<_> = LIES
        .iter()
        .map(|lie| lie.0)
        .chain(QUIRKS.iter().copied())
        .chain(SILENT.iter().map(|silent| silent.0))
        .collect();
    let start = |name: &&str| {
        format!("vchan-rogue 0 /local/domain/{domid}/data/{name} {name} >>ready 2>&1 &\n")
    };
    linux.run(&all.iter().map(start).collect::<String>())?;
    linux.run(&format!("vchan-rogue 0 /local/domain/{domid}/data/mute deaf >>ready 2>&1 &"))?;
    linux.run("vchan exec 0 -- capitals >honest 2>&1 &")?;
    let ready = || Ok(linux.run("cat ready")?.matches(": ready").count() == all.len() + 1);
    ensure!(until(PATIENCE, ready)?, "not all servers are ready");

    for (name, code, words) in LIES {
        let client =
            format!("yes | out/vchan connect {domid} --path data/{name} --timeout 3 >/dev/null");
        blamed(bench, &client, *code, words).with_context(|| format!("lie {name}"))?;
    }
    // Keys that dom0 has written, where the server's are expected.
    let owned = format!("/local/domain/{domid}/data/owned");
    for key in ["ring-ref", "event-channel"] {
        bench
            .host
            .shell(&format!("xenstore-write {owned}/{key} 8 && xenstore-chmod {owned}/{key} n0"))?;
    }
    let client = format!("out/vchan connect {domid} --path data/owned --timeout 3 </dev/null");
    blamed(bench, &client, 5, "belongs to domain 0")?;
    for (name, code, words) in SILENT {
        let client = format!("out/vchan ping {domid} --path data/{name} --timeout 3 --size 9000");
        blamed(bench, &client, *code, words).with_context(|| format!("server {name}"))?;
    }
    let client = format!("yes | out/vchan connect {domid} --path data/mute --timeout 3 >/dev/null");
    blamed(bench, &client, 3, "no sign of life for 3s")?;
    for name in QUIRKS {
        let client = format!("out/vchan connect {domid} --path data/{name} --timeout 20");
        // A storm takes long where the host is emulated and busy.
        let client = lingering(&client);
        let ended = transfer_by(bench, &client, &bench.name, 300_000, "")?.wait(3 * PATIENCE);
        ended.and_then(Finished::success).with_context(|| format!("quirk {name}"))?;
    }
    let after = format!("out/vchan connect {domid} --timeout 20");
    transfer_by(bench, &after, &bench.name, 300_000, "")?.wait(PATIENCE)?.success()?;
    Ok(())
}

/// Runs a client that must end with this exit code, and say these words.
fn blamed(bench: &Bench, client: &str, code: i32, words: &str) -> Result<()> {
    let finished = bench.host.exec(&["sh", "-c", client], PATIENCE)?.expect(code)?;
    ensure!(finished.stderr.contains(words), "it said {:?}, without {words:?}", finished.stderr);
    Ok(())
}

/// The same towards our guest, whose client ends the domain with what it blames.
const LIES_TO_GUESTS: &[(&str, &str)] = &[
    ("both-10", "the rings overlap"),
    ("key-huge", "is not a decimal number"),
    ("prod-beyond", "right ring"),
    ("prod-back", "right ring"),
    ("cons-back", "left ring"),
    ("live", "srv_live is 7"),
    ("vanish", "died"),
];

pub(super) fn servers_of_guests(bench: &Bench) -> Result<()> {
    let rogue = bench.host.peer("vchan-rogue");
    for (number, (name, words)) in LIES_TO_GUESTS.iter().enumerate() {
        let extra = "extra=\"vchan.role=client vchan.domid=0 vchan.path=data/rogue\"";
        let label = format!("{}-{}", bench.name, number + 1);
        let guest = Guest::create_from(
            bench.host,
            "xl/client.xl",
            &label,
            &[extra, "on_crash=\"preserve\""],
        )?;
        let server =
            bench.host.spawn(&[&rogue, &guest.domid()?, "/local/domain/0/data/rogue", name])?;
        let told = guest.says(words).and_then(|()| guest.crashed());
        told.with_context(|| format!("lie {name}; the server said\n{}", server.said()))?;
        bench.host.xl(&["destroy", &guest.name])?;
        bench.host.shell("xenstore-rm /local/domain/0/data/rogue")?;
    }
    let guest = bench.other_guest(9, &[])?;
    guest.echoes("and now an honest one")
}
