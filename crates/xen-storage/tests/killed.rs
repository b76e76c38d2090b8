//! Storages in a program that is killed while it writes: what it was told is flushed must be there.
//!
//! The program is this one, started again with a stack in its environment: two threads, one that
//! writes and one that flushes, as fast as they can, and tell on standard output what they do.

mod common;

use common::Folder;
use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use xen_storage::stack::{Files, build, create};
use xen_storage::storage::Storage;

/// Bytes that are written at a time.
const BLOCK: u64 = 4096;
/// Unit that is there as a whole or not at all. In an image of 512-byte units a block can lie in
/// two pages of the page cache, and a write that is killed may end between them.
const SECTOR: usize = 512;
/// Blocks of the disk.
const BLOCKS: u64 = 1024;
/// The most writes between two flushes.
const AHEAD: usize = 24;
/// Number of times that the program is killed.
const ROUNDS: u64 = 6;

const STACK: &str = "XEN_DISK_TEST_STACK";
const SEED: &str = "XEN_DISK_TEST_SEED";

/// A number that looks like chance, from two that do not.
fn mix(seed: u64, number: u64) -> u64 {
    let mut x =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..3 {
        x ^= x >> 29;
        x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    x ^ x >> 32
}

/// The blocks of a write: a few, anywhere.
fn place(seed: u64, number: u64) -> std::ops::Range<u64> {
    let chance = mix(seed, number);
    let first = chance % BLOCKS;
    first..(first + 1 + (chance >> 32) % 8).min(BLOCKS)
}

/// Returns the bytes that a write leaves in a block.
fn contents(seed: u64, number: u64) -> Vec<u8> {
    let word = mix(seed, number).to_le_bytes();
    word.repeat(BLOCK as usize / word.len())
}

fn say(line: &str) {
    // The other end may be closed by now: then the end of this program is near.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The program that is killed; when it runs as a test among others, it has nothing to do.
#[test]
fn child() {
    let (Ok(stack), Ok(seed)) = (env::var(STACK), env::var(SEED)) else { return };
    let seed: u64 = seed.parse().unwrap();
    let disk = build(&stack, &Files::default()).unwrap();
    let (wrote, written) = sync_channel(AHEAD);
    let flushed = disk.clone();
    thread::spawn(move || {
        while let Ok(first) = written.recv() {
            let number: u64 = written.try_iter().last().unwrap_or(first);
            flushed.flush().unwrap();
            say(&format!("flushed {number}"));
        }
    });
    // What was printed by others ends here.
    say("");
    for number in 1.. {
        say(&format!("write {number}"));
        let blocks = place(seed, number);
        let bytes = contents(seed, number).repeat(blocks.clone().count());
        disk.write(blocks.start * BLOCK, &bytes).unwrap();
        wrote.send(number).unwrap();
    }
}

/// Starts the program, and kills it when it has said a number of things that depends on the seed.
/// The last write that was flushed, and the last that was begun.
fn killed(stack: &str, seed: u64) -> (u64, u64) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(STACK, stack)
        .env(SEED, seed.to_string());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (flushes, writes) = (mix(seed, 0) % 5, mix(seed, 0) >> 32);
    let mut left = None;
    let (mut flushed, mut begun) = (0, 0);
    // All that it said before it was killed counts.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("write", number)) => begun = number.parse().unwrap(),
            Some(("flushed", number)) => flushed = number.parse().unwrap(),
            _ => continue,
        }
        if left.is_none() && (flushes == 0 || line.starts_with("flushed ")) {
            left = Some(flushes + writes % AHEAD as u64);
        }
        match &mut left {
            Some(0) => child.kill().unwrap(),
            Some(left) => *left -= 1,
            None => {}
        }
    }
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the program ended by itself: {status}");
    (flushed, begun)
}

/// Reads the blocks of a disk.
fn read(disk: &dyn Storage) -> Vec<Vec<u8>> {
    let mut bytes = vec![0; (BLOCKS * BLOCK) as usize];
    disk.read(0, &mut bytes).unwrap();
    bytes.chunks(BLOCK as usize).map(<[u8]>::to_vec).collect()
}

/// Returns true if each sector of a block is what one of these values has there.
fn is_of(values: &[Vec<u8>], now: &[u8]) -> bool {
    let sectors = |block: &[u8]| block.chunks(SECTOR).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let values: Vec<_> = values.iter().map(|value| sectors(value)).collect();
    sectors(now)
        .iter()
        .enumerate()
        .all(|(number, sector)| values.iter().any(|value| value[number] == *sector))
}

/// One test at a time: a program that another one just starts has for a moment all files that are
/// open here, and with them their locks.
static ALONE: Mutex<()> = Mutex::new(());

/// Kills the program again and again, and looks each time at what is left.
fn nothing_is_lost(stack: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = read(&*build(stack, &Files::default()).unwrap());
    let seed: u64 = env::var(SEED).map_or(1, |seed| seed.parse().unwrap());
    let mut all_flushed = 0;
    for round in 0..ROUNDS {
        let seed = seed * ROUNDS + round;
        let (flushed, begun) = killed(stack, seed);
        let after = read(&*build(stack, &Files::default()).unwrap());
        let mut allowed: HashMap<u64, Vec<Vec<u8>>> = HashMap::new();
        for number in 1..=begun {
            for block in place(seed, number) {
                let values =
                    allowed.entry(block).or_insert_with(|| vec![before[block as usize].clone()]);
                if number <= flushed {
                    values.clear();
                }
                values.push(contents(seed, number));
            }
        }
        for (block, now) in (0..).zip(&after) {
            let unchanged = [before[block as usize].clone()];
            let values = allowed.get(&block).map_or(&unchanged[..], Vec::as_slice);
            assert!(
                is_of(values, now),
                "{SEED}={seed}: block {block} is wrong: {flushed} writes flushed, {begun} begun"
            );
        }
        all_flushed += flushed;
        before = after;
    }
    assert!(all_flushed > 0, "nothing was ever flushed: this shows nothing");
}

#[test]
fn overlay() {
    let folder = Folder::new();
    let image = folder.image("image", BLOCKS * BLOCK);
    nothing_is_lost(&format!(
        "overlay:\"{}\"/file:{}",
        folder.path("overlay").display(),
        image.display()
    ));
}

#[test]
fn vhd() {
    let folder = Folder::new();
    let stack = format!("vhd:{}", folder.path("image").display());
    create(&stack, BLOCKS * BLOCK).unwrap();
    nothing_is_lost(&stack);
}

#[cfg(feature = "formats")]
#[test]
fn qcow2() {
    let folder = Folder::new();
    let stack = format!("qcow2:{}", folder.path("image").display());
    create(&stack, BLOCKS * BLOCK).unwrap();
    nothing_is_lost(&stack);
}

#[cfg(feature = "object")]
#[test]
fn object_in_a_folder() {
    let folder = Folder::new();
    nothing_is_lost(&format!("object:{},size={}", folder.path("store").display(), BLOCKS * BLOCK));
}

/// In a store in the network; `tests/cloud/run.sh` starts one and says where it is.
#[cfg(feature = "cloud")]
#[test]
fn object_in_a_bucket() {
    let Ok(url) = env::var("XEN_DISK_TEST_URL") else { return };
    nothing_is_lost(&format!("object:{url},name=killed,size={}", BLOCKS * BLOCK));
}
