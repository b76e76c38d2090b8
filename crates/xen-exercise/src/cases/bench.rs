//! The benchmark: how much, how often, how soon.

use super::{Context, Outcome};
use crate::environment::{Device, Direction, Error};
use crate::latency::{Latencies, Micros};
use crate::log::Json;
use crate::random::Random;
use crate::stamp::SECTOR;
use crate::tasks::{Boxed, try_join_all};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

/// One measurement.
#[derive(Clone, Copy)]
struct Load {
    direction: Direction,
    random: bool,
    bytes: usize,
    depth: usize,
    /// Most requests, where the amount of data does not end it before.
    count: u64,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.random { "rand" } else { "seq" };
        let direction = if self.direction == Direction::Read { "read" } else { "write" };
        match self.bytes >> 20 {
            0 => write!(f, "{order}-{direction}-{}k", self.bytes >> 10)?,
            mib => write!(f, "{order}-{direction}-{mib}m")?,
        }
        match self.random || self.depth > 1 {
            true => write!(f, "-qd{}", self.depth),
            false => Ok(()),
        }
    }
}

const fn load(direction: Direction, random: bool, bytes: usize, depth: usize, count: u64) -> Load {
    Load { direction, random, bytes, depth, count }
}

/// The measurements of `blk-bench` in a Linux guest, in the same order.
const USUAL: [Load; 6] = [
    load(Direction::Write, false, 1 << 20, 1, u64::MAX),
    load(Direction::Read, false, 1 << 20, 1, u64::MAX),
    load(Direction::Read, true, 4096, 1, 4000),
    load(Direction::Read, true, 4096, 32, 16000),
    load(Direction::Write, true, 4096, 1, 4000),
    load(Direction::Write, true, 4096, 32, 16000),
];

/// The measurements that are compared with other guests'.
pub async fn bench(cx: &mut Context<'_>) -> Outcome {
    measure(cx, &mut USUAL.into_iter()).await
}

/// Block sizes from 4 KiB to 1 MiB, 1 to 32 at a time, in order and at random, read and written.
pub async fn all(cx: &mut Context<'_>) -> Outcome {
    let mut loads = (0..60).map(|number| {
        let bytes = 4096 << (number / 12 * 2);
        let depth = [1, 8, 32][number / 4 % 3];
        // A MiB at a time is one buffer each, so not too many of them.
        let depth = if bytes == 1 << 20 { depth.min(8) } else { depth };
        let direction = if number % 2 == 0 { Direction::Read } else { Direction::Write };
        load(direction, number / 2 % 2 == 1, bytes, depth, 2000)
    });
    measure(cx, &mut loads).await
}

async fn measure(cx: &mut Context<'_>, loads: &mut dyn Iterator<Item = Load>) -> Outcome {
    let disk = cx.device().await?;
    let backend = match &*cx.plan.backend {
        // The folder is /local/domain/0/backend/vbd/...
        "" => disk.info().backend_path.split('/').nth(5).unwrap_or("").to_string(),
        name => name.to_string(),
    };
    let mut measured = 0;
    for load in loads.filter(|load| cx.destroy || load.direction == Direction::Read) {
        cx.env.flushed().await;
        cx.env.print(format_args!("blk-bench: begin {load}\n"));
        // An observer has seen it then.
        cx.env.sleep(Duration::from_millis(50)).await;
        one(cx, &*disk, load, &backend).await?;
        measured += 1;
    }
    cx.env.print(format_args!("blk-bench: end\n"));
    let unwritten = if cx.destroy { "" } else { ", none of them writes" };
    Ok(format!("{measured} measurements{unwritten}"))
}

async fn one(cx: &Context<'_>, disk: &dyn Device, load: Load, backend: &str) -> Result<(), Error> {
    let each = (load.bytes / SECTOR) as u64;
    let places = (disk.info().sectors / each).min(cx.plan.bytes / load.bytes as u64);
    if !cx.check(places > 0, format_args!("the disk is too small for {load}")) {
        return Ok(());
    }
    let count = match load.random {
        true => load.count.min((cx.plan.bytes / load.bytes as u64).max(64)),
        false => load.count.min(places),
    };
    let (next, random, latencies) =
        (Cell::new(0), RefCell::new(Random::new(cx.plan.seed)), RefCell::new(Latencies::default()));
    let worker = || async {
        let pages = disk.pages(load.bytes)?;
        while next.get() < count {
            let number = next.replace(next.get() + 1);
            let place = each * if load.random { random.borrow_mut().below(places) } else { number };
            let begun = cx.env.now();
            pages.io(load.direction, place).await?;
            latencies.borrow_mut().add(cx.env.now().since(begun));
        }
        Ok(())
    };
    let (before, begun) = (disk.stats(), cx.env.now());
    let workers = (0..load.depth).map(|_| Box::pin(worker()) as Boxed<'_, _>).collect();
    try_join_all(workers).await?;
    let (after, time) = (disk.stats(), cx.env.now().since(begun));
    let latencies = latencies.borrow();
    let per_second = |amount: u64| Rate { amount, nanos: time.as_nanos() as u64 };
    let hundredths = Hundredths((count * load.bytes as u64 * 100) >> 20);
    let figures: [(&str, &dyn fmt::Display); 12] = [
        ("mib_per_s", &per_second(hundredths.0).hundredths()),
        ("iops", &per_second(count)),
        ("p50_us", &Micros(latencies.per_mille(500))),
        ("p99_us", &Micros(latencies.per_mille(990))),
        ("p999_us", &Micros(latencies.per_mille(999))),
        ("max_us", &Micros(latencies.per_mille(1000))),
        ("mib", &hundredths),
        ("requests_per_s", &per_second(after.requests - before.requests)),
        ("events_received_per_s", &per_second(after.events_received - before.events_received)),
        ("events_sent_per_s", &per_second(after.events_sent - before.events_sent)),
        ("max_in_flight", &after.max_in_flight),
        ("count", &count),
    ];
    let mut json = format!("{{\"test\":\"{load}\",\"backend\":{}", Json(backend));
    for (name, value) in figures {
        push(&mut json, name, value);
    }
    cx.env.print(format_args!(
        "# {json},\"bins\":\"{}\"}}\n{}",
        latencies.bins(),
        latencies.histogram()
    ));
    Ok(())
}

fn push(json: &mut String, name: &str, value: &dyn fmt::Display) {
    // Writing to a string cannot fail.
    let _ = fmt::write(json, format_args!(",\"{name}\":{value}"));
}

/// An amount in some time, shown per second.
struct Rate {
    amount: u64,
    nanos: u64,
}

impl Rate {
    fn per_second(&self) -> u64 {
        (u128::from(self.amount) * 1_000_000_000 / u128::from(self.nanos.max(1))) as u64
    }

    /// The amount was counted in hundredths.
    fn hundredths(self) -> Hundredths {
        Hundredths(self.per_second())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_second().fmt(f)
    }
}

struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn measurements_have_the_names_of_blk_bench() {
        let names: Vec<String> = USUAL.iter().map(ToString::to_string).collect();
        let expected = [
            "seq-write-1m",
            "seq-read-1m",
            "rand-read-4k-qd1",
            "rand-read-4k-qd32",
            "rand-write-4k-qd1",
            "rand-write-4k-qd32",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn rates_are_per_second() {
        let rate = Rate { amount: 100 * 100, nanos: 250_000_000 };
        assert_eq!(
            (rate.to_string(), rate.hundredths().to_string()),
            ("40000".into(), "400.00".into())
        );
    }
}
