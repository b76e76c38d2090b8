//! `vchan exec` and `vchan connect` between dom0 and a Linux guest: what a command learns of its
//! client, and terminals.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::linux::Linux;
use crate::host::PATIENCE;

/// A command that prints what `exec` told it of its client, one line for each variable.
const PRINTS: &str = "sh -c 'for name in DOMID NAME; do eval echo \\${VCHAN_PEER_$name-unset}; done; \
                      echo ${VCHAN_PATH-unset}; echo ${VCHAN_PORT-unset}'";

/// A command in dom0 learns the guest's number, name and service; one in the guest has no name to
/// learn. The services are named behind the domain by one end, and by `--port` by the other.
pub(super) fn identity(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let domid = &linux.domid;
    let dom0 = bench.shell(&format!("out/vchan exec {} peer -- {PRINTS}", bench.name))?;
    bench.published(&format!("/local/domain/0/data/vchan/{domid}/peer/ring-ref"))?;
    let said = linux.run("vchan connect 0 --port peer </dev/null")?;
    let expected = format!("{domid}\n{}\ndata/vchan/{domid}/peer\npeer\n", bench.name);
    ensure!(said == expected, "the command in dom0 said:\n{said}exec said:\n{}", dom0.said());

    linux.run(&format!("VCHAN_PEER_NAME=old vchan exec 0 --port peer -- {PRINTS} >peer 2>&1 &"))?;
    bench.published(&format!("/local/domain/{domid}/data/vchan/0/peer/ring-ref"))?;
    let connect = ["out/vchan", "connect", domid, "peer"];
    let client = bench.host.spawn(&connect)?;
    client.close_stdin()?;
    let said = client.wait(PATIENCE)?.success()?;
    ensure!(
        said == "0\nunset\ndata/vchan/0/peer\npeer\n",
        "the command in the guest said:\n{said}"
    );
    Ok(())
}

/// Makes pseudo terminals possible in the Linux guest.
const DEVPTS: &str = "mkdir -p /dev/pts; mount -t devpts devpts /dev/pts";

/// A script for a terminal in dom0: a user of the guest's shell, whose window grows meanwhile. It
/// says how the client ended, and whether the terminal is as it was.
const USER: &str = r#"
stty rows 33 cols 77; before=$(stty -g)
{ until test -e /tmp/exec-pty.grow; do sleep 0.2; done; stty rows 40 cols 100; } </dev/tty &
out/vchan connect --raw $1 shell
echo client ended with $?
test "$(stty -g)" = "$before" && echo restored at its end
out/vchan connect --raw $1 shell </dev/tty &
until test -e /tmp/exec-pty.kill; do sleep 0.2; done
kill -TERM $!; wait $!
echo client ended with $?
test "$(stty -g)" = "$before" && echo restored by SIGTERM
rm /tmp/exec-pty.grow /tmp/exec-pty.kill"#;

/// The keys of that user, typed in the guest, and what must be shown for them.
const KEYS: &str = r#"
see() {
    for n in $(seq 150); do grep -q "$1" shown && return; sleep 0.2; done
    echo "not shown: $1"; cat shown; return 1
}
mkfifo keys; vchan connect 0 user <keys >shown & exec 3>keys
echo 'stty size; echo on $(tty); cat' >&3; see '^33 77'; see '^on /dev/pts/'
printf 'line\n\003' >&3; echo 'echo now $((40 + 2))' >&3; see '^now 42'
echo waits for the window
for n in $(seq 100); do
    echo 'stty size' >&3; sleep 0.2
    if grep -q '^40 100' shown; then break; fi
done
see '^40 100'; echo 'exit 5' >&3; see 'ended with 5'; see 'restored at its end'
echo 'echo again $((40 + 2))' >&3; see '^again 42'
echo waits for the signal
see 'ended with 143'; see 'restored by SIGTERM'"#;

/// A shell on a terminal in the guest, used from a terminal in dom0. That one is itself of
/// `exec --pty`, so that its keys can be typed in the guest.
pub(super) fn terminals(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let domid = &linux.domid;
    linux.run(&format!("{DEVPTS}; vchan exec 0 shell --pty -- sh >shell 2>&1 &"))?;
    bench.published(&format!("/local/domain/{domid}/data/vchan/0/shell/ring-ref"))?;
    bench.host.shell(&format!("cat >/tmp/exec-pty <<'EOF'\n{USER}\nEOF"))?;
    let exec = format!("out/vchan exec {domid} user --pty --once -- sh /tmp/exec-pty {domid}");
    let server = bench.shell(&exec)?;
    bench.published(&format!("/local/domain/0/data/vchan/{domid}/user/ring-ref"))?;
    let user = linux.start(KEYS)?;
    let said = || format!("the user's server said:\n{}", server.said());
    for (text, file) in [("window", "grow"), ("signal", "kill")] {
        user.wait_for(&format!("waits for the {text}\n"), PATIENCE).with_context(said)?;
        bench.host.shell(&format!("touch /tmp/exec-pty.{file}"))?;
    }
    let ended = user.wait(PATIENCE)?.success()?;
    ensure!(ended.ends_with("went-well\n"), "the user said:\n{ended}{}", said());
    server.wait(PATIENCE)?.expect(0)?;
    bench.host.shell("rm /tmp/exec-pty").map(drop)
}
