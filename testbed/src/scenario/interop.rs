//! Our ends of the channel against those of others, and against each other.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Bench;
use super::echo::transfer_by;
use crate::client::Process;
use crate::guest::Guest;
use crate::host::PATIENCE;

/// Bytes of the rings to the server and back: orders 10 and 11, 11 and 10, 12, 13 and 20.
pub(super) const RINGS: &[(u32, u32)] =
    &[(1024, 2048), (2048, 1024), (4096, 4096), (8192, 8192), (1 << 20, 1 << 20)];

/// Number of bytes that each client sends.
pub(super) const SENT: usize = 300_000;

/// The most time that Linux may take to boot and be done.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// The path of the channel with rings of these sizes.
pub(super) fn path((left, right): (u32, u32)) -> String {
    format!("data/{left}-{right}")
}

/// Our client for the server at `path` of the domain `domid`; its input and output come and go in
/// pieces of random sizes.
fn our_client(bench: &Bench, domid: &str, path: &str) -> String {
    format!("{} 5 out/vchan connect {domid} --path {path} --timeout 20", bench.host.peer("pieces"))
}

/// A client of ours for a server that cannot half-close: once its input has ended it leaves after
/// some silence, and says by its exit code that something might have been missing.
pub(super) fn lingering(client: &str) -> String {
    format!("{{ {client} --linger 500 || test $? = 6; }}")
}

/// Runs each client against the server at `path` of the domain `domid`.
pub(super) fn all_clients(bench: &Bench, domid: &str, path: &str) -> Result<()> {
    let c = format!("{}{}", bench.vchan_env(), bench.host.peer("vchan-client"));
    for client in [
        format!("{c} {domid} {path}"),
        format!("{c} -s 7 {domid} {path}"),
        format!("{c} -p -s 8 {domid} {path}"),
        our_client(bench, domid, path),
    ] {
        transfer_by(bench, &client, &bench.name, SENT, "")?.wait(PATIENCE)?.success()?;
    }
    Ok(())
}

pub(super) fn ring_sizes(bench: &Bench) -> Result<()> {
    for (number, &(left, right)) in RINGS.iter().enumerate() {
        let extra = format!("extra=\"vchan.left={left} vchan.right={right}\"");
        let guest = bench.other_guest(number as u32 + 1, &[&extra])?;
        all_clients(bench, &guest.domid()?, "data/vchan")
            .with_context(|| format!("rings of {left} and {right}"))?;
        bench.host.xl(&["destroy", &guest.name])?;
    }
    Ok(())
}

pub(super) fn socket_proxy(bench: &Bench) -> Result<()> {
    for (number, &(left, right)) in RINGS.iter().enumerate() {
        let extra = format!("extra=\"vchan.left={left} vchan.right={right}\"");
        let guest = bench.other_guest(number as u32 + 1, &[&extra])?;
        proxied(bench, &guest).with_context(|| format!("rings of {left} and {right}"))?;
        bench.host.xl(&["destroy", &guest.name])?;
    }
    Ok(())
}

fn proxied(bench: &Bench, guest: &Guest) -> Result<()> {
    // Once its input ends it forgets what is still on its way: so that is kept open until all has
    // come.
    let script = format!(
        "folder=/tmp/{name}; mkdir -p $folder; cd $folder; head -c {SENT} /dev/urandom >sent; \
         LC_ALL=C tr a-z A-Z <sent >wanted; mkfifo in; \
         {library}vchan-socket-proxy {domid} /local/domain/{domid}/data/vchan - <in >got & \
         exec 3>in; {pieces} 4 cat <sent >&3; until [ $(stat -c %s got) -ge {SENT} ]; do sleep 0.1; done; \
         exec 3>&-; kill $!; cmp wanted got; code=$?; rm -r $folder; exit $code",
        library = bench.vchan_env(),
        name = guest.name,
        domid = guest.domid()?,
        pieces = bench.host.peer("pieces"),
    );
    bench.host.exec(&["bash", "-c", &script], LONG)?.success()?;
    guest.says("client left")?;
    guest.echoes("after the proxy")
}

pub(super) fn linux_server(bench: &Bench) -> Result<()> {
    let plain =
        RINGS.iter().map(|&(left, right)| format!("{}:{left}:{right}", path((left, right))));
    let packets =
        RINGS.iter().map(|&(left, right)| format!("{}-p:{left}:{right}:p", path((left, right))));
    let channels = plain.chain(packets).collect::<Vec<_>>().join(",");
    let word = bench.vchan_word();
    let words = format!("role=echo-server client=0 channels={channels}{word}");
    let guest = Guest::linux(bench.host, &bench.name, &words)?;
    guest.says_times_within("vchan-echo: ready", 2 * RINGS.len(), LONG)?;
    let domid = guest.domid()?;
    for &rings in RINGS {
        for path in [path(rings), format!("{}-p", path(rings))] {
            let client = lingering(&our_client(bench, &domid, &path));
            let sent =
                transfer_by(bench, &client, &bench.name, SENT, "")?.wait(PATIENCE)?.success();
            sent.with_context(|| format!("the server at {path}"))?;
        }
    }
    Ok(())
}

pub(super) fn linux_client(bench: &Bench) -> Result<()> {
    let channels = RINGS.iter().map(|&rings| path(rings)).collect::<Vec<_>>().join(",");
    let word = bench.vchan_word();
    let words = format!("role=echo-client server=0 bytes={SENT} channels={channels}{word}");
    let guest = Guest::linux(bench.host, &bench.name, &words)?;
    let domid = guest.domid()?;
    let servers =
        RINGS.iter().map(|&rings| serve(bench, &domid, rings)).collect::<Result<Vec<_>>>()?;
    guest.says_within("linux-guest: done", LONG)?;
    let said = || servers.iter().map(|server| server.said()).collect::<String>();
    guest.says("the servers answered as they should").with_context(said)
}

/// Starts our echo server in dom0 for clients in the domain `domid`; it reads and writes pieces of
/// random sizes.
pub(super) fn serve(bench: &Bench, domid: &str, rings: (u32, u32)) -> Result<Process> {
    let (left, right) = (rings.0.to_string(), rings.1.to_string());
    let (path, capitals) = (path(rings), bench.host.peer("capitals"));
    let sizes = ["--path", &path, "--left", &left, "--right", &right, "-v"];
    bench.host.spawn(&[&["out/vchan", "exec", domid], &sizes[..], &["--", &capitals, "6"]].concat())
}

/// Words on our guest's console when it was the client and all was well.
pub(super) const ANSWERED: &str = "the server answered as it should";

/// Our guest as the client of the channel at `path` of the domain `server`.
pub(super) fn client_guest<'a>(
    bench: &Bench<'a>,
    number: u32,
    server: &str,
    path: &str,
) -> Result<Guest<'a>> {
    let extra = format!(
        "extra=\"vchan.role=client vchan.domid={server} vchan.path={path} vchan.bytes={SENT}\""
    );
    Guest::create_from(bench.host, "xl/client.xl", &format!("{}-{number}", bench.name), &[&extra])
}

pub(super) fn guest_client(bench: &Bench) -> Result<()> {
    for (number, &rings) in RINGS.iter().enumerate() {
        let guest = client_guest(bench, number as u32 + 1, "0", &path(rings))?;
        let server = serve(bench, &guest.domid()?, rings)?;
        guest
            .says(ANSWERED)
            .with_context(|| format!("rings {rings:?}: the server said\n{}", server.said()))?;
        guest.gone(PATIENCE)?;
    }
    Ok(())
}

pub(super) fn guest_to_guest(bench: &Bench) -> Result<()> {
    for (number, &(left, right)) in RINGS.iter().enumerate() {
        let number = 2 * number as u32 + 1;
        // The server must be told the number of the next domain, which is the last one's and one
        // more.
        let first = bench.other_guest(number, &["extra=\"vchan.domid=1\""])?;
        let last: u32 = first.domid()?.parse()?;
        bench.host.xl(&["destroy", &first.name])?;
        let (server, client) = ((last + 1).to_string(), last + 2);
        let extra = format!("extra=\"vchan.domid={client} vchan.left={left} vchan.right={right}\"");
        let serving = bench.other_guest(number, &[&extra])?;
        let client = client_guest(bench, number + 1, &server, "data/vchan")?;
        client.says(ANSWERED).with_context(|| format!("rings of {left} and {right}"))?;
        client.gone(PATIENCE)?;
        serving.says("client left")?;
        bench.host.xl(&["destroy", &serving.name])?;
    }
    Ok(())
}
