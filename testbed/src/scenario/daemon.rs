//! `vchan serve`: services of dom0 for domains that come and go.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::PROMPT;
use super::interop::{ANSWERED, client_guest};
use super::linux::Linux;
use crate::host::PATIENCE;

/// The signals that have the configuration read again, and that end the daemon.
const HUP: i32 = 1;
const TERM: i32 = 15;

/// Services by command, on a terminal, by unix socket and by TCP; one for another domain.
fn config(name: &str, others: &str, refused: &str) -> String {
    format!(
        r#"
[service.peer]
command = ["sh", "-c", "echo $VCHAN_PEER_NAME $VCHAN_PORT; cat"]
domains = ["{name}"]
[service.terminal]
command = ["tty"]
pty = true
domains = "all"
[service.socket]
unix = "/tmp/serve.sock"
domains = ["{others}", "{name}"]
[service.port]
tcp = "127.0.0.1:7014"
domains = "all"
left = "64K"
[service.refused]
command = ["echo", "let in"]
domains = ["{refused}"]
"#
    )
}

/// Each service reaches the domains that it is for; a reload changes what changed and nothing else;
/// a domain that comes later is served; at the end all keys are gone.
pub(super) fn services(bench: &Bench) -> Result<()> {
    let host = bench.host;
    host.shell("ip link set lo up")?;
    let _local = ["/tmp/serve.sock", "7014"]
        .map(|place| host.spawn(&[&host.peer("local-client"), "server", place]))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    // A server of another scenario that was killed has left its keys.
    let keys =
        || host.shell("xenstore-ls -f /local/domain/0/data 2>/dev/null | grep ring-ref; true");
    let before = keys()?;
    let linux = Linux::boot(bench)?;
    let later = format!("{}-1", bench.name);
    let write = |text: &str| host.shell(&format!("cat >/tmp/serve.toml <<'EOF'\n{text}EOF"));
    write(&config(&bench.name, &later, "none-such"))?;
    let daemon = host.spawn(&["out/vchan", "serve", "--config", "/tmp/serve.toml"])?;
    daemon.wait_for("Serving peer, port, refused, socket, terminal\n", PATIENCE)?;
    let said = || format!("the daemon said:\n{}", daemon.said());
    let asks = |service: &str, input: &str, answer: &str| -> Result<()> {
        let got = linux
            .run(&format!("printf '{input}' | vchan connect 0 {service} --timeout 20 --linger 900"))
            .with_context(said)?;
        ensure!(got.replace('\r', "").starts_with(answer), "{service} said {got:?}; {}", said());
        Ok(())
    };
    asks("peer", "hello", &format!("{} peer\nhello", bench.name))?;
    asks("terminal", "", "/dev/pts/")?;
    asks("socket", "unix", "UNIX")?;
    asks("port", "tcp", "TCP")?;
    linux
        .run("code=0; vchan connect 0 refused --timeout 2 </dev/null || code=$?; test $code = 3")?;

    let stays = linux.start("(echo before; sleep 20; echo after) | vchan connect 0 peer")?;
    stays.wait_for("before\n", PATIENCE)?;
    write("[service")?;
    daemon.signal(HUP)?;
    daemon.wait_for("the services stay as they were\n", PROMPT)?;
    write(&config(&bench.name, &later, &bench.name))?;
    daemon.signal(HUP)?;
    asks("refused", "", "let in\n")?;
    stays.wait_for("after\n", PATIENCE).context("a reload ended a client of another service")?;
    stays.wait(PATIENCE)?.success()?;

    // A domain that comes later, and leaves.
    let next: u32 = linux.domid.parse::<u32>()? + 1;
    let guest = client_guest(bench, 1, "0", &format!("data/vchan/{next}/socket"))?;
    guest.says(ANSWERED).with_context(said)?;
    guest.gone(PATIENCE)?;
    daemon.signal(TERM)?;
    daemon.wait(PROMPT)?.expect(128 + TERM)?;
    let after = keys()?;
    ensure!(after == before, "before, xenstore had:\n{before}afterwards:\n{after}");
    host.shell("rm -f /tmp/serve.toml /tmp/serve.sock").map(drop)
}
