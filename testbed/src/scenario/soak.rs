//! A guest under load, to which its host does all that hosts do, in random order.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

use super::clients::{InUse, KILL, PROMPT, in_use, stream};
use super::disks::plain;
use super::suspend::transfer;
use super::{Bench, echo};
use crate::disk::Disk;
use crate::guest::Guest;
use crate::host::{PATIENCE, until};

/// Bytes that go through the guest in each round, beside the host's action.
const SENT: usize = 1 << 20;

/// Random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Ten rounds.
pub(super) fn short(bench: &Bench) -> Result<()> {
    soak(bench, 10)
}

/// A hundred.
pub(super) fn long(bench: &Bench) -> Result<()> {
    soak(bench, 100)
}

/// The seed of this run: `RINGSIDE_SEED`, or the time.
fn seed() -> u64 {
    let given = std::env::var("RINGSIDE_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    given.unwrap_or_else(now).max(1)
}

fn soak(bench: &Bench, rounds: u32) -> Result<()> {
    let seed = seed();
    println!("      {}: RINGSIDE_SEED={seed}", bench.name);
    let disk = bench.disk("a", plain(16))?;
    let guest = bench.guest(&["memory=32", "maxmem=48", "shadow_memory=2"])?;
    let console = bench.host.spawn_on_terminal(&["xl", "console", &guest.name])?;
    let mut random = Random(seed);
    let mut counts = Counts::default();
    let mut before: Option<InUse> = None;
    for round in 1..=rounds {
        let sending = echo::transfer(bench, &guest, SENT, "")?;
        let what = act(bench, &guest, &disk, &mut random, &mut counts)
            .with_context(|| format!("seed {seed}, round {round}"))?;
        let told = || format!("seed {seed}, round {round}, {what}:\n{}", guest.console());
        sending.wait(PATIENCE * 2).and_then(|done| done.success()).with_context(told)?;
        ensure!(!guest.console().contains("PANIC"), "it panicked: {}", told());
        // What the first actions leave, such as a table that has grown, may stay.
        if round == rounds.min(8) {
            before = Some(in_use(bench, &guest, &console)?);
        }
    }
    let before = before.context("there was no round")?;
    let same = || Ok(in_use(bench, &guest, &console)?.rest == before.rest);
    ensure!(
        until(PROMPT, same)?,
        "seed {seed}: before {before:?}, after {:?}",
        in_use(bench, &guest, &console)?
    );
    guest.echoes("and one more")?;
    disk.remove()
}

/// Counts of lines that the console must have shown.
#[derive(Default)]
struct Counts {
    disks: usize,
    saves: usize,
}

/// Does one thing to the guest, and names it.
fn act(
    bench: &Bench,
    guest: &Guest,
    disk: &Disk,
    random: &mut Random,
    counts: &mut Counts,
) -> Result<&'static str> {
    let (host, domid) = (bench.host, guest.domid()?);
    match random.below(6) {
        0 => {
            host.xl(&["pause", &guest.name])?;
            host.shell(&format!("sleep 0.{}", random.below(10)))?;
            host.xl(&["unpause", &guest.name])?;
            Ok("pause")
        }
        1 => {
            let file = format!("/tmp/{}.save", guest.name);
            transfer(bench, &["save", "-c", &guest.name, &file])?;
            counts.saves += 1;
            guest.says_times("the suspend was cancelled", counts.saves)?;
            host.shell(&format!("rm {file}"))?;
            Ok("save -c")
        }
        2 => {
            disk.attach(guest, "xvda")?;
            counts.disks += 1;
            guest.says_times("xvda: 16 MiB, sectors of 512 bytes", counts.disks)?;
            disk.detach(guest, "xvda")?;
            guest.says_times("xvda is gone", counts.disks)?;
            Ok("block-attach and block-detach")
        }
        3 => {
            for size in [20 + random.below(28), 32] {
                host.xl(&["mem-set", &guest.name, &size.to_string()])?;
            }
            Ok("mem-set")
        }
        4 => {
            let client = format!("out/vchan connect {domid} --timeout 20");
            stream(bench, &client)?.signal(KILL)?;
            Ok("a client killed")
        }
        _ => {
            let keys = format!("/local/domain/{domid}/data/load");
            host.shell(&format!(
                "for n in $(seq 50); do xenstore-write {keys}/$n $n; done; xenstore-ls {keys} >/dev/null; \
                 xenstore-rm {keys}"
            ))?;
            Ok("a busy xenstore")
        }
    }
}
