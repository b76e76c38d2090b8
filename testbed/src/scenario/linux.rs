//! Our tool inside a Linux guest, in both roles; and such a guest as a place to run programs in.

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::{KILL, PROMPT, stream};
use super::interop::{
    ANSWERED, LONG, RINGS, SENT, all_clients, client_guest, lingering, path, serve,
};
use crate::client::Process;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// The rings that are tried: the smallest, and those of old.
const TRIED: [(u32, u32); 2] = [RINGS[0], RINGS[3]];

/// A Linux guest that runs what it is told to, through a vchan of our own tool.
pub(super) struct Linux<'a> {
    bench: &'a Bench<'a>,
    pub domid: String,
}

impl<'a> Linux<'a> {
    /// Boots it.
    pub fn boot(bench: &'a Bench<'a>) -> Result<Linux<'a>> {
        Linux::boot_with(bench, &[])
    }

    /// The same with more settings for `xl create`.
    pub fn boot_with(bench: &'a Bench<'a>, settings: &[&str]) -> Result<Linux<'a>> {
        let guest = Guest::linux_with(bench.host, &bench.name, "role=shell", settings)?;
        guest.says_within("linux-guest: ready", LONG)?;
        Ok(Linux { bench, domid: guest.domid()? })
    }

    /// Starts a shell script there.
    pub fn start(&self, script: &str) -> Result<Process> {
        let shell = [
            "out/vchan",
            "connect",
            &self.domid,
            "--port",
            "sh",
            "--timeout",
            "30",
            "--linger",
            "300000",
        ];
        let process = self.bench.host.spawn(&shell)?;
        process.write(
            format!("cd /tmp\n( set -e\n{script}\n) && echo went-well\nexit\n").as_bytes(),
        )?;
        process.close_stdin()?;
        Ok(process)
    }

    /// Copies a program of `out/` to it.
    pub fn install(&self, program: &str) -> Result<()> {
        let path = format!("data/{program}");
        let listener = self.start(&format!(
            "vchan listen 0 --path {path} --timeout 30 </dev/null >/usr/bin/{program}; chmod 755 /usr/bin/{program}"
        ))?;
        self.bench.host.shell(&format!(
            "out/vchan connect {} --path {path} --timeout 30 <out/{program} >/dev/null",
            self.domid
        ))?;
        listener.wait(PATIENCE)?.success().map(drop)
    }

    /// Runs a shell script there, of which every command must succeed; returns what it printed. It
    /// lasts until nothing holds the script's output any more: programs in the background need
    /// another.
    pub fn run(&self, script: &str) -> Result<String> {
        let said = self.start(script)?.wait(PATIENCE)?.success()?;
        let output = said.strip_suffix("went-well\n");
        Ok(output
            .with_context(|| format!("in the Linux guest:\n{script}\nfailed and said:\n{said}"))?
            .to_string())
    }
}

pub(super) fn tool(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    servers(bench, &linux).context("servers in the Linux guest")?;
    many_clients(bench, &linux).context("many clients of one server")?;
    clients(bench, &linux).context("clients in the Linux guest")?;
    our_guest(bench, &linux).context("our guest and the Linux guest")?;
    refusals(&linux).context("what a guest may not do")
}

/// Our server there, our client and a C client here.
fn servers(bench: &Bench, linux: &Linux) -> Result<()> {
    let command = |&(left, right): &(u32, u32)| {
        format!(
            "vchan exec 0 --path {} --left {left} --right {right} -- capitals >>servers 2>&1 &\n",
            path((left, right))
        )
    };
    linux.run(&TRIED.iter().map(command).collect::<String>())?;
    for (left, right) in TRIED {
        let key = format!("/local/domain/{}/{}/ring-ref", linux.domid, path((left, right)));
        bench.published(&key)?;
    }
    for rings in TRIED {
        all_clients(bench, &linux.domid, &path(rings))
            .with_context(|| format!("rings {rings:?}"))?;
    }
    let _listening = linux
        .start("vchan listen 0 --path data/listen --timeout 30 >heard </dev/null && cat heard")?;
    bench
        .host
        .shell(&format!("echo one line | out/vchan connect {} --path data/listen", linux.domid))?;
    _listening.wait_for("one line\n", PATIENCE)
}

/// Each client of `vchan exec` has a program of its own, and one that is killed disturbs no other.
fn many_clients(bench: &Bench, linux: &Linux) -> Result<()> {
    linux.run(
        "ln -s /usr/bin/capitals letters; vchan exec 0 --path data/many -- ./letters >many 2>&1 &",
    )?;
    let client = ["out/vchan", "connect", &linux.domid, "--path", "data/many", "--timeout", "20"];
    let stays = (0..3).map(|_| bench.host.spawn(&client)).collect::<Result<Vec<_>>>()?;
    let answer = |process: &Process, text: &str| {
        process.write(text.as_bytes())?;
        process.wait_for(&text.to_uppercase(), PATIENCE)
    };
    let programs = |count: usize| -> Result<()> {
        let counted =
            || Ok(linux.run("pidof letters || true")?.split_whitespace().count() == count);
        ensure!(until(PROMPT, counted)?, "there are not {count} programs for as many clients");
        Ok(())
    };
    for (number, process) in stays.iter().enumerate() {
        answer(process, &format!("client {number}\n"))?;
    }
    let doomed = stream(bench, &client.join(" "))?;
    programs(stays.len() + 1)?;
    doomed.signal(KILL)?;
    programs(stays.len())?;
    for process in &stays {
        answer(process, "still here\n")?;
        process.close_stdin()?;
    }
    for process in stays {
        process.wait(PATIENCE)?.success()?;
    }
    programs(0)
}

/// Our client there; our server and a C server here, and our guest.
fn clients(bench: &Bench, linux: &Linux) -> Result<()> {
    let domid = &linux.domid;
    let _ours =
        TRIED.iter().map(|&rings| serve(bench, domid, rings)).collect::<Result<Vec<_>>>()?;
    let theirs = |&(left, right): &(u32, u32)| {
        let (left_text, right_text) = (left.to_string(), right.to_string());
        let path = format!("/local/domain/0/{}-c", path((left, right)));
        bench.host.spawn(&[
            &bench.host.peer("vchan-echo"),
            "-l",
            &left_text,
            "-r",
            &right_text,
            domid,
            &path,
        ])
    };
    let _theirs = TRIED.iter().map(theirs).collect::<Result<Vec<_>>>()?;
    let guest = bench.other_guest(2, &[&format!("extra=\"vchan.domid={domid}\"")])?;

    let connect = |server: String| format!("vchan connect {server} --timeout 30");
    let ours = TRIED.iter().map(|&rings| connect(format!("0 --path {}", path(rings))));
    let ours = ours.chain([connect(guest.domid()?)]);
    let theirs = TRIED.iter().map(|&rings| connect(format!("0 --path {}-c", path(rings))));
    let clients = ours.chain(theirs.map(|client| lingering(&client)));
    let attempt = |client: String| format!("{client} <sent >got; cmp wanted got\n");
    let prepare = format!("head -c {SENT} /dev/urandom >sent; tr a-z A-Z <sent >wanted\n");
    linux.run(&(prepare + &clients.map(attempt).collect::<String>()))?;
    Ok(())
}

/// Neither end is in dom0: our guest as the client of our server and of a C server there, and as
/// the server of C clients.
fn our_guest(bench: &Bench, linux: &Linux) -> Result<()> {
    for (number, command) in [
        (3, "vchan exec %d --path data/from-guest -- capitals"),
        (4, "vchan-echo -s 3 %d data/from-guest"),
    ] {
        let guest = client_guest(bench, number, &linux.domid, "data/from-guest")?;
        let command = command.replace("%d", &guest.domid()?);
        linux.run(&format!("{command} >server 2>&1 & echo $! >pid"))?;
        guest.says(ANSWERED).with_context(|| format!("the server was {command}"))?;
        guest.gone(PATIENCE)?;
        linux.run("kill $(cat pid) 2>/dev/null || true")?;
    }
    let guest = bench.other_guest(5, &[&format!("extra=\"vchan.domid={}\"", linux.domid)])?;
    let domid = guest.domid()?;
    for options in ["-s 4", "-p -s 5"] {
        linux.run(&format!(
            "vchan-client {options} {domid} data/vchan <sent >got && cmp wanted got"
        ))?;
    }
    Ok(())
}

/// Commands that only dom0 may run say so there, and a missing server is missed in time.
fn refusals(linux: &Linux) -> Result<()> {
    for (command, code, words) in [
        ("vchan connect Domain-0 </dev/null", 2, "give its number"),
        (
            "vchan connect 0 --path data/nothing --timeout 1 </dev/null",
            3,
            "/local/domain/0/data/nothing",
        ),
        ("vchan ls", 2, "run this there"),
    ] {
        let said = linux.run(&format!("{command} && code=0 || code=$?; echo ended with $code"))?;
        ensure!(
            said.contains(words) && said.ends_with(&format!("ended with {code}\n")),
            "{command} said:\n{said}"
        );
    }
    Ok(())
}

/// The tool there notices that the other domain is destroyed, of which nobody tells a guest.
pub(super) fn peer_destroyed(bench: &Bench) -> Result<()> {
    let linux = Linux::boot(bench)?;
    client_of_destroyed(bench, &linux, 2).context("a client of the destroyed domain")?;
    server_of_destroyed(bench, &linux).context("a server of the destroyed domain")?;
    // Now it may ask Xen, which kernels of today do not let a guest's programs do by themselves.
    linux.run("modprobe xen_privcmd unrestricted=1 && test -c /dev/xen/privcmd")?;
    client_of_destroyed(bench, &linux, 4).context("a client that may make hypercalls")
}

/// Runs `command` there, with an input of one line that never ends; the exit code stands at the end
/// of what it says.
fn start_open_ended(linux: &Linux, line: &str, command: &str) -> Result<Process> {
    // A program that opens a pipe both ways never sees its end.
    let pipe = format!("rm -f open; mkfifo open; exec 3<>open; printf '{line}' >&3");
    linux.start(&format!("{pipe}\ncode=0; {command} <&3 || code=$?; echo ended with $code"))
}

fn client_of_destroyed(bench: &Bench, linux: &Linux, number: u32) -> Result<()> {
    let guest = bench.other_guest(number, &[&format!("extra=\"vchan.domid={}\"", linux.domid)])?;
    let client =
        start_open_ended(linux, "attached\\n", &format!("vchan connect {} 2>&1", guest.domid()?))?;
    client.wait_for("ATTACHED\n", PATIENCE)?;
    died(bench, &client, &guest)
}

fn server_of_destroyed(bench: &Bench, linux: &Linux) -> Result<()> {
    let guest = client_guest(bench, 3, &linux.domid, "data/mute")?;
    let listen = format!("vchan listen {} -v --path data/mute 2>&1 >/dev/null", guest.domid()?);
    let server = start_open_ended(linux, "", &listen)?;
    server.wait_for("A client of domain", PATIENCE)?;
    died(bench, &server, &guest)
}

/// Destroys the guest; the program in Linux says so and ends soon with the code for that, and lets
/// all of the guest go.
fn died(bench: &Bench, program: &Process, guest: &Guest) -> Result<()> {
    let says = format!("domain {}, died", guest.domid()?);
    bench.host.xl(&["destroy", &guest.name])?;
    program.wait_for("ended with 4\n", PROMPT)?;
    ensure!(program.said().contains(&says), "it said {:?}, without {says:?}", program.said());
    let buried = until(PROMPT, || Ok(!bench.host.xl(&["list"])?.contains("(null)")))?;
    ensure!(buried, "the destroyed domain is still there:\n{}", bench.host.xl(&["list"])?);
    Ok(())
}
