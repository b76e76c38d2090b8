//! A backend that does anything at all, by a script of bytes. The body of the fuzz target
//! `blk_backend` and of the property test in `tests/front_anything.rs`.

use crate::common::backend::{self, Backend, Store, all_keys};
use crate::common::{BACK, Bench, DOM0, Error, FRONT, GUEST, Host, SECTORS};
use std::time::Duration;
use xen_blk::front::{Config, Disk};
use xen_blk::protocol::wire::{Abi, Decoded, Response};
use xen_platform::{Channel as _, IndexMemory, SharedMem, sleep};
use xen_sim::Domain;

/// The rest of a script. Bytes beyond its end are zero.
struct Script(Vec<u8>);

impl Script {
    fn byte(&mut self) -> u8 {
        self.0.pop().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// The keys that a backend writes.
const KEYS: [&str; 15] = [
    "max-ring-page-order",
    "max-ring-pages",
    "multi-queue-max-queues",
    "feature-persistent",
    "feature-max-indirect-segments",
    "feature-flush-cache",
    "feature-barrier",
    "feature-discard",
    "discard-granularity",
    "discard-secure",
    "sectors",
    "sector-size",
    "physical-sector-size",
    "info",
    "online",
];

const VALUES: [&str; 12] = [
    "",
    "0",
    "1",
    "2",
    "4",
    "11",
    "512",
    "4096",
    "-1",
    "99999999999999999999",
    "4294967296",
    "\u{e4}",
];

/// Plays a script against a frontend that reads, writes, flushes and discards all the time.
pub fn play(script: &[u8]) {
    let mut script = Script(script.iter().rev().copied().collect());
    let config = Config::default().with(|config| {
        config.ring_pages = 1 << (script.byte() % 3);
        config.queues = u32::from(script.byte() % 3) + 1;
        config.indirect_segments = script.of(&[0, 20, 600]);
        config.abi = script.of(&[Abi::X86_64, Abi::X86_32]);
        config.bounce_pages = 64;
        config.request_timeout = Duration::from_secs(8);
        config.connect_timeout = Duration::from_secs(20);
    });
    let mut bench = Bench::with_seed(u64::from(script.word()));
    let (dom0, guest) = (bench.host(DOM0), bench.host(GUEST));
    let process = dom0.domain.clone();
    let playing = bench.sim.spawn(&process, act(dom0, script));
    bench.run(async move {
        if let Ok((disk, driver)) = guest.attach(&config).await {
            let tasks: Vec<_> = (0..4).map(|n| guest.spawn(use_disk(disk.clone(), n))).collect();
            for task in tasks {
                task.join().await;
            }
            disk.close().await;
            let _ = driver.join().await;
            let after = disk.read(0, &mut [0; 512]).await;
            assert!(
                matches!(
                    after,
                    Err(Error::Gone(_)
                        | Error::Peer(_)
                        | Error::OutOfRange { .. }
                        | Error::Unaligned { .. })
                ),
                "{after:?}"
            );
        }
        drop(playing);
        process.kill_process();
    });
}

/// Uses a part of the disk until something fails, or long enough.
async fn use_disk(disk: Disk<Domain>, number: u64) {
    let at = number * 512;
    for round in 0..4u8 {
        let mut data = vec![round; if round % 2 == 0 { 30 * 4096 } else { 4096 }];
        let done = match (number + u64::from(round)) % 4 {
            0 => disk.read(at, &mut data).await,
            1 => disk.write(at, &data).await,
            2 => disk.discard(at, 8, false).await,
            _ => disk.flush().await,
        };
        match done {
            Err(Error::Gone(_) | Error::Peer(_)) => return,
            Ok(())
            | Err(
                Error::Failed { .. }
                | Error::TimedOut(_)
                | Error::Unsupported(_)
                | Error::ReadOnly(_),
            ) => {}
            Err(Error::OutOfRange { .. } | Error::Unaligned { .. }) => {}
            Err(error) => panic!("not a backend's doing: {error}"),
        }
    }
}

/// The backend: offers something, connects, and does what the script says.
async fn act(host: Host, mut script: Script) {
    let mut keys = all_keys();
    for _ in 0..script.byte() % 4 {
        let (key, value) = (script.of(&KEYS), script.of(&VALUES));
        keys = backend::with(keys, key, value);
    }
    let mut backend = Backend::start(&host, &Store::new(SECTORS), &keys).await;
    let mut held: Vec<(usize, Decoded)> = Vec::new();
    while !script.0.is_empty() {
        // It acts also while no request comes.
        let next =
            xen_platform::deadline(&host.domain, Some(host.in_secs(1)), backend.next()).await;
        match next {
            Ok(Some(request)) => held.push(request),
            Ok(None) => break,
            Err(_) => {}
        }
        for _ in 0..=script.byte() % 2 {
            step(&host, &mut backend, &mut held, &mut script);
        }
    }
    // It becomes honest, so that what it did so far has its effect.
    for (queue, request) in held {
        if request.request.is_ok() {
            backend.answer(queue, &request);
        }
    }
    while let Some((queue, request)) = backend.next().await {
        backend.refuse(queue, &request, -1);
    }
    backend.close().await;
    sleep(&host.domain, Duration::from_secs(1)).await;
}

fn step(host: &Host, backend: &mut Backend, held: &mut Vec<(usize, Decoded)>, script: &mut Script) {
    let act = script.byte();
    let picked = usize::from(script.byte());
    match act % 12 {
        // An honest answer, to any request.
        0..=5 if !held.is_empty() => {
            let (queue, request) = held.remove(picked % held.len());
            if request.request.is_ok() {
                backend.answer(queue, &request);
            }
        }
        // Any answer at all.
        6 => {
            let queue = picked % backend.queues.len();
            let id = match held.first() {
                Some((_, request)) if script.byte() % 2 == 0 => request.id,
                _ => u64::from(script.word()) << (script.byte() % 48),
            };
            let (operation, status) = (script.byte() % 8, i16::from(script.byte() as i8));
            backend.respond(queue, Response { id, operation, status });
        }
        // A refusal.
        7 if !held.is_empty() => {
            let (queue, request) = held.remove(picked % held.len());
            let status = script.of(&[-1, -2]);
            backend.refuse(queue, &request, status);
        }
        // Any byte in the ring's memory, its indices above all.
        8 => {
            let mem = &backend.queues[picked % backend.queues.len()].mem;
            let at = usize::from(script.word()) % mem.len();
            mem.store_u8(if script.byte() % 2 == 0 { at % 16 } else { at }, script.byte());
        }
        9 => backend.queues[picked % backend.queues.len()].channel.notify(),
        // A key.
        10 => {
            let (key, value) = (script.of(&KEYS), script.of(&VALUES));
            host.xs.set(&format!("{BACK}/{key}"), value);
        }
        // A state.
        11 => {
            let state = script.of(&["4", "4", "4", "5", "6", "2", "1", "3", "7", "99", "x", ""]);
            if host.xs.get(FRONT).is_some() {
                host.xs.set(&format!("{BACK}/state"), state);
            }
        }
        _ => {}
    }
}
