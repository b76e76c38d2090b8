//! Servers that are killed while they are written to.

use crate::common::Folder;
use crate::peers::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use xen_disk::storage::Storage;
use xen_nbd::client::Connection;
use xen_nbd::wire::CommandFlags;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 1024;
const THREADS: u64 = 4;

/// Returns the contents of a block after its `round`th write.
fn contents(block: u64, round: u64) -> Vec<u8> {
    let word = (block << 32 | round).to_le_bytes();
    word.repeat(BLOCK / 8)
}

/// Returns the round of which a block has a word.
fn round_in(block: u64, word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    assert!(word == 0 || word >> 32 == block, "block {block} has the contents of another");
    word & 0xffff_ffff
}

/// Returns the round of which a block has the contents.
fn round_of(block: u64, bytes: &[u8]) -> u64 {
    let word: [u8; 8] = bytes[..8].try_into().unwrap();
    assert!(bytes == word.repeat(BLOCK / 8), "block {block} is torn");
    round_in(block, word)
}

/// Starts a server of the folder's image at its socket.
type Start<'a> = &'a dyn Fn(&Folder) -> Serving;

/// Rounds of all blocks that are known to be kept, and that may be there.
struct Rounds {
    kept: Vec<AtomicU64>,
    begun: Vec<AtomicU64>,
}

impl Rounds {
    fn new() -> Self {
        let zeros = || (0..BLOCKS).map(|_| AtomicU64::new(0)).collect();
        Rounds { kept: zeros(), begun: zeros() }
    }

    /// Compares the image with them.
    fn check(&self, name: &str, disk: &dyn Storage) {
        let mut bytes = vec![0; BLOCKS as usize * BLOCK];
        disk.read(0, &mut bytes).unwrap();
        let mut writes = 0;
        for (block, bytes) in (0..).zip(bytes.chunks(BLOCK)) {
            let kept = self.kept[block as usize].load(Ordering::Relaxed);
            let begun = self.begun[block as usize].load(Ordering::Relaxed);
            // A write that was not acknowledged may be there in part.
            for word in bytes.chunks(8) {
                let found = round_in(block, word.try_into().unwrap());
                assert!(
                    (kept..=begun).contains(&found),
                    "{name}: block {block} has round {found}; kept {kept}, begun {begun}"
                );
            }
            writes += kept;
        }
        assert!(writes > 100, "{name}: only {writes} writes were kept");
    }
}

/// Returns a block that a thread writes, and no other does.
fn block_of(thread: u64, step: u64) -> u64 {
    (step.wrapping_mul(0x9e37_79b9) >> 7) % (BLOCKS / THREADS) * THREADS + thread
}

fn image(folder: &Folder) -> String {
    let path = folder.path("raw");
    run(&format!("truncate -s {} {}", BLOCKS * BLOCK as u64, path.display()));
    path.display().to_string()
}

/// Writes through the storage `nbd` while the server is killed and started again. In the end every
/// write that was acknowledged must be there, and nothing older.
fn killed_and_started_again(name: &str, words: &str, start: Start<'_>) {
    let folder = Folder::new();
    let raw = image(&folder);
    let mut serving = Some(start(&folder));
    let disk = open(&format!("{}{words}", uri(&folder, "socket")));
    let rounds = Rounds::new();
    let stop = AtomicBool::new(false);
    let write = |thread: u64| {
        for step in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let block = block_of(thread, step);
            let at = block * BLOCK as u64;
            let round = rounds.begun[block as usize].fetch_add(1, Ordering::Relaxed) + 1;
            disk.write(at, &contents(block, round)).unwrap();
            rounds.kept[block as usize].store(round, Ordering::Relaxed);
            if step % 7 == 0 {
                let mut found = vec![0; BLOCK];
                disk.read(at, &mut found).unwrap();
                assert_eq!(round_of(block, &found), round, "{name}: read back");
            }
            if step % 197 == 196 {
                disk.flush().unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        let write = &write;
        (0..THREADS).for_each(|thread| drop(scope.spawn(move || write(thread))));
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(150));
            serving.take().unwrap().kill();
            std::thread::sleep(Duration::from_millis(60));
            serving = Some(start(&folder));
        }
        std::thread::sleep(Duration::from_millis(150));
        stop.store(true, Ordering::Relaxed);
    });
    disk.flush().unwrap();
    drop(disk);
    serving.unwrap().kill();
    rounds.check(name, &*open(&format!("file:{raw}")));
    // All writes have ended: what was begun is what was acknowledged.
    let pairs = rounds.kept.iter().zip(&rounds.begun);
    assert!(
        pairs
            .into_iter()
            .all(|(kept, begun)| { kept.load(Ordering::Relaxed) == begun.load(Ordering::Relaxed) })
    );
}

fn raw(folder: &Folder) -> String {
    folder.path("raw").display().to_string()
}

#[test]
fn disk_keeps_every_write_while_our_server_is_killed() {
    killed_and_started_again("export", "", &|folder| {
        export(folder, &format!("file:{}", raw(folder)), "socket", "")
    });
}

#[test]
fn disk_keeps_every_write_while_nbdkit_is_killed() {
    killed_and_started_again("nbdkit", "", &|folder| {
        nbdkit(folder, &format!("file {}", raw(folder)), "socket")
    });
}

#[test]
fn disk_keeps_every_write_while_qemu_nbd_is_killed() {
    killed_and_started_again("qemu-nbd", "", &|folder| {
        qemu_nbd(folder, &format!("-f raw {}", raw(folder)), "socket")
    });
}

#[test]
fn disk_keeps_every_write_of_a_server_that_loses_what_no_flush_has_covered() {
    // The layer has in its memory what was not flushed.
    let start: Start<'_> =
        &|folder| export(folder, &format!("powercut/file:{}", raw(folder)), "socket", "");
    killed_and_started_again("powercut", "", start);
    killed_and_started_again("powercut, little memory", ",unflushed=100K,connections=1", start);
}

#[test]
fn disk_without_a_server_fails_in_time_and_goes_on_when_there_is_one() {
    let folder = Folder::new();
    image(&folder);
    let stack = format!("powercut/file:{}", raw(&folder));
    let serving = export(&folder, &stack, "socket", "");
    let disk = open(&format!("{},outage=1s", uri(&folder, "socket")));
    disk.write(0, &contents(0, 1)).unwrap();
    serving.kill();
    let start = Instant::now();
    let error = disk.write(4096, &contents(1, 1)).unwrap_err();
    assert!(error.to_string().contains("without a server"), "{error}");
    assert!(disk.flush().is_err());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let serving = export(&folder, &stack, "socket", "");
    // What was acknowledged before is still known, and written again.
    disk.flush().unwrap();
    let mut found = vec![0; BLOCK];
    disk.read(0, &mut found).unwrap();
    assert_eq!(round_of(0, &found), 1);
    serving.kill();
    assert_eq!(round_of(0, &std::fs::read(raw(&folder)).unwrap()[..BLOCK]), 1);
}

#[test]
fn server_that_comes_back_with_another_disk_is_refused() {
    let folder = Folder::new();
    image(&folder);
    let start = |words: &str| export(&folder, &format!("file:{}", raw(&folder)), "socket", words);
    let serving = start("");
    let disk = open(&format!("{},outage=1s", uri(&folder, "socket")));
    serving.kill();
    let serving = start("--read-only");
    let error = disk.write(0, &contents(0, 1)).unwrap_err().to_string();
    assert!(error.contains("cannot be written any more"), "{error}");
    serving.kill();
    run(&format!("truncate -s 1M {}", raw(&folder)));
    let _serving = start("");
    let error = disk.write(0, &contents(0, 1)).unwrap_err().to_string();
    assert!(error.contains("1048576 bytes and not 4194304"), "{error}");
}

/// Kills `xen-disk export STACK` while clients write. `every` write that was acknowledged must be
/// there, or else each that was written through or flushed.
fn export_is_killed(stack: &str, every: bool) {
    let folder = Folder::new();
    let raw = image(&folder);
    let stack = stack.replace("DIR", folder.path("").to_str().unwrap().trim_end_matches('/'));
    for (kind, name) in [("vhd", "new.vhd"), ("qcow2", "new.qcow2")] {
        if stack.contains(name) {
            let place = format!("{kind}:{}", folder.path(name).display());
            xen_disk::stack::create(&place, BLOCKS * BLOCK as u64).unwrap();
        }
    }
    assert!(!raw.is_empty());
    let serving = export(&folder, &stack, "socket", "");
    let rounds = Rounds::new();
    let uri: xen_nbd::Uri = uri(&folder, "socket").parse().unwrap();
    let connections: Vec<Connection> =
        (0..2).map(|_| Connection::open(&uri, TIMEOUT, TIMEOUT).unwrap()).collect();
    let write = |thread: u64| {
        let connection = &connections[thread as usize % 2];
        let mut since_flush = Vec::new();
        for step in 0u64.. {
            let block = block_of(thread, step);
            let round = rounds.begun[block as usize].fetch_add(1, Ordering::Relaxed) + 1;
            let through = step % 5 == 0;
            let flags = if through { CommandFlags::FUA } else { CommandFlags::empty() };
            if connection.write(block * BLOCK as u64, &contents(block, round), flags).is_err() {
                return;
            }
            let keep = |(block, round): &(u64, u64)| {
                rounds.kept[*block as usize].fetch_max(*round, Ordering::Relaxed);
            };
            match every || through {
                true => keep(&(block, round)),
                false => since_flush.push((block, round)),
            }
            if step % 23 == 22 {
                if connection.flush().is_err() {
                    return;
                }
                since_flush.drain(..).for_each(|done| keep(&done));
            }
        }
    };
    std::thread::scope(|scope| {
        let write = &write;
        (0..THREADS).for_each(|thread| drop(scope.spawn(move || write(thread))));
        let enough = || rounds.kept.iter().map(|r| r.load(Ordering::Relaxed)).sum::<u64>() > 400;
        let end = Instant::now() + TIMEOUT;
        while !enough() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        serving.kill();
    });
    rounds.check(&stack, &*open(&stack));
}

#[test]
fn export_that_is_killed_keeps_every_write_of_storages_that_promise_it() {
    for stack in [
        "file:DIR/raw",
        "mmap:DIR/raw",
        "vhd:DIR/new.vhd",
        "overlay:\"DIR/over\"/file:DIR/raw",
        #[cfg(feature = "formats")]
        "qcow2:DIR/new.qcow2",
    ] {
        export_is_killed(stack, true);
    }
}

#[test]
fn export_that_is_killed_keeps_what_was_flushed_or_written_through() {
    export_is_killed("powercut/file:DIR/raw", false);
    #[cfg(feature = "object")]
    export_is_killed("object:DIR/store,size=4M", false);
}
