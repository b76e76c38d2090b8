//! A program that writes, reads and measures object disks, for `tests/cloud/matrix.py`, which kills
//! it, and the stores below it. It prints a line for each thing that it has done.
//!
//! ```text
//! write STACK SEED SECONDS     writes and flushes; says what it begins, and what is flushed
//! check STACK SEED:FLUSHED:BEGUN...   compares every byte with what such writes may have left
//! open STACK                   opens and closes the disk
//! full STACK                   writes until there is no room, waits for a line, and goes on
//! flush STACK COUNT            time of flushes of 4 KiB
//! random STACK COUNT EVERY     writes 4 KiB anywhere, and flushes after every few of them
//! discard STACK                discards all of the disk
//! speed STACK write|read THREADS MIB   moves pieces of 1 MiB, and compares what it reads
//! gc STORE                     removes what no disk has
//! ```

use std::env;
use std::fs;
use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use xen_storage::stack::{Files, build};
use xen_storage::storage::Storage;
use xen_storage::storage::object::{Collect, OnOutage, collect, open_store};

type Disk = Arc<dyn Storage>;

/// Bytes of a block.
const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
/// Most blocks of a write: some writes are chunks of their own.
const MAX_BLOCKS: u64 = 80;
/// Writes between two flushes.
const EVERY: u64 = 4;

fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

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

/// Bytes that no other `seed` and `number` has.
fn fill(seed: u64, number: u64, to: &mut [u8]) {
    for (n, word) in (0..).zip(to.chunks_mut(8)) {
        word.copy_from_slice(&mix(seed ^ n << 40, number).to_le_bytes()[..word.len()]);
    }
}

/// The blocks of a write.
fn place(seed: u64, number: u64, blocks: u64) -> Range<u64> {
    let chance = mix(seed, number);
    let first = chance % blocks;
    let most = if chance >> 60 == 0 { MAX_BLOCKS } else { 8 };
    first..(first + 1 + (chance >> 32) % most).min(blocks)
}

/// Some writes are discards.
fn is_discard(number: u64) -> bool {
    number.is_multiple_of(11)
}

/// Writes what a write of that number does.
fn change(disk: &Disk, seed: u64, number: u64, blocks: u64) -> io::Result<()> {
    let range = place(seed, number, blocks);
    let len = (range.end - range.start) * BLOCK;
    if is_discard(number) {
        return disk.discard(range.start * BLOCK, len, false);
    }
    let mut bytes = vec![0; len as usize];
    for (block, bytes) in range.clone().zip(bytes.chunks_mut(BLOCK as usize)) {
        fill(seed, number << 24 | block, bytes);
    }
    disk.write(range.start * BLOCK, &bytes)
}

fn write(disk: &Disk, seed: u64, seconds: u64) -> io::Result<()> {
    let blocks = disk.info().bytes / BLOCK;
    let began = Instant::now();
    let (mut longest, mut flushes) = (Duration::ZERO, 0);
    for number in 1.. {
        say(&format!("begun {number}"));
        change(disk, seed, number, blocks)?;
        if !number.is_multiple_of(EVERY) {
            continue;
        }
        let at = Instant::now();
        disk.flush()?;
        longest = longest.max(at.elapsed());
        flushes += 1;
        say(&format!("flushed {number}"));
        if began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    say(&format!("longest {:.1} s", longest.as_secs_f64()));
    say(&format!("flushes {flushes}"));
    Ok(())
}

/// Compares a disk with what writes have left, one program's after the other's.
fn check(disk: &Disk, programs: &[String]) -> io::Result<()> {
    let blocks = disk.info().bytes / BLOCK;
    // Zeros are the write of number 0.
    let mut allowed = vec![vec![(0, 0)]; blocks as usize];
    for program in programs {
        let numbers: Vec<u64> = program.split(':').map(|n| n.parse().expect("a number")).collect();
        let [seed, flushed, begun] = numbers[..] else { panic!("{program}: SEED:FLUSHED:BEGUN") };
        for number in 1..=begun {
            for block in place(seed, number, blocks) {
                let values = &mut allowed[block as usize];
                if number <= flushed {
                    values.clear();
                }
                values.push((seed, if is_discard(number) { 0 } else { number }));
            }
        }
    }
    let mut buffer = vec![0; MIB as usize];
    for at in (0..disk.info().bytes).step_by(buffer.len()) {
        disk.read(at, &mut buffer)?;
        for (block, now) in (at / BLOCK..).zip(buffer.chunks(BLOCK as usize)) {
            let mut value = vec![0; BLOCK as usize];
            let is_one = allowed[block as usize].iter().any(|(seed, number)| {
                match number {
                    0 => value.fill(0),
                    number => fill(*seed, number << 24 | block, &mut value),
                }
                value == now
            });
            if !is_one {
                let text = format!("block {block} is none of {:?}", allowed[block as usize]);
                return Err(io::Error::other(text));
            }
        }
    }
    say(&format!("same {}", disk.info().bytes));
    Ok(())
}

/// Fills a store until it refuses, and goes on when a line comes.
fn full(disk: &Disk) -> io::Result<()> {
    let mut bytes = vec![0; MIB as usize];
    let mut kept = 0;
    loop {
        fill(7, kept, &mut bytes);
        disk.write(kept * MIB, &bytes)?;
        match disk.flush() {
            Ok(()) => kept += 1,
            Err(error) => {
                say(&format!("full {:?} {error}", error.kind()));
                break;
            }
        }
        if (kept + 1) * MIB > disk.info().bytes {
            return Err(io::Error::other(format!("{kept} MiB were taken: there is no quota")));
        }
    }
    let compare = |pieces: Range<u64>| {
        let (mut read, mut expected) = (vec![0; MIB as usize], vec![0; MIB as usize]);
        for piece in pieces {
            fill(7, piece, &mut expected);
            disk.read(piece * MIB, &mut read)?;
            if read != expected {
                return Err(io::Error::other(format!("MiB {piece} is wrong")));
            }
        }
        Ok(())
    };
    compare(0..kept + 1)?;
    say("read");
    io::stdin().lock().read_line(&mut String::new())?;
    let began = Instant::now();
    while let Err(error) = disk.flush() {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(error);
        }
        thread::sleep(Duration::from_secs(1));
    }
    compare(0..kept + 1)?;
    say(&format!("flushed {}", kept + 1));
    Ok(())
}

fn flush(disk: &Disk, count: u64) -> io::Result<()> {
    let blocks = disk.info().bytes / BLOCK;
    let mut times = Vec::new();
    let mut bytes = vec![0; BLOCK as usize];
    for number in 0..count {
        fill(3, number, &mut bytes);
        disk.write(mix(3, number) % blocks * BLOCK, &bytes)?;
        let began = Instant::now();
        disk.flush()?;
        times.push(began.elapsed());
    }
    times.sort();
    let ms = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1000.0;
    say(&format!("median {:.1}", ms(50)));
    say(&format!("p90 {:.1}", ms(90)));
    Ok(())
}

fn random(disk: &Disk, count: u64, every: u64) -> io::Result<()> {
    let blocks = disk.info().bytes / BLOCK;
    let mut bytes = vec![0; BLOCK as usize];
    for number in 1..=count {
        fill(5, number, &mut bytes);
        disk.write(mix(5, number) % blocks * BLOCK, &bytes)?;
        if number.is_multiple_of(every) {
            disk.flush()?;
        }
    }
    say(&format!("bytes {}", count * BLOCK));
    Ok(())
}

/// Returns the most memory that this process had, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0) / 1024
}

fn discard(disk: &Disk) -> io::Result<()> {
    let bytes = disk.info().bytes;
    let mut buffer = vec![0; 16 * BLOCK as usize];
    // Something is there, far apart.
    for number in 0..64 {
        fill(9, number, &mut buffer);
        disk.write(number * (bytes / 64), &buffer)?;
    }
    disk.flush()?;
    let began = Instant::now();
    disk.discard(0, bytes, false)?;
    disk.flush()?;
    let took = began.elapsed();
    for number in 0..64 {
        disk.read(number * (bytes / 64), &mut buffer)?;
        if buffer.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("what was discarded is there"));
        }
    }
    say(&format!("took {:.1}", took.as_secs_f64() * 1000.0));
    say(&format!("peak {}", peak()));
    Ok(())
}

/// Bytes of a piece that `speed` moves: quick to make, and each piece another.
fn piece(pattern: &[u8], number: u64, to: &mut [u8]) {
    let skip = (number * 4099 % MIB) as usize;
    to.copy_from_slice(&pattern[skip..skip + to.len()]);
}

fn speed(disk: &Disk, what: &str, threads: u64, mib: u64) -> io::Result<()> {
    let mut pattern = vec![0; 2 * MIB as usize];
    fill(11, 0, &mut pattern);
    let next = AtomicU64::new(0);
    let run = || -> io::Result<()> {
        let mut bytes = vec![0; MIB as usize];
        let mut expected = vec![0; MIB as usize];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= mib {
                return Ok(());
            }
            piece(&pattern, number, &mut expected);
            if what == "write" {
                disk.write(number * MIB, &expected)?;
                continue;
            }
            disk.read(number * MIB, &mut bytes)?;
            if bytes != expected {
                return Err(io::Error::other(format!("MiB {number} is wrong")));
            }
        }
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        all.into_iter().try_for_each(|one| one.join().expect("it does not panic"))
    })?;
    if what == "write" {
        disk.flush()?;
    }
    say(&format!("rate {:.1}", mib as f64 / began.elapsed().as_secs_f64()));
    Ok(())
}

fn gc(store: &str) -> io::Result<()> {
    // `xen-disk gc` waits for longer.
    let store = open_store(store, false, OnOutage::Wait(Some(Duration::from_secs(15))))?;
    let done = collect(&store, &Collect::new(Duration::ZERO))?;
    say(&format!("disks {}", done.disks));
    say(&format!("kept {}", done.kept));
    say(&format!("removed {}", done.removed));
    Ok(())
}

fn run(words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    if words[0] == "gc" {
        return Ok(gc(&words[1])?);
    }
    let disk = build(&words[1], &Files::default())?;
    say("opened");
    let number = |at: usize| words[at].parse::<u64>().expect("a number");
    match &*words[0] {
        "write" => write(&disk, number(2), number(3))?,
        "check" => check(&disk, &words[2..])?,
        "open" => {}
        "full" => full(&disk)?,
        "flush" => flush(&disk, number(2))?,
        "random" => random(&disk, number(2), number(3))?,
        "discard" => discard(&disk)?,
        "speed" => speed(&disk, &words[2], number(3), number(4))?,
        other => panic!("{other} is no command"),
    }
    drop(disk);
    say("closed");
    Ok(())
}

/// Without words it has nothing to do; cargo's tests give it their own options.
fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.len() < 2 || words[0].starts_with('-') {
        return ExitCode::SUCCESS;
    }
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}
