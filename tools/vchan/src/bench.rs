//! `vchan bench`.

use crate::connect::dial;
use crate::echo::Echo;
use crate::json::Json;
use crate::times::Times;
use crate::{BenchArguments, Failure};
use std::time::Duration;
use tools_common::Progress;
use xen_platform::Platform;
use xen_store::Store;
use xen_vchan::Connection;

/// The sizes of messages whose throughput is measured, in bytes.
const SIZES: [usize; 5] = [64, 1 << 10, 4 << 10, 64 << 10, 1 << 20];

/// Bytes of the message whose round-trip time is measured.
const ROUND_TRIP: usize = 64;

/// Measures throughput for each size of messages, with the echo of one message under way while the
/// next is sent; and then the time of round trips, one after another. Every byte of the echo is
/// checked. Gives the figures as text or JSON.
pub async fn bench<P: Platform>(
    platform: &P,
    store: &Store,
    args: &BenchArguments,
    progress: &mut impl Progress,
) -> Result<String, Failure> {
    let begun = platform.now();
    let connection = dial(platform, store, &args.dial).await?;
    let setup = platform.now().since(begun);
    let figures = measure(platform, &connection, args, progress).await;
    progress.end();
    let closed = connection.close().await;
    let figures = Figures { setup, ..figures? };
    closed?;
    match args.json {
        true => Ok(format!("{}\n", figures.to_json())),
        false => Ok(figures.to_text()),
    }
}

/// One size of messages.
struct Throughput {
    size: usize,
    count: u64,
    time: Duration,
}

struct Figures {
    /// Bytes of the two rings.
    rings: (u32, u32),
    /// Time from the first look for the server until the channel is there.
    setup: Duration,
    throughput: Vec<Throughput>,
    times: Times,
}

async fn measure<P: Platform>(
    platform: &P,
    connection: &Connection<P>,
    args: &BenchArguments,
    progress: &mut impl Progress,
) -> Result<Figures, Failure> {
    let mut echo = Echo::new(platform, connection, args.dial.timeout());
    let mut throughput = Vec::new();
    for size in SIZES {
        let count = args.amount.div_ceil(size) as u64;
        progress.begin(&format!("messages of {}", named(size)), count * size as u64);
        let start = platform.now();
        echo.stream(size, count, |bytes| progress.done(bytes)).await?;
        throughput.push(Throughput { size, count, time: platform.now().since(start) });
    }
    progress.begin(&format!("round trips of {}", named(ROUND_TRIP)), args.round_trips.into());
    let mut times = Vec::new();
    for n in 1..=args.round_trips {
        let start = platform.now();
        echo.stream(ROUND_TRIP, 1, |_| {}).await?;
        times.push(platform.now().since(start));
        // Between two of them, and not each time: it is a part of what is measured.
        if n % 64 == 0 || n == args.round_trips {
            progress.done(n.into());
        }
    }
    let orders = connection.info().orders;
    Ok(Figures {
        rings: (orders.left().bytes(), orders.right().bytes()),
        setup: Duration::ZERO,
        throughput,
        times: Times::new(times),
    })
}

impl Throughput {
    fn bytes(&self) -> u64 {
        self.size as u64 * self.count
    }

    /// MiB a second, in one direction.
    fn mib_per_second(&self) -> f64 {
        self.bytes() as f64 / f64::from(1 << 20) / self.time.as_secs_f64()
    }

    fn messages_per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    fn to_json(&self) -> Json {
        Json::Object(vec![
            ("size", (self.size as u64).into()),
            ("messages", self.count.into()),
            ("bytes", self.bytes().into()),
            ("seconds", Json::Fraction(self.time.as_secs_f64())),
            ("mib_per_second", Json::Fraction(self.mib_per_second())),
            ("messages_per_second", Json::Fraction(self.messages_per_second())),
        ])
    }
}

impl Figures {
    fn to_json(&self) -> Json {
        Json::Object(vec![
            ("left", self.rings.0.into()),
            ("right", self.rings.1.into()),
            ("setup_us", Json::Fraction(self.setup.as_secs_f64() * 1e6)),
            ("throughput", Json::List(self.throughput.iter().map(Throughput::to_json).collect())),
            ("rtt", self.times.to_json()),
        ])
    }

    fn to_text(&self) -> String {
        let mut lines = vec![
            format!(
                "Echo through rings of {} and {} bytes, every byte checked",
                self.rings.0, self.rings.1
            ),
            format!("{:>8} {:>10} {:>12} {:>14}", "message", "messages", "MiB/s", "messages/s"),
        ];
        for of in &self.throughput {
            let (mib, messages) = (of.mib_per_second(), of.messages_per_second());
            lines.push(format!(
                "{:>8} {:>10} {mib:>12.2} {messages:>14.0}",
                named(of.size),
                of.count
            ));
        }
        lines.push(format!("Round trips of {}: {}", named(ROUND_TRIP), self.times.summary()));
        format!("{}\n{}", lines.join("\n"), self.times.histogram())
    }
}

/// A size as people write it.
fn named(size: usize) -> String {
    match size {
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size >= 1 << 10 => format!("{} KiB", size >> 10),
        size => format!("{size} B"),
    }
}
