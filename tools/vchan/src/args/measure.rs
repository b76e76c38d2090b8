//! `vchan ping` and `vchan bench`.

use super::serve::bytes;
use super::{Dial, after_help};
use clap::Args;
use std::time::Duration;

const PING_EXAMPLES: &str = "  \
  vchan ping 2                             ten round trips, one a second
  vchan ping 2 --count 1000 --interval 0   as fast as they go
  vchan ping 2 --size 4K --json            larger messages; figures for scripts";

const BENCH_EXAMPLES: &str = "  \
  vchan bench 2                            all sizes, with a progress bar
  vchan bench echo --amount 64M            more bytes for each size
  vchan bench 2 --json >figures.json       for scripts

The server must send back what it gets; one that capitalizes letters is fine, since none are sent in lower case.";

/// The arguments of `vchan ping`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(PING_EXAMPLES))]
pub struct PingArguments {
    /// The echo server; its timeout is also that of each echo.
    #[command(flatten)]
    pub dial: Dial,

    /// Number of round trips.
    #[arg(short, long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    /// Seconds from one to the next.
    #[arg(short, long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    pub interval: Duration,

    /// Bytes of each message.
    #[arg(short, long, value_name = "BYTES", default_value = "64", value_parser = some_bytes)]
    pub size: usize,

    /// Print JSON: one object.
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `vchan bench`.
#[derive(Args, Clone, Debug)]
#[command(after_help = after_help(BENCH_EXAMPLES))]
pub struct BenchArguments {
    /// The echo server; its timeout is also that of each measurement, should nothing come back.
    #[command(flatten)]
    pub dial: Dial,

    /// Bytes to send for each size of messages, rounded up to whole ones.
    #[arg(long, value_name = "BYTES", default_value = "4M", value_parser = some_bytes)]
    pub amount: usize,

    /// Number of round trips.
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub round_trips: u32,

    /// Print JSON: one object.
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "no number of seconds, as 1 or 0.2".to_string())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// The most that is sent or kept at once.
const MOST: usize = 1 << 30;

fn some_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        size @ 1..=MOST => Ok(size),
        _ => Err("1 to 1024M bytes can be sent".into()),
    }
}
