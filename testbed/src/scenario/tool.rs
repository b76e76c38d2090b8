//! Behaviour of `vchan` that users rely on beside its bytes: ssh through it, programs that are
//! ended, clients that follow a reboot, sockets, and failures that are told at once.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

use super::Bench;
use super::clients::PROMPT;
use super::interop::LONG;
use super::linux::Linux;
use crate::client::Process;
use crate::guest::READY;
use crate::host::{PATIENCE, until};

/// The signals of a terminal that is gone, and of a request to end.
const HUP: i32 = 1;
const TERM: i32 = 15;

/// OpenSSH in dom0, dropbear on a Linux guest's loopback, and a vchan as the network between them.
pub(super) fn ssh(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let key = bench.host.shell(
        "rm -rf /tmp/ssh && mkdir -p -m 700 /tmp/ssh && \
         ssh-keygen -q -t ed25519 -N '' -f /tmp/ssh/key && cat /tmp/ssh/key.pub",
    )?;
    linux.run(&format!(
        "echo root:x:0:0:root:/root:/bin/sh >/etc/passwd; echo root:x:0: >/etc/group\n\
         echo /bin/sh >/etc/shells; mkdir -p -m 700 /root/.ssh; chmod 700 /root\n\
         echo '{}' >/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys\n\
         dropbearkey -t ed25519 -f /root/host >/dev/null 2>&1\n\
         busybox ip link set lo up\n\
         dropbear -F -E -p 127.0.0.1:22 -r /root/host >>/tmp/dropbear 2>&1 &\n\
         vchan proxy --server --tcp 127.0.0.1:22 --port ssh 0 >>/tmp/proxy 2>&1 &",
        key.trim()
    ))?;
    bench.published(&format!("/local/domain/{}/data/vchan/0/ssh/ring-ref", linux.domid))?;
    let ssh = format!(
        "SHELL=/bin/sh ssh -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=VERBOSE -o IdentitiesOnly=yes -i /tmp/ssh/key \
         -o ProxyCommand='out/vchan connect --port ssh {}' root@guest",
        linux.domid
    );
    let script = format!(
        "cd {tree} && head -c 1048576 /dev/urandom >/tmp/ssh/sent && \
         {ssh} cat </tmp/ssh/sent >/tmp/ssh/got && cmp /tmp/ssh/sent /tmp/ssh/got",
        tree = bench.host.tree()
    );
    let log = || linux.run("cat /tmp/dropbear /tmp/proxy").unwrap_or_default();
    let whole = bench.host.exec(&["sh", "-c", &script], LONG)?.success();
    whole.with_context(|| format!("1 MiB through ssh; dropbear said:\n{}", log()))?;
    // The status of a command is that of ssh.
    let status = bench.host.exec(&["sh", "-c", &format!("{ssh} 'exit 7'")], LONG)?;
    status.expect(7).with_context(log)?;
    bench.host.shell("rm -r /tmp/ssh")?;
    Ok(())
}

/// The programs of `exec` and all that they have started end with their clients: at the end of
/// input, by SIGTERM, or after `--grace` by SIGKILL.
pub(super) fn programs_end(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    for (port, command) in [
        ("term", "sh -c 'kill -TERM $$'"),
        ("group", "sh -c 'sleep 1001 & echo started; wait'"),
        ("stubborn", "sh -c 'trap \"\" TERM; echo started; while :; do sleep 1; done'"),
    ] {
        linux.run(&format!("vchan exec --port {port} --grace 2 0 -- {command} >servers 2>&1 &"))?;
        bench.published(&format!("/local/domain/{}/data/vchan/0/{port}/ring-ref", linux.domid))?;
    }
    let client =
        |port: &str| bench.host.spawn(&["out/vchan", "connect", "--port", port, &linux.domid]);
    let term = client("term")?;
    term.wait(PATIENCE)?.expect(128 + TERM)?;
    let gone = |words: &str| -> Result<()> {
        let running =
            || linux.run(&format!("ps | grep '{words}' | grep -v -e grep -e vchan || true"));
        let ended = until(PROMPT, || Ok(running()?.is_empty()))?;
        ensure!(ended, "still running:\n{}", running()?);
        Ok(())
    };
    // A client that was killed is cut off: TERM for the whole group at once.
    let cut_off = client("group")?;
    cut_off.wait_for("started\n", PATIENCE)?;
    cut_off.signal(super::clients::KILL)?;
    gone("sleep 1001")?;
    // So is one that a signal ends; what withstands TERM gets KILL after the grace.
    let begun = Instant::now();
    let stubborn = client("stubborn")?;
    stubborn.wait_for("started\n", PATIENCE)?;
    stubborn.signal(HUP)?;
    stubborn.wait(PROMPT)?.expect(128 + HUP)?;
    gone("trap")?;
    ensure!(begun.elapsed() >= Duration::from_secs(2), "--grace was not given");
    Ok(())
}

/// A client with `--reconnect` follows its server through a reboot, and past a checkpoint, a save
/// and a restore.
pub(super) fn reconnect(bench: &Bench) -> Result<()> {
    let kernel = format!("kernel=\"{}/out/ringside.elf\"", bench.host.tree());
    let guest = bench.guest(&[&kernel])?;
    let client = bench.host.spawn(&["out/vchan", "connect", &guest.name, "--reconnect"])?;
    let answers = |text: &str| -> Result<()> {
        client.write(format!("{text}\n").as_bytes())?;
        client.wait_for(&format!("{}\n", text.to_uppercase()), PATIENCE)
    };
    let again = |times: usize| -> Result<()> {
        let connected = || Ok(client.said().matches("Connected again to domain").count() == times);
        ensure!(until(PATIENCE, connected)?, "the client said:\n{}", client.said());
        Ok(())
    };
    answers("before")?;
    bench.host.xl(&["reboot", &guest.name])?;
    guest.says_times(READY, 2)?;
    again(1)?;
    answers("after the reboot")?;
    let file = format!("/tmp/{}.save", guest.name);
    let transfer = |arguments: &[&str]| -> Result<()> {
        let words = [&["xl"], arguments].concat();
        bench.host.exec(&words, Duration::from_secs(120))?.success().map(drop)
    };
    transfer(&["save", "-c", &guest.name, &file])?;
    answers("after the checkpoint")?;
    transfer(&["save", &guest.name, &file])?;
    // What is typed meanwhile waits.
    client.write(b"while it is away\n")?;
    transfer(&["restore", &file])?;
    again(2)?;
    client.wait_for("WHILE IT IS AWAY\n", PATIENCE)?;
    client.close_stdin()?;
    client.wait(PATIENCE)?.expect(0)?;
    bench.host.shell(&format!("rm {file}"))?;
    Ok(())
}

/// The socket of `proxy`: its mode and owner, one server of many that start over a dead one, and
/// what a signal leaves behind.
pub(super) fn sockets(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let (domid, socket) = (guest.domid()?, format!("/tmp/{}.sock", bench.name));
    let arguments = ["proxy", &domid, "--unix", &socket, "--mode", "620", "--owner", "root:0"]
        .map(String::from);
    let start = || -> Result<Process> {
        let words: Vec<&str> =
            ["out/vchan"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        bench.host.spawn(&words)
    };
    let killed = start()?;
    killed.wait_for("Listening on", PATIENCE)?;
    killed.signal(super::clients::KILL)?;
    killed.wait(PATIENCE)?;
    bench.host.shell(&format!("test -S {socket}"))?;
    let servers = (0..4).map(|_| start()).collect::<Result<Vec<_>>>()?;
    let listening = |process: &Process| process.said().contains("Listening on");
    let refused = |process: &Process| process.said().contains("another server is listening");
    let decided = || Ok(servers.iter().all(|server| listening(server) || refused(server)));
    ensure!(until(PATIENCE, decided)?, "four servers did not decide which one listens");
    let (won, lost): (Vec<_>, Vec<_>) = servers.into_iter().partition(listening);
    ensure!(won.len() == 1, "{} servers listen", won.len());
    for server in lost {
        server.wait(PATIENCE)?.expect(1)?;
    }
    let made = bench.host.shell(&format!("stat -c '%a %u %g' {socket}"))?;
    ensure!(made == "620 0 0\n", "the socket is {made}");
    let local = [&bench.host.peer("local-client"), "unix", &socket, "20000", "1"];
    bench.host.exec(&local, PATIENCE)?.success()?;
    for server in won {
        server.signal(HUP)?;
        server.wait(PROMPT)?.expect(128 + HUP)?;
    }
    bench.host.shell(&format!("test ! -e {socket} && test ! -e {socket}.lock"))?;
    // Servers of vchans remove their keys by the same signal.
    for (path, command) in [("data/hup1", "listen"), ("data/hup2", "exec"), ("data/hup3", "proxy")]
    {
        let rest: &[&str] = match command {
            "listen" => &[],
            "exec" => &["--", "cat"],
            _ => &["--server", "--unix", "/tmp/nowhere"],
        };
        let words = [&["out/vchan", command, &domid, "--path", path], rest].concat();
        let server = bench.host.spawn(&words)?;
        let key = format!("/local/domain/0/{path}/ring-ref");
        bench.published(&key)?;
        server.signal(HUP)?;
        server.wait(PROMPT)?.expect(128 + HUP)?;
        bench.host.shell(&format!("! xenstore-exists {key}"))?;
    }
    Ok(())
}

/// A failure in the own domain is told at once, with its cure, and not waited out as a server that
/// does not come.
pub(super) fn local_failures(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let guest = bench.other_guest(2, &[&format!("extra=\"vchan.domid={}\"", linux.domid)])?;
    let domid = guest.domid()?;
    let limit = "/sys/module/xen_gntalloc/parameters/limit";
    let connect = format!("vchan connect {domid} --timeout 60");
    let fails = |prepare: &str, command: &str, cure: &str, restore: &str| -> Result<()> {
        let begun = Instant::now();
        let said = linux.run(&format!(
            "{prepare}\ncode=0; {command} </dev/null 2>&1 || code=$?\n{restore}\necho ended with $code"
        ))?;
        ensure!(said.contains(cure) && said.contains("ended with 1"), "{command} said:\n{said}");
        ensure!(begun.elapsed() < Duration::from_secs(30), "{command} waited");
        Ok(())
    };
    // With any number of descriptors it works, or says that they are too few.
    let said = linux.run(&format!(
        "for count in $(seq 4 20); do code=0\n\
         said=$(sh -c \"ulimit -n $count; exec {connect}\" </dev/null 2>&1) || code=$?\n\
         case \"$code $said\" in 0*) ;; 1*\"ulimit -n\"*) echo limited ;; \
         *) echo \"$count: $code $said\"; exit 1 ;; esac\ndone"
    ))?;
    ensure!(said.contains("limited"), "no limit was too low");
    fails(
        &format!("before=$(cat {limit}); echo 1 >{limit}"),
        "vchan listen 0 --path data/limit --timeout 60",
        limit,
        &format!("echo $before >{limit}"),
    )?;
    fails(
        "mv /dev/xen/gntdev /dev/xen/away",
        &connect,
        "modprobe xen-gntdev",
        "mv /dev/xen/away /dev/xen/gntdev",
    )?;
    linux.run(&format!("echo still there | vchan connect {domid} | grep 'STILL THERE'"))?;
    Ok(())
}

/// vchan-socket-proxy as a server that uses one page for client after client: ten of ours.
pub(super) fn socket_proxy_serves(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    let socket = format!("/tmp/{}", bench.name);
    let echo = bench.host.spawn(&[&bench.host.peer("local-client"), "server", &socket])?;
    echo.wait_for("serving", PATIENCE)?;
    let path = "/local/domain/0/data/socket-proxy";
    // exec, so that signals reach it.
    let proxy = bench.shell(&format!(
        "exec {}vchan-socket-proxy -m server {} {path} {socket}",
        bench.vchan_env(),
        linux.domid
    ))?;
    bench.published(&format!("{path}/ring-ref"))?;
    // It cannot half-close: the client leaves after some silence, with 6.
    let said = linux
        .run(
            "for number in 1 2 3 4 5 6 7 8 9 10; do\n\
             code=0; echo session $number | vchan connect 0 --path data/socket-proxy --timeout 30 \
             --linger 500 || code=$?; test $code = 6\ndone",
        )
        .with_context(|| format!("the proxy said:\n{}", proxy.said()))?;
    let expected: String = (1..=10).map(|number| format!("SESSION {number}\n")).collect();
    let answers: String = said
        .lines()
        .filter(|line| line.starts_with("SESSION"))
        .map(|line| format!("{line}\n"))
        .collect();
    ensure!(answers == expected, "ten sessions said:\n{said}");
    proxy.signal(TERM)?;
    echo.signal(TERM)?;
    bench.host.shell(&format!("rm -f {socket}; xenstore-rm {path}"))?;
    Ok(())
}
