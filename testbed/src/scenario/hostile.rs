//! Clients that lie in the shared page, beside honest ones.

use anyhow::{Context, Result};

use super::Bench;
use super::clients::attached;
use super::echo::transfer;
use crate::host::PATIENCE;

/// What breaks the protocol, with the words that the guest's console must have for it.
const VIOLATIONS: &[(&str, &str)] = &[
    ("prod-beyond", "left ring"),
    ("prod-far", "left ring"),
    ("prod-back", "left ring"),
    ("cons-ahead", "right ring"),
    ("cons-back", "right ring"),
    ("live", "cli_live is 7"),
];

/// What must change nothing.
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
        guest.says_times("broke the protocol", number + 1).with_context(|| format!("attack {name}"))?;
        let log = guest.console();
        let blamed = log.lines().rfind(|line| line.contains("broke the protocol")).unwrap_or_default();
        anyhow::ensure!(blamed.contains(words), "of the attack {name} the console says {blamed:?}, without {words:?}");
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
