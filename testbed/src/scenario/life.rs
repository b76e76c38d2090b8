//! Rest and end of a guest: on request, by its own fault, or not at all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::clients::{PROMPT, attached};
use crate::guest::Guest;
use crate::host::PATIENCE;
use crate::wire::Status;

/// The most time after which a guest follows a request.
const SOON: Duration = Duration::from_secs(20);

/// The most CPU time that an idle guest may use in [`WATCHED`] seconds.
const IDLE_LIMIT: Duration = Duration::from_millis(2);
const WATCHED: u32 = 10;

pub(super) fn shutdown(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    let client = attached(&guest)?;
    let begun = Instant::now();
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    ensure!(begun.elapsed() < SOON, "xl shutdown -w took {:?}", begun.elapsed());
    // The guest closes its channels before it ends.
    client.wait(SOON)?.expect(0)?;
    guest.gone(SOON)?;

    // Kept after its end, so that one sees what it took away itself.
    let guest = bench.other_guest(2, &["on_poweroff=\"preserve\""])?;
    let keys = format!("/local/domain/{}/data/vchan", guest.domid()?);
    bench.host.shell(&format!("xenstore-read {keys}/ring-ref {keys}/event-channel"))?;
    bench.host.xl(&["shutdown", "-w", &guest.name])?;
    let left = bench.host.shell(&format!("xenstore-ls {keys} 2>&1; true"))?;
    ensure!(
        !left.contains("ring-ref") && !left.contains("event-channel"),
        "it left its keys behind:\n{left}"
    );
    ensure!(!guest.state()?.contains('c'), "it crashed instead of shutting down");
    Ok(())
}

pub(super) fn reboot(bench: &Bench) -> Result<()> {
    // xl stays behind to start it again, in another folder than it was called in.
    let kernel = format!("kernel=\"{}/out/ringside.elf\"", bench.host.tree());
    let guest = bench.guest(&[&kernel])?;
    guest.echoes("before the reboot")?;
    let before = guest.domid()?;
    bench.host.xl(&["reboot", &guest.name])?;
    guest.says_times(crate::guest::READY, 2)?;
    ensure!(guest.domid()? != before, "it has the same domain id as before");
    guest.echoes("after the reboot")
}

pub(super) fn panic(bench: &Bench) -> Result<()> {
    crash(bench, "panic")
}

/// The guest's console has a command to crash, so that a client can be there.
pub(super) fn panic_attached(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&["on_crash=\"preserve\""])?;
    let client = attached(&guest)?;
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    console.write(b"crash\r")?;
    guest.says("PANIC")?;
    let finished = client.wait(PROMPT)?;
    ensure!(
        matches!(finished.status, Status::Code(0 | 4)),
        "the client ended with {} instead of 0 or 4: {}",
        finished.status,
        finished.stderr.trim()
    );
    guest.crashed()
}

pub(super) fn fault(bench: &Bench) -> Result<()> {
    crash(bench, "fault")
}

pub(super) fn stack(bench: &Bench) -> Result<()> {
    crash(bench, "stack")
}

fn crash(bench: &Bench, kind: &str) -> Result<()> {
    let extra = format!("extra=\"crash={kind}\"");
    let guest = Guest::create(bench.host, &bench.name, &[&extra, "on_crash=\"preserve\""])?;
    guest.crashed()?;
    let console = guest.console();
    for word in ["PANIC", "rip", "rsp", "backtrace:"] {
        ensure!(
            console.to_lowercase().contains(&word.to_lowercase()),
            "the console has no {word}:\n{console}"
        );
    }
    // What xl was told to do on a crash, it does: by default the domain goes.
    let guest = Guest::create(bench.host, &format!("{}-2", bench.name), &[&extra])?;
    guest.says("PANIC")?;
    guest.gone(PATIENCE)
}

pub(super) fn idle(bench: &Bench) -> Result<()> {
    let guest = bench.guest(&[])?;
    guest.echoes("now rest")?;
    // What is left to do for the client that left, and for the next one, is not idling.
    guest.says("client left")?;
    let domid = guest.domid()?;
    let watch = |seconds: u32| {
        let watch = format!("{} {domid} {seconds}", bench.host.peer("cpu-time"));
        let used = bench.host.shell(&watch)?;
        let nanos = used.trim().parse();
        nanos.map(Duration::from_nanos).with_context(|| format!("peers/cpu-time said {used:?}"))
    };
    let settling = watch(1)?;
    let used = watch(WATCHED)?;
    println!("      idle: {settling:?} of CPU time in the first second, then {used:?}");
    ensure!(used <= IDLE_LIMIT, "the idle guest used {used:?} of CPU time in {WATCHED} s");
    guest.echoes("awake again")
}
