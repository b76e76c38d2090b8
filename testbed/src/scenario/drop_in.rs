//! Our libxenvchan in the place of Debian's, under programs that were built against that: C
//! programs, Xen's own vchan-socket-proxy, and Python.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::{self, PROMPT};
use super::echo::transfer_by;
use super::hostile::{LIES, QUIRKS};
use super::interop::{self, LONG, RINGS};
use super::linux::Linux;
use super::tool;
use crate::client::Process;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// The words of a fault of the peer in a program's standard error.
const BLAME: &str = "broke the protocol";

pub(super) fn client(bench: &Bench) -> Result<()> {
    bench.host.shell(&bench.host.peer("vchan-abi"))?;
    clients::c_client(&bench.with_our_library())?;
    let bench = Bench { name: format!("{}-k", bench.name), ..bench.with_our_library() };
    clients::c_client_killed(&bench)?;
    let guest = bench.other_guest(3, &[])?;
    let program = attached(&bench, &guest, "")?;
    // Not Debian's by mistake.
    let maps = "cat $(grep -l vchan-client /proc/[0-9]*/comm | sed s/comm/maps/)";
    let maps = bench.host.shell(maps)?;
    ensure!(maps.contains("out/libxenvchan/libxenvchan.so"), "it uses another library:\n{maps}");
    program.close_stdin()?;
    program.wait(PATIENCE)?.success()?;
    Ok(())
}

/// A client in C that has got its first answer and stays.
fn attached(bench: &Bench, guest: &Guest, options: &str) -> Result<Process> {
    let program = format!("{}{}", bench.vchan_env(), bench.host.peer("vchan-client"));
    let client = bench.shell(&format!("exec {program} {options} {} data/vchan", guest.domid()?))?;
    client.write(b"attached\n")?;
    client.wait_for("ATTACHED\n", PATIENCE)?;
    Ok(client)
}

pub(super) fn rings(bench: &Bench) -> Result<()> {
    interop::ring_sizes(&bench.with_our_library())
}

pub(super) fn proxy(bench: &Bench) -> Result<()> {
    interop::socket_proxy(&bench.with_our_library())
}

pub(super) fn proxy_serves(bench: &Bench) -> Result<()> {
    tool::socket_proxy_serves(&bench.with_our_library())
}

pub(super) fn linux_server(bench: &Bench) -> Result<()> {
    interop::linux_server(&bench.with_our_library())
}

pub(super) fn linux_client(bench: &Bench) -> Result<()> {
    interop::linux_client(&bench.with_our_library())
}

/// A domain that dies under a client in C, under one that sleeps in a blocking call, and under
/// Xen's proxy: none hangs.
pub(super) fn dead_domain(bench: &Bench) -> Result<()> {
    let bench = bench.with_our_library();
    let guest = bench.guest(&["extra=\"vchan.left=4096 vchan.right=4096\""])?;
    let domid = guest.domid()?;
    let polling = attached(&bench, &guest, "")?;
    // Standard input stays open, so the program sleeps in read(2) there; a full channel has it
    // sleep in the library.
    let blocking = bench.shell(&format!(
        "yes | {}{} -p {domid} data/vchan >/dev/null",
        bench.vchan_env(),
        bench.host.peer("vchan-client"),
    ))?;
    let proxy = bench.shell(&format!(
        "{}vchan-socket-proxy {domid} /local/domain/{domid}/data/vchan -; \
         echo the proxy ended",
        bench.vchan_env(),
    ))?;
    guest.says_times("client connected", 3)?;
    bench.host.xl(&["destroy", &guest.name])?;
    polling.wait(PROMPT)?.expect(4)?;
    blocking.wait(PROMPT)?.expect(4)?;
    proxy.wait_for("the proxy ended", PROMPT)?;
    // Nobody keeps what is left of the domain.
    let buried = until(PROMPT, || Ok(!bench.host.xl(&["list"])?.contains("(null)")))?;
    ensure!(buried, "a zombie is left:\n{}", bench.host.xl(&["list"])?);
    Ok(())
}

/// Lies of servers, told to a client in C; and those of clients, to a server in C.
pub(super) fn hostile(bench: &Bench) -> Result<()> {
    let bench = bench.with_our_library();
    let linux = Linux::boot(&bench)?;
    lying_servers(&bench, &linux).context("servers that lie")?;
    lying_clients(&bench, &linux).context("clients that lie")
}

fn lying_servers(bench: &Bench, linux: &Linux) -> Result<()> {
    let domid = &linux.domid;
    let names: Vec<_> = LIES.iter().map(|lie| lie.0).chain(QUIRKS.iter().copied()).collect();
    let start = |name: &&str| {
        format!("vchan-rogue 0 /local/domain/{domid}/data/{name} {name} >>ready 2>&1 &\n")
    };
    linux.run(&names.iter().map(start).collect::<String>())?;
    let ready = || Ok(linux.run("cat ready")?.matches(": ready").count() == names.len());
    ensure!(until(PATIENCE, ready)?, "not all servers are ready");
    let program = format!("{}{}", bench.vchan_env(), bench.host.peer("vchan-client"));
    for (name, code, _) in LIES {
        let script = format!("yes | {program} {domid} data/{name} >/dev/null");
        let ended = bench.host.exec(&["sh", "-c", &script], PATIENCE);
        let ended = ended.with_context(|| format!("lie {name}"))?;
        let said = ended.stderr.clone();
        let refused = ended.expect(3).is_ok() || said.contains("(sent");
        ensure!(refused, "lie {name}: the client said {said:?}");
        // What is told from a lie by nothing is no news: a server that is gone, or busy.
        ensure!((*code == 5) == said.contains(BLAME), "lie {name}: the client said {said:?}");
    }
    for name in QUIRKS {
        let client = format!("{program} {domid} data/{name}");
        let ended = transfer_by(bench, &client, &bench.name, 300_000, "")?.wait(3 * PATIENCE);
        ended.and_then(|ended| ended.success()).with_context(|| format!("quirk {name}"))?;
    }
    Ok(())
}

/// Acts of a client after which a server in C must end the channel, and those that change nothing.
const VIOLATIONS: &[&str] =
    &["prod-beyond", "prod-far", "prod-back", "cons-ahead", "cons-back", "live"];
const NUISANCES: &[&str] = &["own", "orders", "notify", "storm"];

fn lying_clients(bench: &Bench, linux: &Linux) -> Result<()> {
    let (left, right) = RINGS[3];
    linux.run(&format!(
        "LD_LIBRARY_PATH=/usr/lib/ringside/libxenvchan vchan-echo -l {left} -r {right} \
         0 data/victim >victim 2>&1 &"
    ))?;
    let domid = &linux.domid;
    let said = |text: &str, count: usize| -> Result<()> {
        let times = || Ok(linux.run("cat victim")?.matches(text).count() >= count);
        ensure!(until(PATIENCE, times)?, "the server said:\n{}", linux.run("cat victim")?);
        Ok(())
    };
    let attack = bench.host.peer("vchan-attack");
    for (number, name) in VIOLATIONS.iter().chain(NUISANCES).enumerate() {
        said("ready", number + 1)?;
        let ended = bench.host.exec(&[&attack, domid, "data/victim", name], LONG)?.success();
        ended.with_context(|| format!("attack {name}"))?;
        said(BLAME, VIOLATIONS.len().min(number + 1)).with_context(|| format!("attack {name}"))?;
    }
    said("ready", VIOLATIONS.len() + NUISANCES.len() + 1)?;
    let client = format!("{} {domid} data/victim", bench.host.peer("vchan-client"));
    transfer_by(bench, &client, &bench.name, 300_000, "")?.wait(PATIENCE)?.success()?;
    Ok(())
}

/// The example in Python.
pub(super) fn python(bench: &Bench) -> Result<()> {
    let bench = bench.with_our_library();
    let guest = bench.guest(&[])?;
    let ask = |path: &str| {
        let python = format!("{}python3 examples/python/vchan.py", bench.vchan_env());
        format!("{python} {} {path} 'hello from Python'", guest.domid().unwrap_or_default())
    };
    let path = format!("/local/domain/{}/data/vchan", guest.domid()?);
    let answer = bench.host.shell(&ask(&path))?;
    ensure!(answer == "HELLO FROM PYTHON\n", "it printed {answer:?}");
    let missing = bench.host.exec(&["sh", "-c", &ask("/nowhere")], PATIENCE)?;
    let missing = missing.expect(1)?;
    ensure!(missing.stderr.contains("No such file"), "it said {:?}", missing.stderr);
    guest.echoes("and ours again")
}
