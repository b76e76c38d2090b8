//! `gc` and `store`: the disks of an object store.

use crate::storage::object::{
    self, About, Collect, KEY, LeaseTimes, Objects, OnOutage, Usage, open_store,
};
use crate::{Failure, GcArguments, KeyArguments, StoreCommand};
use serde_json::json;
use std::fmt::Write;
use std::io;
use std::time::Duration;
use tools_common::print;

/// Time that commands wait for a store.
const OUTAGE: OnOutage = OnOutage::Wait(Some(Duration::from_secs(60)));

fn in_store<T>(
    place: &str,
    work: impl FnOnce(&dyn Objects) -> io::Result<T>,
) -> Result<T, Failure> {
    let done = open_store(place, false, OUTAGE).and_then(|store| work(&*store));
    done.map_err(|error| Failure::other(format!("{place}: {error}")))
}

/// Collects garbage.
pub(super) fn gc(args: &GcArguments) -> Result<(), Failure> {
    let how = Collect::new(Duration::from_secs(u64::from(args.grace) * 3600));
    let done = in_store(&args.store, |store| object::collect(&store, &how))?;
    let object::Collected { disks, kept, removed, removed_bytes } = done;
    print(&format!(
        "{disks} disks with {kept} chunks; {removed} chunks removed, {removed_bytes} bytes\n"
    ))
}

/// Carries out a command of `store`.
pub(super) fn run(command: &StoreCommand) -> Result<(), Failure> {
    let times = LeaseTimes::default();
    match command {
        StoreCommand::List { store, json } => {
            let disks = in_store(store, |store| object::list(&store))?;
            print(&if *json { list_json(&disks) } else { list_text(&disks) })
        }
        StoreCommand::Usage { store, json } => {
            let (disks, garbage) = in_store(store, |store| object::usage(&store))?;
            print(&if *json { usage_json(&disks, garbage) } else { usage_text(&disks, garbage) })
        }
        StoreCommand::Remove { store, name, take_over } => {
            in_store(store, |store| object::remove(&store, name, *take_over, &times))
        }
        StoreCommand::Snapshot { store, name, snapshot, key } => {
            let key = read_key(key)?;
            in_store(store, |store| object::snapshot(&store, name, snapshot, key.as_ref()))
        }
        StoreCommand::Clone { store, from, to, key } => {
            let key = read_key(key)?;
            in_store(store, |store| object::clone(&store, from, to, key.as_ref()))
        }
        StoreCommand::Rollback { store, name, snapshot, key } => {
            let key = read_key(key)?;
            in_store(store, |store| object::roll_back(&store, name, snapshot, key.as_ref(), &times))
        }
    }
}

fn read_key(args: &KeyArguments) -> Result<Option<[u8; KEY]>, Failure> {
    let key = object::read_key(args.key.as_deref(), args.key_command.as_deref());
    key.map_err(Failure::other)
}

fn list_text(disks: &[About]) -> String {
    let mut text = format!("{:24} {:>16} {:12} HOLDER\n", "NAME", "BYTES", "KIND");
    for disk in disks {
        let kinds = [
            ("snapshot", disk.snapshot),
            ("encrypted", disk.encrypted),
            ("zstd", disk.zstd.is_some()),
        ];
        let kinds: Vec<&str> = kinds.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        let kinds = if kinds.is_empty() { "disk".to_string() } else { kinds.join("+") };
        let holder = disk.holder.as_deref().unwrap_or("-");
        writeln!(text, "{:24} {:>16} {kinds:12} {holder}", disk.name, disk.bytes)
            .expect("a String takes everything");
    }
    text
}

fn list_json(disks: &[About]) -> String {
    let disks = disks.iter().map(|disk| {
        json!({
            "name": disk.name, "bytes": disk.bytes, "snapshot": disk.snapshot,
            "encrypted": disk.encrypted, "zstd": disk.zstd, "holder": disk.holder,
        })
    });
    format!("{}\n", json!(disks.collect::<Vec<_>>()))
}

fn usage_text(disks: &[Usage], garbage: u64) -> String {
    let mut text = format!(
        "{:24} {:>16} {:>16} {:>16} {:>16}\n",
        "NAME", "BYTES", "LOGICAL", "UNIQUE", "SHARED"
    );
    for Usage { name, bytes, logical, unique, shared } in disks {
        writeln!(text, "{name:24} {bytes:>16} {logical:>16} {unique:>16} {shared:>16}")
            .expect("a String takes everything");
    }
    writeln!(text, "{garbage} bytes are no disk's").expect("a String takes everything");
    text
}

fn usage_json(disks: &[Usage], garbage: u64) -> String {
    let disks = disks.iter().map(|Usage { name, bytes, logical, unique, shared }| {
        json!({
            "name": name, "bytes": bytes, "logical": logical, "unique": unique, "shared": shared,
        })
    });
    format!("{}\n", json!({ "disks": disks.collect::<Vec<_>>(), "garbage": garbage }))
}
