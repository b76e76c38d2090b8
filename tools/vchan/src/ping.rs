//! `vchan ping`.

use crate::connect::dial;
use crate::echo::Echo;
use crate::json::Json;
use crate::times::{Times, micros};
use crate::{Failure, PingArguments};
use xen_platform::{Platform, sleep};
use xen_store::Store;
use xen_vchan::Connection;

/// Sends messages and takes the echo of each before the next. `print` gets what goes to standard
/// output, a line or more at a time. Fails at the first echo that is wrong or does not come.
pub async fn ping<P: Platform>(
    platform: &P,
    store: &Store,
    args: &PingArguments,
    mut print: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let connection = dial(platform, store, &args.dial).await?;
    let times = rounds(platform, &connection, args, &mut print).await;
    let closed = connection.close().await;
    let times = times?;
    closed?;
    match args.json {
        true => print(&format!(
            "{}\n",
            Json::Object(vec![("bytes", (args.size as u64).into()), ("rtt", times.to_json())])
        )),
        false => print(&format!(
            "{} round trips of {} bytes: {}\n",
            args.count,
            args.size,
            times.summary()
        )),
    }
}

async fn rounds<P: Platform>(
    platform: &P,
    connection: &Connection<P>,
    args: &PingArguments,
    print: &mut impl FnMut(&str) -> Result<(), Failure>,
) -> Result<Times, Failure> {
    let peer = connection.info().peer;
    let mut echo = Echo::new(platform, connection, args.dial.timeout());
    let mut times = Vec::new();
    for n in 1..=args.count {
        let start = platform.now();
        echo.stream(args.size, 1, |_| {}).await?;
        let time = platform.now().since(start);
        times.push(time);
        if !args.json {
            print(&format!(
                "{} bytes from domain {peer}: seq={n} time={:.1} µs\n",
                args.size,
                micros(time)
            ))?;
        }
        if n < args.count && !args.interval.is_zero() {
            sleep(platform, args.interval).await;
        }
    }
    Ok(Times::new(times))
}
