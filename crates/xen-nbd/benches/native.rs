//! `xen-disk export` beside qemu-nbd and nbdkit: the same file, the same client, the same run, on
//! this machine. `make bench-native` runs it; its words are folders for the file, for instance one
//! on a disk and one in memory.
//!
//! The client is the one in `load.rs`, which knows no server. A server is started anew for each
//! figure, on a socket of this machine; rounds go around all servers, and the median counts.

#[path = "native/load.rs"]
mod load;
#[path = "native/servers.rs"]
mod servers;

use load::{Load, Way};
use servers::{SERVERS, Server};
use std::path::Path;
use std::time::Duration;

/// Length of the file in bytes. It is in the page cache.
const BYTES: u64 = 256 << 20;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_millis(500);

const LOADS: &[Load] = &[
    Load { name: "read 1 MiB, depth 4", way: Way::Read, size: 1 << 20, depth: 4, random: false },
    Load { name: "write 1 MiB, depth 4", way: Way::Write, size: 1 << 20, depth: 4, random: false },
    Load { name: "random read 4 KiB, depth 1", way: Way::Read, size: 4096, depth: 1, random: true },
    Load { name: "random read, depth 32", way: Way::Read, size: 4096, depth: 32, random: true },
    Load {
        name: "random write 4 KiB, depth 1",
        way: Way::Write,
        size: 4096,
        depth: 1,
        random: true,
    },
    Load { name: "random write, depth 32", way: Way::Write, size: 4096, depth: 32, random: true },
];

fn main() {
    // `cargo bench` adds a word of its own.
    let folders: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with("--")).collect();
    let Some(program) = std::env::var_os("XEN_DISK") else {
        eprintln!("bench: XEN_DISK does not name the program: run make bench-native");
        std::process::exit(2);
    };
    for folder in folders {
        bench(Path::new(&folder), Path::new(&program));
    }
}

fn bench(folder: &Path, program: &Path) {
    let place = folder.join(format!("xen-disk-bench-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("the folder can be made");
    servers::prepare(&place, BYTES);
    let kind = servers::file_system(&place);
    println!(
        "NBD, {} MiB in the page cache of {kind}, on a Unix socket; {ROUNDS} rounds of {TIME:?}, median\n",
        BYTES >> 20
    );
    println!("MiB/s, or thousands of requests a second");
    print!("{:28}", "");
    SERVERS.iter().for_each(|server| print!("{:>14}", server.name));
    println!();
    let mut all = Vec::new();
    for load in LOADS {
        print!("{:28}", load.name);
        let figures = median_of_each(load, &place, program);
        figures.iter().for_each(|figure| print!("{figure:>14.1}"));
        println!();
        all.push(figures);
    }
    println!("\nRatios: how many times as fast ours is");
    print!("{:28}", "");
    let pairs: Vec<(usize, usize)> = pairs().collect();
    for (ours, theirs) in &pairs {
        print!("{:>26}", format!("{} / {}", SERVERS[*ours].name, SERVERS[*theirs].name));
    }
    println!();
    for (load, figures) in LOADS.iter().zip(&all) {
        print!("{:28}", load.name);
        pairs
            .iter()
            .for_each(|(ours, theirs)| print!("{:>26.2}", figures[*ours] / figures[*theirs]));
        println!();
    }
    println!();
    std::fs::remove_dir_all(&place).expect("the folder can be removed");
}

/// Returns which servers are compared: those that serve the same.
fn pairs() -> impl Iterator<Item = (usize, usize)> {
    let ours = SERVERS.iter().enumerate().filter(|(_, server)| server.is_ours);
    ours.flat_map(|(n, ours)| {
        let theirs = SERVERS.iter().enumerate();
        let same = theirs.filter(|(_, theirs)| !theirs.is_ours && theirs.kind == ours.kind);
        same.map(move |(other, _)| (n, other))
    })
}

fn median_of_each(load: &Load, place: &Path, program: &Path) -> Vec<f64> {
    let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); SERVERS.len()];
    for _ in 0..ROUNDS {
        for (figures, server) in rounds.iter_mut().zip(SERVERS) {
            let running = Server::start(server, place, program);
            // The first moments warm it up.
            load.run(running.connect(), BYTES, TIME / 5);
            let requests = load.run(running.connect(), BYTES, TIME);
            figures.push(match load.random {
                true => requests / 1000.0,
                false => requests * load.size as f64 / f64::from(1 << 20),
            });
        }
    }
    rounds.iter_mut().for_each(|figures| figures.sort_by(f64::total_cmp));
    rounds.iter().map(|figures| figures[ROUNDS / 2]).collect()
}
