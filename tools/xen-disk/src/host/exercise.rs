//! `xen-disk exercise`: plays backends that break the protocol, and tells what the guest does.

use super::{on_linux, print};
use crate::disk::KIND;
use crate::{Code, ExerciseArguments, Failure, Vdev};
use serde::Serialize;
use tools_common::resolve_domain;
use xen_blk::toolstack::{self, Device};
use xen_blk_rogue::{ACTS, Act, Patience, Played, check, play};
use xen_linux::Linux;
use xen_platform::DomId;
use xen_store::Store;

/// One act, for scripts.
#[derive(Serialize)]
struct Row<'a> {
    act: &'a str,
    about: &'a str,
    source: &'a str,
    /// None if the guest did too little with the disk to tell.
    passed: Option<bool>,
    result: String,
}

/// Carries the command out.
pub(super) fn run(args: ExerciseArguments) -> Result<(), Failure> {
    if args.list {
        let line = |act: &Act| format!("{:18} {} ({})\n", act.name, act.about, act.source);
        return print(&ACTS.iter().map(line).collect::<String>());
    }
    on_linux(|linux, store| async move { exercise(&linux, &store, &args).await })
}

async fn exercise(linux: &Linux, store: &Store, args: &ExerciseArguments) -> Result<(), Failure> {
    let domain = args.domain.as_ref().expect("clap demands it");
    let front = resolve_domain(store, domain).await?;
    let vdev = match args.vdev {
        Some(vdev) => vdev.0,
        None => toolstack::free_vdev(store, front)
            .await?
            .ok_or_else(|| Failure::other("it has too many disks"))?,
    };
    let device = Device { front, back: DomId(0), vdev, kind: KIND.into() };
    let acts: Vec<&Act> =
        if args.acts.is_empty() { ACTS.iter().collect() } else { args.acts.clone() };
    let patience = Patience::default().times(args.slowness);
    check(linux, store, &device, &patience)
        .await
        .map_err(|why| Failure::new(Code::Missing, why.to_string()))?;
    if !args.json {
        let version = tools_common::version();
        print(&format!(
            "TAP version 14\n1..{}\n# xen-disk {version} as the backend of {} of domain {front}\n",
            acts.len(),
            Vdev(vdev)
        ))?;
    }
    let mut failed = Vec::new();
    for (number, act) in (1..).zip(&acts) {
        let rest = || acts[number..].iter().map(|act| act.name).collect::<Vec<_>>().join(",");
        let played = play(linux, store, &device, act, &patience).await;
        let played = played.map_err(|why| Failure::other(format!("{}: {why}", act.name)))?;
        if played.passed() == Some(false) {
            failed.push(act.name);
        }
        print(&if args.json { json(act, &played)? } else { tap(number, act, &played) })?;
        if !played.recovered && number < acts.len() {
            // What comes after it would tell nothing.
            let text = format!("after {} the guest takes no disk any more", act.name);
            if !args.json {
                print(&format!("Bail out! {text}\n"))?;
            }
            let cure = "start the guest anew, and go on with --act";
            return Err(Failure::other(format!("{text}: {cure} {}", rest())));
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Failure::other(format!(
            "{} of {} acts failed: {}",
            failed.len(),
            acts.len(),
            failed.join(", ")
        ))),
    }
}

fn json(act: &Act, played: &Played) -> Result<String, Failure> {
    let Act { name, about, source, .. } = *act;
    let row = Row { act: name, about, source, passed: played.passed(), result: played.to_string() };
    Ok(serde_json::to_string(&row).map_err(Failure::other)? + "\n")
}

/// Returns the lines of a test, as TAP 14 has them.
fn tap(number: usize, act: &Act, played: &Played) -> String {
    let (verdict, skip) = match played.passed() {
        Some(true) => ("ok", ""),
        Some(false) => ("not ok", ""),
        None => ("ok", " # SKIP the guest did too little with the disk to tell"),
    };
    format!(
        "{verdict} {number} - {}: {}{skip}\n  ---\n  result: {played}\n  source: \"{}\"\n  ...\n",
        act.name, act.about, act.source
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_blk_rogue::Reaction;

    #[test]
    fn results_are_lines_of_tap() {
        let act = &ACTS[0];
        let played = |reaction, recovered| Played { reaction, recovered, demand: act.demand };
        let text = tap(3, act, &played(Reaction::Closed, true));
        assert!(text.starts_with("ok 3 - far-id: a response"), "{text}");
        assert!(text.contains("result: the frontend ended the connection, and took"), "{text}");
        assert!(tap(1, act, &played(Reaction::Closed, false)).starts_with("not ok 1 - "));
        assert!(tap(1, act, &played(Reaction::Unasked, true)).contains("# SKIP"));
        let row = json(act, &played(Reaction::Gone, false)).unwrap();
        assert!(row.contains("\"passed\":false"), "{row}");
    }
}
